//! Writing frames, in the dialect that the receiver reads.
//!
//! The bytes are those of the Python peer of that dialect, with one difference: `extra` entries are sorted by key, while
//! the peer's order is not fixed.
//!
//! A frame is planned before it is written: [`Body`] holds its payload's length and checksum, [`Head`] everything in
//! front of it.

mod padding;
mod parts;

use crate::{
    Compression, Dialect, EncodeError, Flags, Header, Metadata, PayloadType, checksum, metadata::Decided,
    parallel, protobuf::Writer,
};
use padding::MAX_PADDING_ENTRY;

pub use padding::PADDING_KEY;

/// Writes frames with given metadata.
///
/// By default in dialect 0.3, with a checksum, uncompressed, on one thread.
///
/// # Examples
///
/// ```
/// use avp_core::{FrameEncoder, Metadata};
///
/// let encoder = FrameEncoder::new(Metadata { session_id: "s1", ..Metadata::default() });
/// let mut buffer = [0; 64];
/// let len = encoder.encode_into(b"tensor", &mut buffer)?;
/// assert_eq!(buffer[len - 6..len], *b"tensor");
/// # Ok::<(), avp_core::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameEncoder<'a> {
    metadata: Metadata<'a>,
    dialect: Dialect,
    checksum: Option<bool>,
    alignment: usize,
    threads: usize,
    compression: Compression,
}

impl<'a> FrameEncoder<'a> {
    /// An encoder for frames with this metadata. Its [`payload_checksum`](Metadata::payload_checksum) is not taken: each
    /// frame gets the one of its payload.
    #[must_use]
    pub const fn new(metadata: Metadata<'a>) -> Self {
        Self {
            metadata,
            dialect: Dialect::V0_3,
            checksum: None,
            alignment: 1,
            threads: 1,
            compression: Compression::None,
        }
    }

    /// Writes this dialect. [`Dialect::from_avp_version`] gives the dialect that a peer reads.
    #[must_use]
    pub const fn dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Writes a checksum or leaves it out. By default it is written if the dialect has one; asking for one in a dialect
    /// without is an error when encoding.
    #[must_use]
    pub const fn checksum(self, checksum: bool) -> Self {
        Self { checksum: Some(checksum), ..self }
    }

    /// Pads the metadata so that the first tensor byte lies at a multiple of `alignment` bytes in the frame, a power of
    /// two up to 4096; 64 suits SIMD and GPUs. A receiver that reads the frame into an aligned buffer can then use the
    /// tensors in place.
    ///
    /// The first tensor byte is that of the payload, of a KV-cache behind its header, or of a hybrid payload's latent
    /// chunk (if the payload comes in one part). The padding is an `extra` entry [`PADDING_KEY`] that holds spaces; peers
    /// read such frames like any others. A compressed frame is not padded.
    #[must_use]
    pub const fn align(self, alignment: usize) -> Self {
        Self { alignment, ..self }
    }

    /// Copies and sums payloads of 8 MiB and more on up to this many threads, the caller's among them, which end before
    /// a call returns. One by default; `copy_threads` gives the number that a copy is worth on this machine. Without
    /// `std` there is only the caller's.
    #[must_use]
    pub const fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Compresses the body with zstd. [`Compression::effective_level`] returns the level that this build writes for it.
    ///
    /// Only available when `zstd` is enabled.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub const fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// The greatest length, in bytes, of a frame with an uncompressed payload of `payload_len` bytes. A compressed
    /// frame's length is known only once it is written: see `encode`.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`] or [`EncodeError::TooLarge`].
    pub fn encoded_len(&self, payload_len: usize) -> Result<usize, EncodeError> {
        // The lengths of checksum and padding depend on the payload, so the longest are assumed.
        let body = Body { crc32: u32::MAX, len: payload_len, tensor_offset: None, is_compressed: false };
        let head = self.head(&body)?;
        let padding = if self.alignment > 1 { MAX_PADDING_ENTRY + 2 * self.alignment } else { 0 };
        head.len()
            .checked_add(padding)
            .and_then(|head| head.checked_add(payload_len))
            .ok_or(EncodeError::TooLarge { what: "payload", len: payload_len })
    }

