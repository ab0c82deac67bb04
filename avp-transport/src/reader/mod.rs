//! A frame that arrives in pieces: its head first, then its body, checked as it passes.
//!
//! Nothing here reads a socket or keeps a body. Bytes go in; what the caller does with them (memory, a file, another
//! connection) is its own matter, and whether they were right is known at the end.

mod packed;

use avp_core::{DecodeError, Dialect, FrameHead, Header, OwnedMetadata};
use bytes::{Bytes, BytesMut};

pub use packed::verify_packed;

/// The most bytes of metadata where nobody says otherwise: 64 KiB.
pub const DEFAULT_METADATA_LIMIT: usize = 64 << 10;

/// The most bytes of a frame where nobody says otherwise: 1 GiB.
pub const DEFAULT_FRAME_LIMIT: u64 = 1 << 30;

/// How large a frame may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// The most bytes of metadata: [`DEFAULT_METADATA_LIMIT`] unless said otherwise.
    pub metadata: usize,
    /// The most bytes of a frame, head and body: [`DEFAULT_FRAME_LIMIT`] unless said otherwise.
    pub frame: u64,
    /// The most bytes that a compressed body may unpack to: [`avp_core::DEFAULT_PAYLOAD_LIMIT`] unless said otherwise.
    pub unpacked: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            metadata: DEFAULT_METADATA_LIMIT,
            frame: DEFAULT_FRAME_LIMIT,
            unpacked: avp_core::DEFAULT_PAYLOAD_LIMIT,
        }
    }
}

/// Why bytes that arrive are no frame to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes are no frame, or not the one that their head announces.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The metadata is longer than the receiver takes.
    #[error("metadata of {got} bytes is more than the limit of {limit}")]
    MetadataTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// The length that the header announces, in bytes.
        got: u32,
    },
    /// The frame is longer than the receiver takes.
    #[error("a frame of {got} bytes is more than the limit of {limit}")]
    FrameTooLarge {
        /// The limit, in bytes.
        limit: u64,
        /// The length that the header announces, in bytes.
        got: u64,
    },
}

impl FrameError {
    /// A stable name for programs to match on, such as `"frame_too_large"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Decode(error) => error.kind(),
            Self::MetadataTooLarge { .. } => "metadata_too_large",
            Self::FrameTooLarge { .. } => "frame_too_large",
        }
    }
}

/// Collects a frame's head.
///
/// ```
/// # use avp_core::{FrameEncoder, MetadataFields};
/// # use avp_transport::reader::{FrameLimits, HeadReader};
/// # let frame = FrameEncoder::new(MetadataFields { session_id: "s1", ..Default::default() }).encode(b"tensor").unwrap();
/// let mut reader = HeadReader::new(FrameLimits::default());
/// assert!(reader.feed(frame[..7].to_vec().into()).unwrap().is_none());
/// let (head, rest) = reader.feed(frame[7..].to_vec().into()).unwrap().unwrap();
/// assert_eq!((head.metadata().session_id(), &rest[..]), ("s1", &b"tensor"[..]));
/// ```
#[derive(Debug)]
pub struct HeadReader {
    limits: FrameLimits,
    buffer: BytesMut,
}

impl HeadReader {
    /// A reader that has seen nothing yet.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, buffer: BytesMut::new() }
    }

    /// Takes bytes that have arrived. Once the head is whole it comes back, with what of these bytes lies behind it.
    ///
    /// # Errors
    /// As soon as no bytes that follow could make a frame of these; afterwards the reader is of no more use.
    pub fn feed(&mut self, bytes: Bytes) -> Result<Option<(Head, Bytes)>, FrameError> {
        // Most often the head comes whole, and then what follows it need not be copied.
        let (all, buffered) = match self.buffer.is_empty() {
            true => (&bytes[..], 0),
            false => {
                let before = self.buffer.len();
                let wanted = Header::LEN.saturating_add(self.limits.metadata).saturating_sub(before);
                self.buffer.extend_from_slice(&bytes[..bytes.len().min(wanted)]);
                (&self.buffer[..], before)
            }
        };
        match read_head(all, self.limits)? {
            Some(head) => {
                let rest = bytes.slice(head.bytes.len() - buffered..);
                Ok(Some((head, rest)))
            }
            None => {
                if buffered == 0 {
                    self.buffer.extend_from_slice(&bytes);
                }
                Ok(None)
            }
        }
    }

    /// Says that no more bytes follow.
    ///
    /// # Errors
    /// Always: the head is not whole.
    pub fn finish(&self) -> DecodeError {
        match FrameHead::decode(&self.buffer) {
            Err(error) => error,
            Ok(_) => DecodeError::Truncated { what: "header", offset: 0, needed: Header::LEN },
        }
    }
}

