//! Whole frames, read in place: header, metadata, body.

use core::fmt;

use crate::{
    Checksum, DecodeError, Dialect, Header, Hybrid, KvView, Metadata, Mode, PayloadType, checksum, dialect,
    metadata::Undecided,
};

#[cfg(feature = "zstd")]
use crate::KvHeader;

/// The part of a frame in front of its body: header, metadata and dialect.
///
/// A receiver can route, refuse or make room by it before the body has arrived.
///
/// # Examples
///
/// ```
/// use avp_core::FrameHead;
///
/// let head = FrameHead::decode(b"AV\x01\0\x09\0\0\0\x03\0\0\0\x1a\x01bpart of a body, and")?;
/// assert_eq!(head.metadata().target_agent_id, "b");
/// assert_eq!(head.header().body_len(), 6);
/// # Ok::<(), avp_core::DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameHead<'a> {
    header: Header,
    metadata: Metadata<'a>,
    dialect: Option<Dialect>,
}

impl<'a> FrameHead<'a> {
    /// Reads header and metadata from the start of `bytes`; whatever follows is not looked at.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] says how many bytes are needed; every other error is final, however many bytes
    /// follow.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let header = Header::decode(bytes)?;
        let needed = addressable(&header, Header::LEN as u64 + u64::from(header.metadata_len()))?;
        let Some(metadata) = bytes.get(Header::LEN..needed) else {
            return Err(DecodeError::Truncated { what: "metadata", offset: bytes.len(), needed });
        };
        let read = Undecided::decode(metadata, Header::LEN)?;
        let dialect = dialect::decide(header.flags(), &read)?;
        Ok(Self { header, metadata: read.resolve(dialect)?, dialect })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// The metadata.
    #[must_use]
    pub const fn metadata(&self) -> Metadata<'a> {
        self.metadata
    }

    /// The dialect this frame is in, or `None` where both read it the same.
    #[must_use]
    pub const fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Whether the body is compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.header.flags().is_compressed()
    }

    /// Where the body starts, in bytes from the start of the frame.
    #[must_use]
    pub const fn body_offset(&self) -> usize {
        // `decode` found the metadata in memory, so its end is addressable.
        Header::LEN + self.header.metadata_len() as usize
    }

    /// Length of the whole frame in bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::FrameLength`] where this machine cannot address that many.
    pub fn frame_len(&self) -> Result<usize, DecodeError> {
        addressable(&self.header, self.header.frame_len())
    }
}