    /// Writes a frame with this payload to the start of `out` and returns its length in bytes.
    ///
    /// A payload of 8 MiB or more is copied and summed in one pass if `out` has room for [`encoded_len`] bytes, which a
    /// frame may take.
    ///
    /// [`encoded_len`]: Self::encoded_len
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`], [`EncodeError::TooLarge`] or [`EncodeError::BufferTooSmall`].
    pub fn encode_into(&self, payload: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
        #[cfg(feature = "zstd")]
        if self.compression != Compression::None {
            let packed = crate::compress_body(payload, self.compression);
            return self.write_frame(&self.compressed_body(&[payload], packed.len()), &[&packed], out);
        }
        if payload.len() >= parallel::LARGE && out.len() >= self.encoded_len(payload.len())? {
            return self.write_in_one_pass(checksum::PIECE, &[payload], out);
        }
        self.write_frame(&self.body(&[payload])?, &[payload], out)
    }

    /// Writes only header and metadata of an uncompressed frame whose payload is `parts` joined, to the start of
    /// `out`, and returns their length in bytes. Send them in front of the parts: nothing is copied.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`], [`EncodeError::TooLarge`] or [`EncodeError::BufferTooSmall`].
    pub fn encode_head_into(&self, parts: &[&[u8]], out: &mut [u8]) -> Result<usize, EncodeError> {
        let head = self.head(&self.body(parts)?)?;
        let (needed, got) = (head.len(), out.len());
        head.write(out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed, got })?);
        Ok(needed)
    }

    /// A frame with this payload.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`] or [`EncodeError::TooLarge`].
    #[cfg(feature = "alloc")]
    pub fn encode(&self, payload: &[u8]) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        self.encode_parts(&[payload])
    }

    /// A frame whose payload is `parts` joined, such as a KV-cache's header and tensors.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`] or [`EncodeError::TooLarge`].
    #[cfg(feature = "alloc")]
    pub fn encode_parts(&self, parts: &[&[u8]]) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        #[cfg(feature = "zstd")]
        if self.compression != Compression::None {
            let packed = crate::compression::compress_parts(parts, self.compression);
            return Ok(self.head(&self.compressed_body(parts, packed.len()))?.join(&[&packed]));
        }
        let body = match parts::total_len(parts)? {
            len if len >= parallel::LARGE => {
                let mut frame = alloc::vec![0; self.encoded_len(len)?];
                let len = self.write_in_one_pass(checksum::PIECE, parts, &mut frame)?;
                frame.truncate(len);
                return Ok(frame);
            }
            _ => self.body(parts)?,
        };
        Ok(self.head(&body)?.join(parts))
    }

    /// Header and metadata of an uncompressed frame whose payload is `parts` joined: see
    /// [`encode_head_into`](Self::encode_head_into).
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`] or [`EncodeError::TooLarge`].
    #[cfg(feature = "alloc")]
    pub fn encode_head(&self, parts: &[&[u8]]) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        Ok(self.head(&self.body(parts)?)?.join(&[]))
    }

    /// Header and metadata for a body elsewhere, on disk or in another memory: `body_len` bytes on the wire, whose
    /// payload has this CRC-32. With [`align`](Self::align), the payload's own start counts for a hybrid frame.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// use avp_core::{FrameEncoder, Metadata};
    ///
    /// let encoder = FrameEncoder::new(Metadata::default());
    /// let head = encoder.encode_head_for(6, avp_core::crc32(b"tensor"))?;
    /// assert_eq!([&head, &b"tensor"[..]].concat(), encoder.encode(b"tensor")?);
    /// # Ok::<(), avp_core::EncodeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`] or [`EncodeError::TooLarge`].
    #[cfg(feature = "alloc")]
    pub fn encode_head_for(&self, body_len: usize, crc32: u32) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        let is_compressed = self.compression != Compression::None;
        let tensor_offset = (!is_compressed).then(|| self.tensor_offset(&[]));
        Ok(self.head(&Body { crc32, len: body_len, tensor_offset, is_compressed })?.join(&[]))
    }

    /// The head in front of `body`.
    fn head(&self, body: &Body) -> Result<Head<'_>, EncodeError> {
        let decided = Decided {
            mode: self.mode()?,
            is_compressed: body.is_compressed,
            padding: padding::Padding::Given,
            checksum: self.writes_checksum().then_some(body.crc32),
        };
        let mut head = Head { metadata: &self.metadata, decided, header: Header::EMPTY };
        head.decided.padding = self.padding(&head, body)?;

        let bits = self.dialect.flags(
            self.metadata.mode,
            !self.metadata.avp_map_id.is_empty(),
            self.metadata.payload_type == PayloadType::KvCache,
        );
        let compressed = if body.is_compressed { Flags::COMPRESSED } else { 0 };
        let metadata_len = u32_len("metadata", head.metadata_len())?;
        head.header =
            Header::new(Flags::from_bits(bits | compressed), metadata_len, u32_len("body", body.len)?)
                .filter(|header| usize::try_from(header.frame_len()).is_ok())
                .ok_or(EncodeError::TooLarge { what: "payload", len: body.len })?;
        Ok(head)
    }

    /// The mode's number, if the dialect has everything that is to be written.
    fn mode(&self) -> Result<i32, EncodeError> {
        let lacks = |what| EncodeError::NotInDialect { what, dialect: self.dialect };
        if self.checksum == Some(true) && !self.dialect.has_checksum() {
            return Err(lacks("payload_checksum"));
        }
        if let Some(what) = self.metadata.lacking_in(self.dialect) {
            return Err(lacks(what));
        }
        self.dialect.mode_to_wire(self.metadata.mode).ok_or_else(|| lacks("hybrid mode"))
    }

    fn writes_checksum(&self) -> bool {
        self.checksum.unwrap_or(self.dialect.has_checksum())
    }
}

