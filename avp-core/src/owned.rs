//! Frames and heads that own their bytes.
//!
//! Both hold bytes that were checked once and are read again for each view. Reading takes the same time for any body.
//! Should the bytes change after the check, as those of a mapped file can, the view is empty instead of a panic.

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
        Frame::decode(&bytes)?;
        Ok(Self { bytes })
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
        Frame::decode(&self.bytes).unwrap_or_else(|_| Frame::empty())
    }

    /// The frame without its body, sharing the same bytes.
    #[must_use]
    pub fn head(&self) -> OwnedHead {
        let len = self.frame().body_offset().min(self.bytes.len());
        OwnedHead { bytes: self.bytes.slice(..len) }
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
        let frame = Frame::decode(&self.bytes)?;
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

    /// A frame that was just checked.
    pub(crate) const fn of_checked(bytes: Bytes) -> Self {
        Self { bytes }
    }
}

impl fmt::Debug for OwnedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame().fmt(f)
    }
}

/// Header and metadata in shared bytes, for a receiver whose body is still arriving.
///
/// # Examples
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedHead};
///
/// let frame = FrameEncoder::new(Metadata { session_id: "s1", ..Metadata::default() }).encode(b"tensor")?;
/// let owned = OwnedHead::decode(&frame.into())?;
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
    /// Reads the head at the start of `bytes` and shares it. Bytes after the head are not looked at.
    ///
    /// # Errors
    ///
    /// Those of [`FrameHead::decode`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let len = FrameHead::decode(bytes)?.body_offset();
        Ok(Self { bytes: bytes.slice(..len) })
    }

    /// A view of the head.
    #[must_use]
    pub fn head(&self) -> FrameHead<'_> {
        FrameHead::decode(&self.bytes).unwrap_or_else(|_| FrameHead::empty())
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> Header {
        Header::decode(&self.bytes).unwrap_or(Header::EMPTY)
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

    /// A head that was just checked.
    pub(crate) const fn of_checked(bytes: Bytes) -> Self {
        Self { bytes }
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
    fn bytes_that_change_after_the_check_give_an_empty_view() {
        let frame = OwnedFrame::of_checked(Bytes::from_static(b"no frame"));
        assert_eq!((frame.frame().body(), frame.frame().metadata()), (&b""[..], Metadata::default()));
        assert_eq!(frame.head().metadata(), Metadata::default());
        assert_eq!(frame.payload(8).unwrap_err().kind(), "bad_magic");
    }

    #[test]
    fn debugging_shows_no_payload() {
        let bytes = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
        let text = format!("{:?}", OwnedFrame::decode(bytes.into()).unwrap());
        assert!(text.contains("body_len: 6") && !text.contains("116, 101"), "{text}");
    }
}
