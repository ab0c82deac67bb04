//! The head of a frame that arrives in pieces.

use crate::{DEFAULT_PAYLOAD_LIMIT, DecodeError, FrameHead, Header};

/// The default limit on metadata: 64 KiB.
pub const DEFAULT_METADATA_LIMIT: usize = 64 << 10;

/// The default limit on a frame: 1 GiB.
pub const DEFAULT_FRAME_LIMIT: u64 = 1 << 30;

/// How large a frame may be.
///
/// # Examples
///
/// ```
/// use avp_core::{FrameHead, FrameLimits};
///
/// let limits = FrameLimits { frame: 1 << 20, ..FrameLimits::default() };
/// let error = FrameHead::decode_within(b"AV\x01\0\xff\xff\xff\xff\0\0\0\0", &limits).unwrap_err();
/// assert_eq!(error.kind(), "frame_too_large");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// The most bytes of metadata; [`DEFAULT_METADATA_LIMIT`] by default.
    pub metadata: usize,
    /// The most bytes of a frame, head and body; [`DEFAULT_FRAME_LIMIT`] by default.
    pub frame: u64,
    /// The most bytes that a compressed body may decompress to; [`DEFAULT_PAYLOAD_LIMIT`] by default. A head does not
    /// show it: pass it to `Frame::decompress`, `OwnedFrame::payload` or `verify_compressed` as their limit.
    pub unpacked: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { metadata: DEFAULT_METADATA_LIMIT, frame: DEFAULT_FRAME_LIMIT, unpacked: DEFAULT_PAYLOAD_LIMIT }
    }
}

impl FrameLimits {
    /// No limits beyond those of the wire format, for frames that were accepted before.
    pub const NONE: Self = Self { metadata: u32::MAX as usize, frame: u64::MAX, unpacked: usize::MAX };

    /// Checks the lengths that a header announces.
    ///
    /// # Errors
    ///
    /// [`DecodeError::MetadataTooLarge`] or [`DecodeError::FrameTooLarge`].
    pub const fn check(&self, header: &Header) -> Result<(), DecodeError> {
        let (metadata, frame) = (header.metadata_len(), header.frame_len());
        if frame > self.frame {
            return Err(DecodeError::FrameTooLarge { limit: self.frame, got: frame });
        }
        if metadata as u64 > self.metadata as u64 {
            return Err(DecodeError::MetadataTooLarge { limit: self.metadata, got: metadata });
        }
        Ok(())
    }
}

impl<'a> FrameHead<'a> {
    /// Like [`decode`](Self::decode), for a frame within `limits`, which are checked as soon as the header is there.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](Self::decode) and of [`FrameLimits::check`].
    pub fn decode_within(bytes: &'a [u8], limits: &FrameLimits) -> Result<Self, DecodeError> {
        // The limits come first: the metadata may be what makes the frame too large.
        limits.check(&Header::decode(bytes)?)?;
        Self::decode(bytes)
    }
}

/// Collects the head of a frame, and is ready for the next frame afterwards.
///
/// # Examples
///
/// ```
/// use avp_core::{FrameEncoder, FrameLimits, HeadReader, Metadata};
///
/// let frame = FrameEncoder::new(Metadata { session_id: "s1", ..Metadata::default() }).encode(b"tensor")?;
/// let mut reader = HeadReader::new(FrameLimits::default());
/// assert!(reader.feed(frame[..7].to_vec().into())?.is_none());
/// let (head, rest) = reader.feed(frame[7..].to_vec().into())?.expect("a whole head");
/// assert_eq!((head.head().metadata().session_id, &rest[..]), ("s1", &b"tensor"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Only available when `alloc` is enabled.
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct HeadReader {
    limits: FrameLimits,
    buffer: bytes::BytesMut,
}