/// The facts about a body that its head depends on.
struct Body {
    /// CRC-32 of the payload; any number if no checksum is written.
    crc32: u32,
    /// Length on the wire.
    len: usize,
    /// Offset of the first tensor byte; `None` if it cannot be aligned.
    tensor_offset: Option<usize>,
    is_compressed: bool,
}

/// Header and metadata, planned.
struct Head<'m> {
    metadata: &'m Metadata<'m>,
    decided: Decided,
    header: Header,
}

impl Head<'_> {
    fn metadata_len(&self) -> usize {
        let mut counter = Writer::counting();
        self.metadata.write(self.decided, &mut counter);
        counter.len()
    }

    const fn len(&self) -> usize {
        Header::LEN + self.header.metadata_len() as usize
    }

    /// Writes the head to `out`, which is as long.
    fn write(&self, out: &mut [u8]) {
        let mut writer = Writer::new(out);
        writer.raw(&self.header.encode());
        self.metadata.write(self.decided, &mut writer);
    }

    /// The head and, behind it, `parts`.
    #[cfg(feature = "alloc")]
    fn join(&self, parts: &[&[u8]]) -> alloc::vec::Vec<u8> {
        let parts_len: usize = parts.iter().map(|part| part.len()).sum();
        let mut frame = alloc::vec::Vec::with_capacity(self.len() + parts_len);
        frame.resize(self.len(), 0);
        self.write(&mut frame);
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        frame
    }
}