/// A whole frame, borrowed.
///
/// # Examples
///
/// ```
/// use avp_core::Frame;
///
/// let frame = Frame::decode(b"AV\x01\0\x09\0\0\0\x03\0\0\0\x1a\x01btensor")?;
/// assert_eq!(frame.metadata().target_agent_id, "b");
/// assert_eq!(frame.payload()?, b"tensor");
/// # Ok::<(), avp_core::DecodeError>(())
/// ```
///
/// # What is checked when
///
/// [`decode`](Self::decode) reads header and metadata and never touches the body, so it takes the same time for any
/// body. [`payload`](Self::payload), and `decompress` with the `zstd` feature, check the checksum; [`body`](Self::body)
/// hands out the bytes as they are.
#[derive(Clone, Copy, PartialEq)]
pub struct Frame<'a> {
    head: FrameHead<'a>,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads `bytes` as exactly one frame, in whichever dialect it is.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] where bytes are missing, [`DecodeError::TrailingBytes`] where some are left over,
    /// and every error of [`FrameHead::decode`].
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::new(FrameHead::decode(bytes)?, bytes)
    }

    /// `bytes` as exactly one frame with this head.
    #[inline]
    pub(crate) fn new(head: FrameHead<'a>, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (frame, rest) = Self::split_first(head, bytes)?;
        if rest.is_empty() {
            return Ok(frame);
        }
        Err(DecodeError::TrailingBytes { what: "frame", offset: bytes.len() - rest.len(), extra: rest.len() })
    }

    /// Reads the frame at the start of `bytes` and returns it with the bytes after it.
    ///
    /// # Errors
    ///
    /// As [`Self::decode`], less [`DecodeError::TrailingBytes`].
    #[inline]
    pub fn decode_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        Self::split_first(FrameHead::decode(bytes)?, bytes)
    }

    #[inline]
    fn split_first(head: FrameHead<'a>, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let needed = head.frame_len()?;
        let Some((frame, rest)) = bytes.split_at_checked(needed) else {
            return Err(DecodeError::Truncated { what: "body", offset: bytes.len(), needed });
        };
        Ok((Self { head, body: &frame[head.body_offset()..] }, rest))
    }

    /// Header, metadata and dialect.
    #[must_use]
    pub const fn head(&self) -> &FrameHead<'a> {
        &self.head
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> Header {
        self.head.header
    }

    /// The metadata.
    #[must_use]
    pub const fn metadata(&self) -> Metadata<'a> {
        self.head.metadata
    }

    /// The dialect this frame is in, or `None` where both read it the same.
    #[must_use]
    pub const fn dialect(&self) -> Option<Dialect> {
        self.head.dialect
    }

    /// Where the body starts, in bytes from the start of the frame.
    #[must_use]
    pub const fn body_offset(&self) -> usize {
        self.head.body_offset()
    }

    /// Whether the body is compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.head.is_compressed()
    }

    /// The body on the wire: possibly compressed, and with an unverified checksum.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The body of an uncompressed frame, its checksum verified where there is one.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Compressed`], or [`DecodeError::ChecksumMismatch`].
    pub fn payload(&self) -> Result<&'a [u8], DecodeError> {
        if self.is_compressed() {
            return Err(DecodeError::Compressed { offset: self.body_offset() });
        }
        self.verify_checksum(self.body)?;
        Ok(self.body)
    }

    /// The uncompressed body, at most `limit` bytes of it, its checksum verified where there is one. Borrowed if the
    /// frame is not compressed. [`DEFAULT_PAYLOAD_LIMIT`](crate::DEFAULT_PAYLOAD_LIMIT) is a limit to start with.
    ///
    /// Only available when `zstd` is enabled.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Decompress`], [`DecodeError::DecompressedTooLarge`] or [`DecodeError::ChecksumMismatch`].
    #[cfg(feature = "zstd")]
    pub fn decompress(&self, limit: usize) -> Result<alloc::borrow::Cow<'a, [u8]>, DecodeError> {
        let payload = self.decompress_unverified(limit)?;
        self.verify_checksum(&payload)?;
        Ok(payload)
    }

    /// Like [`decompress`](Self::decompress), but leaves the checksum to the caller.
    ///
    /// Only available when `zstd` is enabled.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Decompress`] or [`DecodeError::DecompressedTooLarge`].
    #[cfg(feature = "zstd")]
    pub fn decompress_unverified(&self, limit: usize) -> Result<alloc::borrow::Cow<'a, [u8]>, DecodeError> {
        let offset = self.body_offset();
        if !self.is_compressed() {
            // The limit guards what a receiver holds, however it came to be that long.
            return match self.body.len() <= limit {
                true => Ok(self.body.into()),
                false => Err(DecodeError::DecompressedTooLarge { limit, offset }),
            };
        }
        crate::decompress_body(self.body, limit, offset).map(Into::into)
    }

    /// The checksum of the metadata beside that of `payload`, the uncompressed body; `None` where the frame carries
    /// none.
    #[must_use]
    pub fn checksum(&self, payload: &[u8]) -> Option<Checksum> {
        let expected = self.metadata().payload_checksum?;
        Some(Checksum { expected, actual: checksum::crc32(payload) })
    }

    /// Checks `payload`, the uncompressed body, against the frame's checksum; `Ok` where the frame carries none.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ChecksumMismatch`].
    pub fn verify_checksum(&self, payload: &[u8]) -> Result<(), DecodeError> {
        self.checksum(payload).map_or(Ok(()), |checksum| checksum.check(self.body_offset()))
    }

    /// Reads `payload`, this frame's uncompressed body, as a KV-cache; a hybrid frame's cache is its latent chunk.
    ///
    /// # Errors
    ///
    /// [`DecodeError::WrongBody`] where the metadata says the body is something else, and every error of
    /// [`KvView::decode`].
    pub fn kv_cache<'p>(&self, payload: &'p [u8]) -> Result<KvView<'p>, DecodeError> {
        self.check_kv_cache()?;
        KvView::decode(self.tensor(payload)?)
    }

    /// The header of the KV-cache: shape and type, before the rest of a compressed body is unpacked. `limit` is that of
    /// [`decompress_stream`](crate::decompress_stream). `None` for a compressed hybrid body, whose chunks stand before it.
    ///
    /// ```
    /// use avp_core::{Compression, DEFAULT_PAYLOAD_LIMIT, Frame, FrameEncoder, KvDType, KvHeader, Metadata, PayloadType};
    ///
    /// let cache = KvHeader { num_layers: 1, num_kv_heads: 1, head_dim: 2, seq_len: 3, dtype: KvDType::Float32 };
    /// let body = [&cache.encode()[..], &[0; 48]].concat();
    /// let metadata = Metadata { payload_type: PayloadType::KvCache, ..Metadata::default() };
    /// let bytes = FrameEncoder::new(metadata).compression(Compression::Fast).encode(&body)?;
    /// let frame = Frame::decode(&bytes)?;
    /// assert_eq!(frame.kv_header(DEFAULT_PAYLOAD_LIMIT)?, Some(cache));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Only available when `zstd` is enabled.
    ///
    /// # Errors
    ///
    /// Those of [`kv_cache`](Self::kv_cache) and [`decompress_stream`](crate::decompress_stream), as far as the header.
    #[cfg(feature = "zstd")]
    pub fn kv_header(&self, limit: usize) -> Result<Option<KvHeader>, DecodeError> {
        self.check_kv_cache()?;
        if !self.is_compressed() {
            return KvHeader::decode(self.tensor(self.body)?).map(Some);
        }
        if self.head.metadata.mode == Mode::Hybrid {
            return Ok(None);
        }
        let mut start = alloc::vec::Vec::with_capacity(KvHeader::LEN);
        let mut rest = self.body;
        let pull = |buffer: &mut [u8]| {
            let (now, later) = rest.split_at(rest.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            rest = later;
            Ok(now.len())
        };
        let unpacked = crate::decompress_stream(limit, self.body_offset(), pull, |piece| {
            start.extend_from_slice(&piece[..piece.len().min(KvHeader::LEN - start.len())]);
            if start.len() < KvHeader::LEN { Ok(()) } else { Err(Stop::Enough) }
        });
        match unpacked {
            Ok(()) | Err(Stop::Enough) => KvHeader::decode(&start).map(Some),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    fn check_kv_cache(&self) -> Result<(), DecodeError> {
        match self.head.metadata.payload_type {
            PayloadType::KvCache => Ok(()),
            got => Err(DecodeError::WrongBody { expected: "kv_cache", got: got.as_str() }),
        }
    }

    /// Reads `payload`, this frame's uncompressed body, as latent and text chunks.
    ///
    /// # Errors
    ///
    /// [`DecodeError::WrongBody`] where the frame is not hybrid, and every error of [`Hybrid::decode`].
    pub fn hybrid<'p>(&self, payload: &'p [u8]) -> Result<Hybrid<'p>, DecodeError> {
        match self.head.metadata.mode {
            Mode::Hybrid => Hybrid::decode(payload),
            got => Err(DecodeError::WrongBody { expected: "hybrid", got: got.as_str() }),
        }
    }

    /// The tensor bytes of `payload`, this frame's uncompressed body: all of it, or a hybrid frame's latent chunk.
    ///
    /// # Errors
    ///
    /// Those of [`Hybrid::decode`].
    pub fn tensor<'p>(&self, payload: &'p [u8]) -> Result<&'p [u8], DecodeError> {
        match self.head.metadata.mode {
            Mode::Hybrid => Ok(Hybrid::decode(payload)?.latent().unwrap_or_default()),
            Mode::Latent | Mode::Json => Ok(payload),
        }
    }
}