#[cfg(feature = "alloc")]
impl HeadReader {
    /// A reader at the start of a frame.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, buffer: bytes::BytesMut::new() }
    }

    /// Takes bytes that have arrived. Returns the head once it is whole, with the rest of these bytes.
    ///
    /// # Errors
    ///
    /// Those of [`FrameHead::decode_within`] less [`DecodeError::Truncated`], as soon as the bytes that show it are
    /// there. The reader is of no use afterwards.
    pub fn feed(
        &mut self,
        bytes: bytes::Bytes,
    ) -> Result<Option<(crate::OwnedHead, bytes::Bytes)>, DecodeError> {
        // Most heads come whole, and then the bytes after them are not copied.
        let (all, buffered) = if self.buffer.is_empty() {
            (&bytes[..], 0)
        } else {
            let before = self.buffer.len();
            let wanted = Header::LEN.saturating_add(self.limits.metadata).saturating_sub(before);
            self.buffer.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
            (&self.buffer[..], before)
        };
        match crate::OwnedHead::decode_within(all, &self.limits) {
            Ok(head) => {
                self.buffer.clear();
                let rest = bytes.slice(head.bytes().len() - buffered..);
                Ok(Some((head, rest)))
            }
            Err(DecodeError::Truncated { .. }) => {
                if buffered == 0 {
                    self.buffer.extend_from_slice(&bytes);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The error of a stream that ends before the head does.
    #[must_use]
    pub fn finish(&self) -> DecodeError {
        match FrameHead::decode(&self.buffer) {
            Err(error) => error,
            Ok(_) => DecodeError::Truncated { what: "header", offset: 0, needed: Header::LEN },
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::vec::Vec;
    use bytes::Bytes;

    use super::*;
    use crate::{FrameEncoder, Metadata, OwnedHead};

    fn frame(body: &[u8]) -> Vec<u8> {
        FrameEncoder::new(Metadata { session_id: "s1", model_id: "m", ..Metadata::default() })
            .encode(body)
            .expect("a frame")
    }

    /// The head of bytes that come in pieces of `piece`, and the bytes after it.
    fn read(
        bytes: &[u8],
        piece: usize,
        limits: FrameLimits,
    ) -> Result<Option<(OwnedHead, Vec<u8>)>, DecodeError> {
        let mut reader = HeadReader::new(limits);
        let mut pieces = bytes.chunks(piece).map(Bytes::copy_from_slice);
        while let Some(piece) = pieces.next() {
            if let Some((head, rest)) = reader.feed(piece)? {
                let rest = pieces.fold(rest.to_vec(), |all, piece| [all, piece.to_vec()].concat());
                return Ok(Some((head, rest)));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_is_the_same_however_its_bytes_are_cut() {
        let frame = frame(b"some tensor bytes");
        let whole = read(&frame, frame.len(), FrameLimits::default()).unwrap();
        for piece in 1..frame.len() {
            assert_eq!(read(&frame, piece, FrameLimits::default()).unwrap(), whole, "pieces of {piece}");
        }
        let (head, rest) = whole.unwrap();
        assert_eq!((head.head().frame_len(), head.head().header().body_len()), (Ok(frame.len()), 17));
        assert_eq!([head.bytes(), &rest[..]].concat(), frame);
    }

    #[test]
    fn the_next_head_is_read_after_one_in_pieces() {
        let frames = [frame(b""), frame(b""), frame(b"")];
        for piece in 1..=frames[0].len() {
            let mut reader = HeadReader::new(FrameLimits::default());
            let mut heads = Vec::new();
            for bytes in frames.concat().chunks(piece) {
                let mut bytes = Bytes::copy_from_slice(bytes);
                while let Some((head, rest)) = reader.feed(bytes).unwrap() {
                    heads.push(head.bytes().to_vec());
                    bytes = rest;
                }
            }
            assert_eq!(heads, frames, "pieces of {piece}");
        }
    }

    #[test]
    fn limits_are_checked_by_the_header_alone() {
        let frame = frame(b"some tensor bytes");
        let tight = FrameLimits { metadata: 3, ..Default::default() };
        assert_eq!(read(&frame[..12], 5, tight).unwrap_err().kind(), "metadata_too_large");
        let (limit, got) = (frame.len() as u64 - 1, frame.len() as u64);
        let tight = FrameLimits { frame: limit, ..Default::default() };
        assert_eq!(read(&frame[..12], 12, tight).unwrap_err(), DecodeError::FrameTooLarge { limit, got });
        let exact = FrameLimits { frame: got, ..Default::default() };
        assert!(read(&frame, 12, exact).unwrap().is_some());
    }

    #[test]
    fn bytes_of_another_protocol_are_refused_at_the_second() {
        let mut reader = HeadReader::new(FrameLimits::default());
        let error = reader.feed(Bytes::from_static(b"GET / HTTP/1.1\r\n")).unwrap_err();
        assert_eq!(error.kind(), "bad_magic");
    }

    #[test]
    fn a_head_that_never_ends_says_how_much_is_missing() {
        let frame = frame(b"tensor");
        let mut reader = HeadReader::new(FrameLimits::default());
        assert!(reader.feed(Bytes::copy_from_slice(&frame[..14])).unwrap().is_none());
        assert!(matches!(reader.finish(), DecodeError::Truncated { offset: 14, .. }));
    }
}