fn read_head(bytes: &[u8], limits: FrameLimits) -> Result<Option<Head>, FrameError> {
    let header = match Header::decode(bytes) {
        Ok(header) => header,
        Err(DecodeError::Truncated { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The limits come first: nobody waits for metadata that will not be taken.
    if header.metadata_len() as usize > limits.metadata {
        return Err(FrameError::MetadataTooLarge { limit: limits.metadata, got: header.metadata_len() });
    }
    if header.frame_len() > limits.frame {
        return Err(FrameError::FrameTooLarge { limit: limits.frame, got: header.frame_len() });
    }
    match FrameHead::decode(bytes) {
        Ok(head) => Ok(Some(Head {
            bytes: Bytes::copy_from_slice(&bytes[..head.body_offset()]),
            header,
            metadata: OwnedMetadata::from_head(&head)?,
        })),
        Err(DecodeError::Truncated { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Header and metadata of a frame whose body may still be on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    bytes: Bytes,
    header: Header,
    metadata: OwnedMetadata,
}

impl Head {
    /// The header.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// The metadata.
    #[must_use]
    pub const fn metadata(&self) -> &OwnedMetadata {
        &self.metadata
    }

    /// The dialect of the frame, or `None` where both read it the same.
    #[must_use]
    pub const fn dialect(&self) -> Option<Dialect> {
        self.metadata.dialect()
    }

    /// Header and metadata as they came.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length of the whole frame, in bytes.
    #[must_use]
    pub const fn frame_len(&self) -> u64 {
        self.header.frame_len()
    }

    /// Length of the body as it is on the wire, in bytes.
    #[must_use]
    pub fn body_len(&self) -> u64 {
        self.header.frame_len() - self.bytes.len() as u64
    }

    /// Whether the body is compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.header.flags().is_compressed()
    }
}

/// Checks a body as its bytes pass: that it is as long as the head says, and has the checksum that the metadata names.
///
/// A compressed body's checksum is that of what it unpacks to: see [`verify_packed`].
///
/// ```
/// # use avp_core::{FrameEncoder, MetadataFields};
/// # use avp_transport::reader::{BodyReader, FrameLimits, HeadReader};
/// # let frame = FrameEncoder::new(MetadataFields::default()).encode(b"tensor").unwrap();
/// # let (head, _) = HeadReader::new(FrameLimits::default()).feed(frame.into()).unwrap().unwrap();
/// let mut body = BodyReader::new(&head);
/// body.feed(b"ten")?;
/// assert_eq!(body.missing(), 3);
/// body.feed(b"sor")?;
/// assert_eq!(body.finish()?, avp_core::crc32(b"tensor"));
/// # Ok::<(), avp_core::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BodyReader {
    body_offset: usize,
    missing: u64,
    len: u64,
    /// What the sum of these very bytes must be; `None` where nobody said, or it is that of other bytes.
    expected: Option<u32>,
    sum: crc32fast::Hasher,
}

impl BodyReader {
    /// A reader for the body that follows `head`.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        let len = head.body_len();
        Self {
            body_offset: head.bytes().len(),
            missing: len,
            len,
            expected: head.metadata().payload_checksum().filter(|_| !head.is_compressed()),
            sum: crc32fast::Hasher::new(),
        }
    }

    /// How many bytes of the body have not passed yet.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// Looks at the next bytes of the body.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] where they are more than the head says.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        match self.missing.checked_sub(bytes.len() as u64) {
            Some(missing) => {
                self.missing = missing;
                self.sum.update(bytes);
                Ok(())
            }
            None => Err(DecodeError::TrailingBytes {
                what: "frame",
                offset: self.place(self.len),
                extra: bytes.len() - self.missing as usize,
            }),
        }
    }

    /// Says that no more bytes follow, and gives the CRC-32 of the body as it was on the wire.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::ChecksumMismatch`].
    pub fn finish(self) -> Result<u32, DecodeError> {
        if self.missing > 0 {
            let offset = self.place(self.len - self.missing);
            return Err(DecodeError::Truncated { what: "body", offset, needed: self.place(self.len) });
        }
        let actual = self.sum.finalize();
        match self.expected {
            Some(expected) if expected != actual => {
                Err(DecodeError::ChecksumMismatch { expected, actual, offset: self.body_offset })
            }
            _ => Ok(actual),
        }
    }

    fn place(&self, in_body: u64) -> usize {
        usize::try_from(in_body).unwrap_or(usize::MAX).saturating_add(self.body_offset)
    }
}

#[cfg(test)]
mod tests {
    use avp_core::{Compression, FrameEncoder, MetadataFields};

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let fields = MetadataFields { session_id: "s1", model_id: "m", ..Default::default() };
        FrameEncoder::new(fields).encode(body).unwrap()
    }

    /// The head, and what follows it, of bytes that come in pieces of `piece`.
    fn read(bytes: &[u8], piece: usize, limits: FrameLimits) -> Result<Option<(Head, Vec<u8>)>, FrameError> {
        let mut reader = HeadReader::new(limits);
        let mut pieces = bytes.chunks(piece).map(Bytes::copy_from_slice);
        while let Some(piece) = pieces.next() {
            if let Some((head, rest)) = reader.feed(piece)? {
                return Ok(Some((
                    head,
                    pieces.fold(rest.to_vec(), |all, piece| [all, piece.to_vec()].concat()),
                )));
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
        assert_eq!((head.frame_len(), head.body_len()), (frame.len() as u64, 17));
        assert_eq!([head.bytes(), &rest[..]].concat(), frame);
    }

    #[test]
    fn limits_are_told_by_the_header_alone() {
        let frame = frame(b"some tensor bytes");
        let tight = FrameLimits { metadata: 3, ..Default::default() };
        assert_eq!(read(&frame[..12], 5, tight).unwrap_err().kind(), "metadata_too_large");
        let tight = FrameLimits { frame: frame.len() as u64 - 1, ..Default::default() };
        let error = read(&frame[..12], 12, tight).unwrap_err();
        assert_eq!(
            error,
            FrameError::FrameTooLarge { limit: frame.len() as u64 - 1, got: frame.len() as u64 }
        );
        let exact = FrameLimits { frame: frame.len() as u64, ..Default::default() };
        assert!(read(&frame, 12, exact).unwrap().is_some());
    }

    #[test]
    fn what_is_no_frame_is_refused_at_its_second_byte() {
        let mut reader = HeadReader::new(FrameLimits::default());
        let feed = reader.feed(Bytes::from_static(b"GET / HTTP/1.1\r\n"));
        assert_eq!(feed.unwrap_err().kind(), "bad_magic");
    }

    #[test]
    fn a_body_of_another_length_or_content_is_refused_by_its_place() {
        let frame = frame(b"tensor");
        let (head, body) = read(&frame, frame.len(), FrameLimits::default()).unwrap().unwrap();
        let mut short = BodyReader::new(&head);
        short.feed(&body[..5]).unwrap();
        let error = short.finish().unwrap_err();
        assert_eq!((error.kind(), error.offset()), ("truncated", frame.len() - 1));
        let mut long = BodyReader::new(&head);
        long.feed(&body).unwrap();
        let error = long.feed(b"!").unwrap_err();
        assert_eq!((error.kind(), error.offset()), ("trailing_bytes", frame.len()));
        let mut other = BodyReader::new(&head);
        other.feed(b"tensOr").unwrap();
        assert_eq!(other.finish().unwrap_err().kind(), "checksum_mismatch");
    }

    #[test]
    fn a_head_that_never_ends_says_how_much_is_missing() {
        let frame = frame(b"tensor");
        let mut reader = HeadReader::new(FrameLimits::default());
        assert!(reader.feed(Bytes::copy_from_slice(&frame[..14])).unwrap().is_none());
        assert!(matches!(reader.finish(), DecodeError::Truncated { offset: 14, .. }));
    }

    #[test]
    fn a_packed_body_that_claims_more_than_the_limit_is_refused_by_its_claim() {
        let encoder = FrameEncoder::new(MetadataFields::default()).compression(Compression::Fast);
        let frame = encoder.encode(&[7; 90]).unwrap();
        let (head, mut packed) = read(&frame, frame.len(), FrameLimits::default()).unwrap().unwrap();
        assert_eq!(verify_packed(&head, &packed[..], 90), Ok(()));
        // The content size, eight bytes behind magic, descriptor and window (RFC 8878, 3.1.1.1).
        packed[6 + 3] = 1;
        let error = verify_packed(&head, &packed[..], 1 << 20).unwrap_err();
        assert_eq!(error.kind(), "decompressed_too_large");
    }

    #[test]
    fn a_packed_body_is_verified_by_what_it_unpacks_to() {
        let body = vec![7; 300_000];
        let encoder = FrameEncoder::new(MetadataFields::default()).compression(Compression::Fast);
        let mut frame = encoder.encode(&body).unwrap();
        let (head, packed) = read(&frame, frame.len(), FrameLimits::default()).unwrap().unwrap();
        let mut reader = BodyReader::new(&head);
        reader.feed(&packed).unwrap();
        assert_eq!(reader.finish(), Ok(avp_core::crc32(&packed)));
        assert_eq!(verify_packed(&head, &packed[..], 300_000), Ok(()));
        let error = verify_packed(&head, &packed[..], 299_999).unwrap_err();
        assert_eq!(error.kind(), "decompressed_too_large");
        // A byte of the checksum in the metadata: the body is sound, but another one's.
        let sum = avp_core::crc32(&body).to_le_bytes()[0] & 0x7f;
        let place = frame[12..head.bytes().len()].iter().rposition(|byte| byte & 0x7f == sum).unwrap();
        frame[12 + place] ^= 1;
        let (head, packed) = read(&frame, frame.len(), FrameLimits::default()).unwrap().unwrap();
        assert_eq!(verify_packed(&head, &packed[..], 300_000).unwrap_err().kind(), "checksum_mismatch");
        assert_eq!(verify_packed(&head, &packed[..20], 300_000).unwrap_err().kind(), "bad_compression");
    }
}