/// Why unpacking ended before the body did.
#[cfg(feature = "zstd")]
enum Stop {
    Enough,
    Fault(DecodeError),
}

#[cfg(feature = "zstd")]
impl From<DecodeError> for Stop {
    fn from(fault: DecodeError) -> Self {
        Self::Fault(fault)
    }
}

// A derived one would print the payload.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("head", &self.head).field("body_len", &self.body.len()).finish()
    }
}

fn addressable(header: &Header, len: u64) -> Result<usize, DecodeError> {
    // Slices are at most `isize::MAX` bytes long.
    match usize::try_from(len) {
        Ok(len) if len <= isize::MAX as usize => Ok(len),
        _ => Err(DecodeError::FrameLength { payload_len: header.payload_len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata `payload_checksum: 0xcbf43926`, body `123456789`.
    const FRAME: &[u8] = b"AV\x01\x00\x0f\0\0\0\x06\0\0\0\x78\xa6\xf2\xd0\xdf\x0c123456789";

    #[test]
    fn head_is_readable_before_the_body_is_there() {
        let head = FrameHead::decode(&FRAME[..18]).unwrap();
        assert_eq!(head.dialect(), Some(Dialect::V0_3));
        assert_eq!((head.body_offset(), head.frame_len()), (18, Ok(27)));
    }

    #[test]
    fn every_truncation_says_how_much_is_missing() {
        for len in 0..FRAME.len() {
            let needed = match len {
                0..12 => 12,
                12..18 => 18,
                _ => 27,
            };
            match Frame::decode(&FRAME[..len]) {
                Err(DecodeError::Truncated { offset, needed: told, .. }) => {
                    assert_eq!((offset, told), (len, needed));
                }
                other => panic!("{len} bytes gave {other:?}"),
            }
        }
    }

    #[test]
    fn bytes_after_the_frame_are_an_error_or_the_next_frame() {
        let mut two = [0; 2 * FRAME.len()];
        two[..FRAME.len()].copy_from_slice(FRAME);
        two[FRAME.len()..].copy_from_slice(FRAME);
        assert_eq!(
            Frame::decode(&two).unwrap_err(),
            DecodeError::TrailingBytes { what: "frame", offset: 27, extra: 27 }
        );
        let (_, rest) = Frame::decode_first(&two).unwrap();
        assert_eq!(Frame::decode(rest).unwrap().body(), b"123456789");
    }

    #[test]
    fn a_changed_body_fails_its_checksum_but_stays_readable() {
        let mut bytes = [0; FRAME.len()];
        bytes.copy_from_slice(FRAME);
        assert_eq!(Frame::decode(&bytes).unwrap().payload(), Ok(&b"123456789"[..]));
        bytes[26] = b'8';
        let frame = Frame::decode(&bytes).unwrap();
        let error = frame.payload().unwrap_err();
        assert_eq!((error.kind(), error.offset()), ("checksum_mismatch", 18));
        assert_eq!(frame.body(), b"123456788");
        assert_eq!(frame.checksum(frame.body()).map(|sum| sum.is_ok()), Some(false));
    }

    #[test]
    fn bodies_of_another_kind_are_refused_by_name() {
        let frame = Frame::decode(FRAME).unwrap();
        assert_eq!(
            frame.kv_cache(frame.body()).unwrap_err(),
            DecodeError::WrongBody { expected: "kv_cache", got: "hidden_state" }
        );
        assert_eq!(
            frame.hybrid(frame.body()).unwrap_err(),
            DecodeError::WrongBody { expected: "hybrid", got: "latent" }
        );
    }
}