fn u32_len(what: &'static str, len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLarge { what, len })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::{Frame, KvHeader, Mode};

    #[test]
    fn what_a_dialect_lacks_is_refused_by_name() {
        let refused = |fields, dialect| {
            FrameEncoder::new(fields).dialect(dialect).encode_into(b"", &mut [0; 64]).unwrap_err()
        };
        let hybrid = Metadata { mode: Mode::Hybrid, ..Default::default() };
        let confident = Metadata { confidence_score: Some(0.5), ..Default::default() };
        let auto = Metadata { payload_type: PayloadType::Auto, ..Default::default() };
        for (fields, dialect, what) in [
            (hybrid, Dialect::V0_3, "hybrid mode"),
            (confident, Dialect::V0_3, "confidence_score"),
            (auto, Dialect::V0_2, "payload_type auto"),
        ] {
            assert_eq!(refused(fields, dialect), EncodeError::NotInDialect { what, dialect });
        }
        let encoder = FrameEncoder::new(Metadata::default()).dialect(Dialect::V0_2).checksum(true);
        assert_eq!(encoder.encoded_len(0).unwrap_err().kind(), "not_in_dialect");
    }

    #[test]
    fn the_names_of_dialect_0_1_are_not_written() {
        let old = Metadata {
            embedding_dim: 8,
            data_type: "float32",
            agent_id: Some("a"),
            task_id: Some("t"),
            ..Default::default()
        };
        for dialect in [Dialect::V0_2, Dialect::V0_3] {
            let written = |metadata| {
                let mut buffer = [0; 64];
                let len = FrameEncoder::new(metadata).dialect(dialect).encode_into(b"", &mut buffer).unwrap();
                (len, buffer)
            };
            assert_eq!(written(old), written(Metadata::default()));
        }
    }

    #[test]
    fn json_mode_has_another_number_in_each_dialect_and_reads_back_the_same() {
        let encoder = FrameEncoder::new(Metadata { mode: Mode::Json, ..Default::default() });
        for (dialect, number) in [(Dialect::V0_2, 2), (Dialect::V0_3, 1)] {
            let mut buffer = [0; 32];
            let len = encoder.dialect(dialect).checksum(false).encode_into(b"", &mut buffer).unwrap();
            assert_eq!(buffer[12..len], [0x50, number]);
            let frame = Frame::decode(&buffer[..len]).unwrap();
            assert_eq!((frame.metadata().mode, frame.dialect()), (Mode::Json, Some(dialect)));
        }
    }

    #[test]
    fn head_and_parts_are_the_frame() {
        let encoder = FrameEncoder::new(Metadata { model_id: "m", ..Default::default() });
        let (mut whole, mut head) = ([0; 64], [0; 64]);
        let whole_len = encoder.encode_into(b"123456789", &mut whole).unwrap();
        let head_len = encoder.encode_head_into(&[b"1234", b"56789"], &mut head).unwrap();
        assert_eq!(head[..head_len], whole[..head_len]);
        assert_eq!(whole[head_len..whole_len], *b"123456789");
        assert!(encoder.encoded_len(9).unwrap() >= whole_len);
    }

    #[test]
    fn the_first_tensor_byte_lies_where_it_was_asked_for() {
        let cache = KvHeader {
            num_layers: 1,
            num_kv_heads: 1,
            head_dim: 4,
            seq_len: 1,
            dtype: crate::KvDType::Float16,
        };
        let mut kv_body = [0; 33];
        kv_body[..17].copy_from_slice(&cache.encode());
        let mut hybrid_body = [0; 64];
        let chunks = [crate::Chunk::text("text first", 1.0), crate::Chunk::latent(&kv_body, 0.5)];
        let hybrid_len = crate::hybrid::encode_into(&chunks, &mut hybrid_body).unwrap();
        let hidden = (PayloadType::HiddenState, Mode::Latent, &kv_body[..]);
        let kv = (PayloadType::KvCache, Mode::Latent, &kv_body[..]);
        let hybrid = (PayloadType::KvCache, Mode::Hybrid, &hybrid_body[..hybrid_len]);
        let text = "x".repeat(300);
        // Miri is a thousand times slower.
        let step = if cfg!(miri) { 101 } else { 7 };
        for (payload_type, mode, payload) in [hidden, kv, hybrid] {
            for (alignment, text_len) in
                [2, 64, 4096].into_iter().flat_map(|a| (0..300).step_by(step).map(move |t| (a, t)))
            {
                let fields = Metadata {
                    payload_type,
                    mode,
                    session_id: &text[..text_len],
                    extra: (&[("Z", "1"), (PADDING_KEY, "stale"), ("z", "2")]).into(),
                    ..Default::default()
                };
                let mut buffer = [0; 9000];
                let encoder = FrameEncoder::new(fields).dialect(Dialect::V0_2).align(alignment);
                let len = encoder.encode_into(payload, &mut buffer).unwrap();
                assert!(len <= encoder.encoded_len(payload.len()).unwrap());
                let frame = Frame::decode(&buffer[..len]).unwrap();
                let tensors = match frame.kv_cache(frame.body()) {
                    Ok(view) => view.tensors(),
                    Err(_) => frame.body(),
                };
                let offset = tensors.as_ptr().addr() - buffer.as_ptr().addr();
                assert_eq!(offset % alignment, 0, "{payload_type} {mode} {alignment} {text_len}");
                let mut keys = frame.metadata().extra.iter().map(|(key, _)| key);
                assert!(keys.clone().is_sorted() && keys.any(|key| key == "z"));
                assert!(
                    frame.metadata().extra.get(PADDING_KEY).is_none_or(|spaces| spaces.trim().is_empty())
                );
            }
        }
    }

    #[test]
    fn one_pass_writes_the_frame_that_two_write() {
        let kinds = [(PayloadType::HiddenState, Mode::Latent), (PayloadType::KvCache, Mode::Hybrid)];
        let mut lens = [false; 6];
        let step = if cfg!(miri) { 29 } else { 1 };
        for (payload_type, mode) in kinds {
            for first in (0..=u8::MAX).step_by(step) {
                let payload = [&[first][..], &[7; 99]].concat();
                for (alignment, checksum) in [(1, true), (1, false), (64, true), (256, true)] {
                    let fields =
                        Metadata { payload_type, mode, session_id: "0123456789", ..Default::default() };
                    let dialect = if mode == Mode::Hybrid { Dialect::V0_2 } else { Dialect::V0_3 };
                    let encoder = FrameEncoder::new(fields)
                        .dialect(dialect)
                        .checksum(checksum && dialect.has_checksum())
                        .align(alignment);
                    let mut large = std::vec![0xee; encoder.encoded_len(payload.len()).unwrap()];
                    let mut small = large.clone();
                    let parts = [&payload[..40], &payload[40..]];
                    let whole = [&payload[..]];
                    let parts = if mode == Mode::Hybrid { &whole[..] } else { &parts };
                    let large_len = encoder.threads(2).write_in_one_pass(16, parts, &mut large).unwrap();
                    let small_len = encoder.encode_into(&payload, &mut small).unwrap();
                    assert_eq!(large[..large_len], small[..small_len]);
                    lens[(u32::BITS - checksum::crc32(&payload).leading_zeros()).div_ceil(7) as usize] = true;
                }
            }
        }
        // Sums of another length than the assumed one were among them.
        assert!(cfg!(miri) || lens[4] && lens[5]);
    }

    #[test]
    fn alignments_that_are_none_are_refused() {
        let encoder = FrameEncoder::new(Metadata::default());
        for got in [0, 3, 8192] {
            assert_eq!(encoder.align(got).encoded_len(0), Err(EncodeError::Alignment { got }));
        }
    }

    #[test]
    fn a_small_buffer_is_told_the_length_it_lacks() {
        let encoder = FrameEncoder::new(Metadata::default()).checksum(false);
        assert_eq!(
            encoder.encode_into(b"123", &mut [0; 14]),
            Err(EncodeError::BufferTooSmall { needed: 15, got: 14 })
        );
    }
}
