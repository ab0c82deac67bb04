//! Frames and heads that own their bytes.
//!
//! Header and metadata are copied when they are checked, and read again for each view, which takes the same time for any
//! body. So a view stays valid if the shared bytes change later, as those of a mapped file can.

use core::fmt;

use bytes::Bytes;

use crate::{DecodeError, Frame, FrameHead, FrameLimits, Header, Metadata};

/// A whole frame in shared bytes.
///
/// # Examples
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedFrame};
///
/// let bytes = FrameEncoder::new(Metadata { session_id: "s1", ..Metadata::default() }).encode(b"tensor")?;
/// let owned = OwnedFrame::decode(bytes.into())?;
/// assert_eq!(owned.frame().metadata().session_id, "s1");
/// assert_eq!(owned.payload(1 << 20)?, b"tensor"[..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Only available when `alloc` is enabled.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    head: OwnedHead,
    /// Exactly one frame.
    bytes: Bytes,
}

impl OwnedFrame {
    /// Checks that `bytes` are exactly one frame and shares them. The checksum is left to [`payload`](Self::payload).
    ///
    /// # Errors
    ///
    /// Those of [`Frame::decode`].
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let head = OwnedHead::decode(&bytes)?;
        Frame::new(head.head(), &bytes)?;
        Ok(Self { head, bytes })
    }

    /// Like [`decode`](Self::decode), for a frame within `limits`.
    ///
    /// # Errors
    ///
    /// Those of [`Frame::decode`] and of [`FrameLimits::check`].
    pub fn decode_within(bytes: Bytes, limits: &FrameLimits) -> Result<Self, DecodeError> {
        limits.check(&Header::decode(&bytes)?)?;
        Self::decode(bytes)
    }

    /// A view of the frame.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame::new(self.head.head(), &self.bytes).expect("checked when the frame was made")
    }

    /// The frame without its body.
    #[must_use]
    pub const fn head(&self) -> &OwnedHead {
        &self.head
    }

    /// The uncompressed body, of at most `limit` bytes, with its checksum verified if the frame carries one. It shares
    /// the frame's bytes unless it was compressed. [`DEFAULT_PAYLOAD_LIMIT`](crate::DEFAULT_PAYLOAD_LIMIT) is a limit
    /// to start with.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Decompress`], [`DecodeError::DecompressedTooLarge`] or [`DecodeError::ChecksumMismatch`];
    /// [`DecodeError::Compressed`] for a compressed frame when `zstd` is not enabled.
    pub fn payload(&self, limit: usize) -> Result<Bytes, DecodeError> {
        let frame = self.frame();
        let offset = frame.body_offset();
        #[cfg(feature = "zstd")]
        if frame.is_compressed() {
            return frame.decompress(limit).map(|payload| payload.into_owned().into());
        }
        if frame.body().len() > limit {
            return Err(DecodeError::DecompressedTooLarge { limit, offset });
        }
        frame.payload().map(|payload| self.bytes.slice_ref(payload))
    }

    /// The bytes of the frame.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of the frame.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl fmt::Debug for OwnedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame().fmt(f)
    }
}

/// Header and metadata in bytes of their own, for a receiver whose body is still arriving.
///
/// # Examples
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedHead};
///
/// let frame = FrameEncoder::new(Metadata { session_id: "s1", ..Metadata::default() }).encode(b"tensor")?;
/// let owned = OwnedHead::decode(&frame)?;
/// assert_eq!(owned.head().metadata().session_id, "s1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Only available when `alloc` is enabled.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedHead {
    /// Exactly one head.
    bytes: Bytes,
}

impl OwnedHead {
    /// Copies the head at the start of `bytes`. Bytes after the head are not looked at.
    ///
    /// # Errors
    ///
    /// Those of [`FrameHead::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let len = FrameHead::decode(bytes)?.body_offset();
        let bytes = Bytes::copy_from_slice(&bytes[..len]);
        // Another process may have changed a mapped file before it was copied.
        FrameHead::decode(&bytes)?;
        Ok(Self { bytes })
    }

    /// Like [`decode`](Self::decode), for a frame within `limits`.
    pub(crate) fn decode_within(bytes: &[u8], limits: &FrameLimits) -> Result<Self, DecodeError> {
        limits.check(&Header::decode(bytes)?)?;
        Self::decode(bytes)
    }

    /// A view of the head.
    #[must_use]
    pub fn head(&self) -> FrameHead<'_> {
        FrameHead::decode(&self.bytes).expect("checked when the head was made")
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> Header {
        self.head().header()
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        self.head().metadata()
    }

    /// The bytes of header and metadata.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for OwnedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameEncoder;
    use alloc::format;

    #[test]
    fn the_payload_shares_the_frame() {
        let bytes: Bytes = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap().into();
        let payload = OwnedFrame::decode(bytes.clone()).unwrap().payload(6).unwrap();
        assert_eq!(payload.as_ptr(), bytes[bytes.len() - 6..].as_ptr());
    }

    #[test]
    fn a_payload_over_the_limit_or_with_another_checksum_is_refused() {
        let mut bytes = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
        let frame = OwnedFrame::decode(bytes.clone().into()).unwrap();
        assert_eq!(frame.payload(5).unwrap_err().kind(), "decompressed_too_large");
        *bytes.last_mut().unwrap() ^= 1;
        let frame = OwnedFrame::decode(bytes.into()).unwrap();
        assert_eq!(frame.payload(6).unwrap_err().kind(), "checksum_mismatch");
    }

    #[test]
    fn limits_on_frame_and_metadata_hold_to_the_byte() {
        let metadata = Metadata { session_id: "a session", ..Metadata::default() };
        let bytes: Bytes = FrameEncoder::new(metadata).encode(b"tensor").unwrap().into();
        let metadata = Header::decode(&bytes).unwrap().metadata_len() as usize;
        let mut limits = FrameLimits { metadata, frame: bytes.len() as u64, ..FrameLimits::default() };
        let kind = |limits: &FrameLimits| {
            OwnedFrame::decode_within(bytes.clone(), limits).map(drop).map_err(|error| error.kind())
        };
        assert!(kind(&limits).is_ok());
        limits.metadata -= 1;
        assert_eq!(kind(&limits), Err("metadata_too_large"));
        limits.frame -= 1;
        assert_eq!(kind(&limits), Err("frame_too_large"));
    }

    #[test]
    fn views_read_a_copy_of_the_head_that_no_other_process_can_change() {
        let metadata = Metadata { session_id: "s1", ..Metadata::default() };
        let bytes: Bytes = FrameEncoder::new(metadata).encode(b"tensor").unwrap().into();
        let frame = OwnedFrame::decode(bytes.clone()).unwrap();
        for view in [frame.frame().metadata(), frame.head().metadata()] {
            assert_eq!(view.session_id, "s1");
            assert!(!bytes.as_ptr_range().contains(&view.session_id.as_ptr()));
        }
    }

    #[test]
    fn debugging_shows_no_payload() {
        let bytes = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
        let text = format!("{:?}", OwnedFrame::decode(bytes.into()).unwrap());
        assert!(text.contains("body_len: 6") && !text.contains("116, 101"), "{text}");
    }
}
