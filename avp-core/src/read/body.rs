//! The body of a frame that arrives in pieces.

use crate::{Checksum, DecodeError, FrameHead};

/// Checks the length and the checksum of a body as its bytes pass.
///
/// # Examples
///
/// ```
/// use avp_core::{BodyReader, FrameHead};
///
/// let head = FrameHead::decode(b"AV\x01\0\x0c\0\0\0\x06\0\0\0\x78\x88\xce\x8c\x8c\x0a")?;
/// let mut body = BodyReader::new(&head);
/// body.feed(b"ten")?;
/// assert_eq!(body.missing(), 3);
/// body.feed(b"sor")?;
/// assert_eq!(body.finish()?, avp_core::crc32(b"tensor"));
/// # Ok::<(), avp_core::DecodeError>(())
/// ```
///
/// The checksum of a compressed body is that of the decompressed bytes: `verify_compressed` checks it.
#[derive(Debug, Clone)]
pub struct BodyReader {
    body_offset: usize,
    missing: u64,
    len: u64,
    /// The checksum that these bytes must have; `None` if the frame carries none, or that of other bytes.
    expected: Option<u32>,
    sum: crc32fast::Hasher,
}

impl BodyReader {
    /// A reader for the body after `head`.
    #[must_use]
    pub fn new(head: &FrameHead<'_>) -> Self {
        let len = head.header().body_len().into();
        Self {
            body_offset: head.body_offset(),
            missing: len,
            len,
            expected: head.metadata().payload_checksum.filter(|_| !head.is_compressed()),
            sum: crc32fast::Hasher::new(),
        }
    }

    /// How many bytes of the body have not passed yet.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TrailingBytes`] if the body is longer than the head says.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        match self.missing.checked_sub(bytes.len() as u64) {
            Some(missing) => {
                self.missing = missing;
                self.sum.update(bytes);
                Ok(())
            }
            None => Err(DecodeError::TrailingBytes {
                what: "frame",
                offset: self.offset_of(self.len),
                extra: bytes.len() - self.missing as usize,
            }),
        }
    }

    /// Ends the body and returns the CRC-32 of its bytes on the wire.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] or [`DecodeError::ChecksumMismatch`].
    pub fn finish(self) -> Result<u32, DecodeError> {
        if self.missing > 0 {
            let (offset, needed) = (self.offset_of(self.len - self.missing), self.offset_of(self.len));
            return Err(DecodeError::Truncated { what: "body", offset, needed });
        }
        let actual = self.sum.finalize();
        if let Some(expected) = self.expected {
            Checksum { expected, actual }.check(self.body_offset)?;
        }
        Ok(actual)
    }

    fn offset_of(&self, in_body: u64) -> usize {
        usize::try_from(in_body).unwrap_or(usize::MAX).saturating_add(self.body_offset)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::{FrameEncoder, Metadata};

    #[test]
    fn a_body_of_another_length_or_content_is_refused_by_its_offset() {
        let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
        let head = FrameHead::decode(&frame).unwrap();
        let mut short = BodyReader::new(&head);
        short.feed(b"tenso").unwrap();
        let error = short.finish().unwrap_err();
        assert_eq!((error.kind(), error.offset()), ("truncated", frame.len() - 1));
        let mut long = BodyReader::new(&head);
        long.feed(b"tensor").unwrap();
        let error = long.feed(b"!").unwrap_err();
        assert_eq!((error.kind(), error.offset()), ("trailing_bytes", frame.len()));
        let mut other = BodyReader::new(&head);
        other.feed(b"tensOr").unwrap();
        assert_eq!(other.finish().unwrap_err().kind(), "checksum_mismatch");
    }
}
