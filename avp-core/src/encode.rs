//! Writing frames, in the dialect that the receiver reads.
//!
//! What is written is byte for byte what the Python peer of that dialect writes, with one addition: `extra` entries
//! are sorted by key, where the peer's order is not fixed.

use crate::{
    Compression, DType, Dialect, EncodeError, Flags, Header, Hybrid, KvHeader, Mode, PayloadType, checksum,
    metadata::field,
    parallel::{self, threads_for},
    protobuf::{Writer, map_entry_len},
};

/// The key of the `extra` entry that pads a frame: see [`FrameEncoder::align`].
pub const PADDING_KEY: &str = "_pad";

/// A page; more would be padding for its own sake.
const MAX_ALIGNMENT: usize = 4096;

/// Bytes of a padding entry without its spaces, at most: key and length of entry, key and value.
const MAX_PADDING_ENTRY: usize = 16;

/// The metadata of a frame to be written. Everything has a default; give what you have.
///
/// # Examples
///
/// ```
/// # use avp_core::{MetadataFields, PayloadType};
/// let fields = MetadataFields { session_id: "s1", payload_type: PayloadType::KvCache, ..Default::default() };
/// assert_eq!(fields.model_id, "");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MetadataFields<'a> {
    /// The session this frame belongs to.
    pub session_id: &'a str,
    /// The agent that sends the frame.
    pub source_agent_id: &'a str,
    /// The agent that the frame is for.
    pub target_agent_id: &'a str,
    /// The model that computed the tensors.
    pub model_id: &'a str,
    /// Width of the model's hidden states.
    pub hidden_dim: u32,
    /// Number of the model's layers.
    pub num_layers: u32,
    /// What the tensor bytes are.
    pub payload_type: PayloadType,
    /// Number format of the tensor bytes.
    pub dtype: DType,
    /// Shape of the tensor, outermost axis first.
    pub tensor_shape: &'a [u32],
    /// How the agents talk; [`Mode::Hybrid`] needs dialect 0.2.
    pub mode: Mode,
    /// Confidence, 0 to 1; only dialect 0.2 has it.
    pub confidence_score: Option<f32>,
    /// Id of the projection map that the tensors went through; `""` for none.
    pub avp_map_id: &'a str,
    /// Free key/value pairs. Written sorted by key; of several with one key, the last is written. Sort them yourself
    /// where there are many: unsorted entries cost time in the square of their number.
    pub extra: &'a [(&'a str, &'a str)],
}

/// Writes frames with given metadata.
///
/// By default in dialect 0.3, with a checksum, uncompressed.
///
/// # Examples
///
/// ```
/// # use avp_core::{Dialect, Frame, FrameEncoder, MetadataFields};
/// let encoder = FrameEncoder::new(MetadataFields { session_id: "s1", ..Default::default() });
/// let mut buffer = [0; 64];
/// let len = encoder.encode_into(b"tensor", &mut buffer)?;
/// let frame = Frame::decode(&buffer[..len]).unwrap();
/// assert_eq!((frame.metadata().session_id(), frame.payload().unwrap()), ("s1", &b"tensor"[..]));
/// # Ok::<(), avp_core::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameEncoder<'a> {
    fields: MetadataFields<'a>,
    dialect: Dialect,
    checksum: Option<bool>,
    alignment: usize,
    #[cfg(feature = "zstd")]
    compression: Compression,
}

impl<'a> FrameEncoder<'a> {
    /// An encoder for frames with this metadata.
    #[must_use]
    pub const fn new(fields: MetadataFields<'a>) -> Self {
        Self {
            fields,
            dialect: Dialect::V0_3,
            checksum: None,
            alignment: 1,
            #[cfg(feature = "zstd")]
            compression: Compression::None,
        }
    }

    /// Writes this dialect. [`Dialect::from_avp_version`] says which one a peer reads.
    #[must_use]
    pub const fn dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Writes a checksum or leaves it out. The default is to write one where the dialect has it; asking for one where
    /// it has not is an error when encoding.
    #[must_use]
    pub const fn checksum(self, checksum: bool) -> Self {
        Self { checksum: Some(checksum), ..self }
    }

    /// Pads the metadata so that the first tensor byte lies at a multiple of `alignment` bytes in the frame, a power of
    /// two up to 4096; 64 suits SIMD and GPUs. A receiver that reads the frame into an aligned buffer can then use the
    /// tensors where they lie.
    ///
    /// The first tensor byte is that of the payload, of a KV-cache behind its header, or of a hybrid payload's latent
    /// chunk (where the payload comes in one part). The padding is an `extra` entry called [`PADDING_KEY`] that holds
    /// spaces; peers read such frames like any others. A compressed frame is not padded.
    #[must_use]
    pub const fn align(self, alignment: usize) -> Self {
        Self { alignment, ..self }
    }

    /// Compresses the body with zstd. [`Compression::effective_level`] tells the level that this build has for it.
    ///
    /// Only available when `zstd` is enabled.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub const fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// At most how long, in bytes, a frame with an uncompressed payload of `payload_len` bytes is. A compressed frame's
    /// length is known only once it is written: see `encode`.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`] or [`EncodeError::TooLarge`].
    pub fn encoded_len(&self, payload_len: usize) -> Result<usize, EncodeError> {
        // The lengths of checksum and padding depend on the payload, so the longest are assumed.
        let body =
            Body { sum: u32::MAX, len: payload_len, tensor_offset: None, compression: Compression::None };
        let head = self.write_head(&body, Writer::counting())?;
        let padding = if self.alignment > 1 { MAX_PADDING_ENTRY + 2 * self.alignment } else { 0 };
        head.checked_add(padding)
            .and_then(|head| head.checked_add(payload_len))
            .ok_or(EncodeError::TooLarge { what: "payload", len: payload_len })
    }

    /// Writes a frame with this payload to the start of `out` and returns its length in bytes.
    ///
    /// A payload of 8 MiB or more is summed while it is copied where `out` has room for [`encoded_len`] bytes, which a
    /// frame may take; with `std`, up to four threads share that and end before this returns.
    ///
    /// [`encoded_len`]: Self::encoded_len
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`], [`EncodeError::TooLarge`] or [`EncodeError::BufferTooSmall`].
    pub fn encode_into(&self, payload: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
        #[cfg(feature = "zstd")]
        if self.compression != Compression::None {
            let packed = crate::compression::compress(payload, self.compression);
            return self.write_frame(&self.packed_body(&[payload], packed.len()), &[&packed], out);
        }
        if payload.len() >= parallel::LARGE && out.len() >= self.encoded_len(payload.len())? {
            return self.write_large(threads_for(payload.len()), checksum::PIECE, &[payload], out);
        }
        self.write_frame(&self.body_of(&[payload])?, &[payload], out)
    }

    /// Writes only header and metadata of an uncompressed frame whose payload is `parts` joined, to the start of
    /// `out`, and returns their length in bytes. Send them in front of the parts: nothing is copied.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`], [`EncodeError::TooLarge`] or [`EncodeError::BufferTooSmall`].
    pub fn encode_head_into(&self, parts: &[&[u8]], out: &mut [u8]) -> Result<usize, EncodeError> {
        self.write_head(&self.body_of(parts)?, Writer::new(out))
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
            let packed = crate::compression::compress(&parts.concat(), self.compression);
            return self.collect_frame(&self.packed_body(parts, packed.len()), &[&packed]);
        }
        let len = total_len(parts)?;
        if len >= parallel::LARGE {
            let mut frame = alloc::vec![0; self.encoded_len(len)?];
            let frame_len = self.write_large(threads_for(len), checksum::PIECE, parts, &mut frame)?;
            frame.truncate(frame_len);
            return Ok(frame);
        }
        self.collect_frame(&self.body_of(parts)?, parts)
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
        self.collect_head(&self.body_of(parts)?, 0)
    }

    /// Header and metadata for a body that is elsewhere, on disk or in another memory: `body_len` bytes on the wire,
    /// whose payload has this CRC-32. With [`align`](Self::align), the payload's own start counts for a hybrid frame.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use avp_core::{FrameEncoder, MetadataFields};
    /// let encoder = FrameEncoder::new(MetadataFields::default());
    /// let head = encoder.encode_head_for(6, avp_core::crc32(b"tensor")).unwrap();
    /// assert_eq!([&head, &b"tensor"[..]].concat(), encoder.encode(b"tensor").unwrap());
    /// ```
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotInDialect`] or [`EncodeError::TooLarge`].
    #[cfg(feature = "alloc")]
    pub fn encode_head_for(&self, body_len: usize, crc32: u32) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        #[cfg(feature = "zstd")]
        let compression = self.compression;
        #[cfg(not(feature = "zstd"))]
        let compression = Compression::None;
        let tensor_offset = (compression == Compression::None).then(|| self.tensor_offset(&[]));
        self.collect_head(&Body { sum: crc32, len: body_len, tensor_offset, compression }, 0)
    }

    #[cfg(feature = "alloc")]
    fn collect_head(&self, body: &Body, room: usize) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        let len = self.write_head(body, Writer::counting())?;
        let mut head = alloc::vec::Vec::with_capacity(len + room);
        head.resize(len, 0);
        self.write_head(body, Writer::new(&mut head))?;
        Ok(head)
    }

    #[cfg(feature = "alloc")]
    fn collect_frame(&self, body: &Body, parts: &[&[u8]]) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        let mut frame = self.collect_head(body, body.len)?;
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        Ok(frame)
    }

    fn write_frame(&self, body: &Body, parts: &[&[u8]], out: &mut [u8]) -> Result<usize, EncodeError> {
        let (head_len, got) = (self.write_head(body, Writer::counting())?, out.len());
        let needed = head_len + body.len;
        let Some(frame) = out.get_mut(..needed) else {
            return Err(EncodeError::BufferTooSmall { needed, got });
        };
        let (head, mut rest) = frame.split_at_mut(head_len);
        self.write_head(body, Writer::new(head))?;
        for part in parts {
            let (target, after) = rest.split_at_mut(part.len());
            target.copy_from_slice(part);
            rest = after;
        }
        Ok(needed)
    }

    /// Writes a frame in one pass over its payload, to an `out` of [`encoded_len`](Self::encoded_len) bytes or more.
    ///
    /// The head comes first and holds the sum of what follows, as a varint; its length is known once all is copied. Of
    /// 16 sums 15 are of the length assumed here, and what stands behind another is moved.
    fn write_large(
        &self,
        threads: usize,
        piece: usize,
        parts: &[&[u8]],
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let mut body = Body {
            sum: u32::MAX,
            len: total_len(parts)?,
            tensor_offset: Some(self.tensor_offset(parts)),
            compression: Compression::None,
        };
        let assumed = self.write_head(&body, Writer::counting())?;
        let target = &mut out[assumed..assumed + body.len];
        if self.writes_checksum() {
            body.sum = checksum::copy_parts_summed(threads, piece, parts, target);
        } else {
            checksum::copy_parts(threads, piece, parts, target);
        }
        let head_len = self.write_head(&body, Writer::counting())?;
        if head_len != assumed {
            out.copy_within(assumed..assumed + body.len, head_len);
        }
        self.write_head(&body, Writer::new(&mut out[..head_len]))?;
        Ok(head_len + body.len)
    }

    fn write_head(&self, body: &Body, mut writer: Writer<'_>) -> Result<usize, EncodeError> {
        let fields = &self.fields;
        let mode = self.check_dialect()?;
        let padding = self.padding(mode, body)?;
        let metadata_len = u32_len("metadata", self.metadata_len(mode, body, padding))?;
        let bits = self.dialect.flags(
            fields.mode,
            !fields.avp_map_id.is_empty(),
            fields.payload_type == PayloadType::KvCache,
        );
        let compressed = if body.compression == Compression::None { 0 } else { Flags::COMPRESSED };
        let header =
            Header::new(Flags::from_bits(bits | compressed), metadata_len, u32_len("body", body.len)?)
                .filter(|header| usize::try_from(header.frame_len()).is_ok())
                .ok_or(EncodeError::TooLarge { what: "payload", len: body.len })?;
        writer.raw(&header.encode());
        self.write_metadata(mode, body, padding, &mut writer);
        writer.finish()
    }

    /// How many spaces the padding entry holds; `None` where none is needed.
    fn padding(&self, mode: i32, body: &Body) -> Result<Option<usize>, EncodeError> {
        if !self.alignment.is_power_of_two() || self.alignment > MAX_ALIGNMENT {
            return Err(EncodeError::Alignment { got: self.alignment });
        }
        let Some(tensor_offset) = body.tensor_offset.filter(|_| self.alignment > 1) else {
            return Ok(None);
        };
        let unpadded = (Header::LEN + self.metadata_len(mode, body, None)).wrapping_add(tensor_offset);
        if unpadded.is_multiple_of(self.alignment) {
            return Ok(None);
        }
        // One space more is one byte more, except where a length grows by a byte and skips a remainder; the next time
        // round it is met.
        Ok((0..2 * self.alignment).find(|&spaces| {
            let entry = map_entry_len(field::EXTRA, PADDING_KEY.len(), spaces);
            unpadded.wrapping_add(entry).is_multiple_of(self.alignment)
        }))
    }

    fn metadata_len(&self, mode: i32, body: &Body, padding: Option<usize>) -> usize {
        let mut counter = Writer::counting();
        self.write_metadata(mode, body, padding, &mut counter);
        counter.len()
    }

    /// Fields in the order of their numbers, defaults left out: proto3's canonical form, which the peers write.
    fn write_metadata(&self, mode: i32, body: &Body, padding: Option<usize>, writer: &mut Writer<'_>) {
        let fields = &self.fields;
        writer.bytes(field::SESSION_ID, fields.session_id.as_bytes());
        writer.bytes(field::SOURCE_AGENT_ID, fields.source_agent_id.as_bytes());
        writer.bytes(field::TARGET_AGENT_ID, fields.target_agent_id.as_bytes());
        writer.bytes(field::MODEL_ID, fields.model_id.as_bytes());
        writer.uint32(field::HIDDEN_DIM, fields.hidden_dim);
        writer.uint32(field::NUM_LAYERS, fields.num_layers);
        writer.enumeration(field::PAYLOAD_TYPE, fields.payload_type.to_wire());
        writer.enumeration(field::DTYPE, fields.dtype.to_wire());
        writer.packed_uint32(field::TENSOR_SHAPE, fields.tensor_shape);
        writer.enumeration(field::MODE, mode);
        if body.compression != Compression::None {
            writer.bytes(field::COMPRESSION, b"zstd");
        }
        writer.float(field::CONFIDENCE_SCORE, fields.confidence_score.unwrap_or_default());
        writer.bytes(field::AVP_MAP_ID, fields.avp_map_id.as_bytes());
        let mut padding = padding;
        for (key, value) in sorted(fields.extra) {
            if self.alignment > 1 && key == PADDING_KEY {
                // That of a frame that is written again; this one needs its own.
                continue;
            }
            if key > PADDING_KEY {
                write_padding(padding.take(), writer);
            }
            writer.map_entry(field::EXTRA, key, value);
        }
        write_padding(padding, writer);
        if self.writes_checksum() {
            writer.optional_uint32(field::PAYLOAD_CHECKSUM, body.sum);
        }
    }

    /// The mode's number, if the dialect has everything that is to be written.
    fn check_dialect(&self) -> Result<i32, EncodeError> {
        let lacks = |what| EncodeError::NotInDialect { what, dialect: self.dialect };
        if self.checksum == Some(true) && !self.dialect.has_checksum() {
            return Err(lacks("payload_checksum"));
        }
        if self.fields.confidence_score.is_some() && self.dialect != Dialect::V0_2 {
            return Err(lacks("confidence_score"));
        }
        if self.fields.payload_type == PayloadType::Auto && self.dialect != Dialect::V0_3 {
            return Err(lacks("payload_type auto"));
        }
        self.dialect.mode_to_wire(self.fields.mode).ok_or_else(|| lacks("hybrid mode"))
    }

    fn writes_checksum(&self) -> bool {
        self.checksum.unwrap_or(self.dialect.has_checksum())
    }

    /// The body that `parts` make as they are.
    fn body_of(&self, parts: &[&[u8]]) -> Result<Body, EncodeError> {
        Ok(Body {
            sum: self.checksum_of(parts),
            len: total_len(parts)?,
            tensor_offset: Some(self.tensor_offset(parts)),
            compression: Compression::None,
        })
    }

    /// The body that `parts` make packed into `len` bytes.
    #[cfg(feature = "zstd")]
    fn packed_body(&self, parts: &[&[u8]], len: usize) -> Body {
        Body { sum: self.checksum_of(parts), len, tensor_offset: None, compression: self.compression }
    }

    fn checksum_of(&self, parts: &[&[u8]]) -> u32 {
        if self.writes_checksum() { checksum::crc32_parts(parts) } else { 0 }
    }

    /// Where the first tensor byte is in the payload.
    fn tensor_offset(&self, parts: &[&[u8]]) -> usize {
        let header = if self.fields.payload_type == PayloadType::KvCache { KvHeader::LEN } else { 0 };
        let chunk = match (self.fields.mode, parts) {
            (Mode::Hybrid, [payload]) if self.alignment > 1 => latent_offset(payload),
            _ => 0,
        };
        header + chunk
    }
}

/// What a frame's head says about its body.
struct Body {
    /// CRC-32 of the payload.
    sum: u32,
    /// Length on the wire.
    len: usize,
    /// Where the first tensor byte is; `None` where it cannot be aligned.
    tensor_offset: Option<usize>,
    compression: Compression,
}

/// Where a hybrid payload's latent chunk starts; 0 where it has none.
fn latent_offset(payload: &[u8]) -> usize {
    let latent = Hybrid::decode(payload).ok().and_then(|hybrid| hybrid.latent());
    latent
        .filter(|latent| !latent.is_empty())
        .map_or(0, |latent| latent.as_ptr().addr() - payload.as_ptr().addr())
}

fn write_padding(spaces: Option<usize>, writer: &mut Writer<'_>) {
    if let Some(spaces) = spaces {
        writer.map_entry_of_spaces(field::EXTRA, PADDING_KEY, spaces);
    }
}

/// The entries by ascending key, the last of equal keys only, without allocating.
fn sorted<'a>(entries: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let is_sorted = entries.is_sorted_by(|(a, _), (b, _)| a < b);
    let mut index = 0;
    let mut previous = None;
    core::iter::from_fn(move || {
        let entry = if is_sorted {
            entries.get(index).copied()
        } else {
            // `rev` and the first minimum: the last of equal keys.
            let after = |(key, _): &&(&str, &str)| previous.is_none_or(|previous| *key > previous);
            entries.iter().rev().filter(after).min_by_key(|(key, _)| *key).copied()
        };
        index += 1;
        previous = Some(entry?.0);
        entry
    })
}

fn total_len(parts: &[&[u8]]) -> Result<usize, EncodeError> {
    // Parts may overlap in memory, so their sum may pass what one slice can be.
    parts
        .iter()
        .try_fold(0_usize, |sum, part| sum.checked_add(part.len()))
        .ok_or(EncodeError::TooLarge { what: "payload", len: usize::MAX })
}

fn u32_len(what: &'static str, len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLarge { what, len })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::Frame;

    #[test]
    fn extra_is_written_sorted_and_each_key_once() {
        let extra = [("b", "1"), ("a", "2"), ("c", "3"), ("b", "4"), ("", "5")];
        assert!(sorted(&extra).eq([("", "5"), ("a", "2"), ("b", "4"), ("c", "3")]));
        assert!(sorted(&extra[1..3]).eq([("a", "2"), ("c", "3")]));
        assert!(sorted(&[]).eq([]));
    }

    #[test]
    fn what_a_dialect_lacks_is_refused_by_name() {
        let refused = |fields, dialect| {
            FrameEncoder::new(fields).dialect(dialect).encode_into(b"", &mut [0; 64]).unwrap_err()
        };
        let hybrid = MetadataFields { mode: Mode::Hybrid, ..Default::default() };
        let confident = MetadataFields { confidence_score: Some(0.5), ..Default::default() };
        let auto = MetadataFields { payload_type: PayloadType::Auto, ..Default::default() };
        for (fields, dialect, what) in [
            (hybrid, Dialect::V0_3, "hybrid mode"),
            (confident, Dialect::V0_3, "confidence_score"),
            (auto, Dialect::V0_2, "payload_type auto"),
        ] {
            assert_eq!(refused(fields, dialect), EncodeError::NotInDialect { what, dialect });
        }
        let encoder = FrameEncoder::new(MetadataFields::default()).dialect(Dialect::V0_2).checksum(true);
        assert_eq!(encoder.encoded_len(0).unwrap_err().kind(), "not_in_dialect");
    }

    #[test]
    fn json_mode_has_another_number_in_each_dialect_and_reads_back_the_same() {
        let encoder = FrameEncoder::new(MetadataFields { mode: Mode::Json, ..Default::default() });
        for (dialect, number) in [(Dialect::V0_2, 2), (Dialect::V0_3, 1)] {
            let mut buffer = [0; 32];
            let len = encoder.dialect(dialect).checksum(false).encode_into(b"", &mut buffer).unwrap();
            assert_eq!(buffer[12..len], [0x50, number]);
            let frame = Frame::decode(&buffer[..len]).unwrap();
            assert_eq!((frame.metadata().mode(), frame.dialect()), (Mode::Json, Some(dialect)));
        }
    }

    #[test]
    fn head_and_parts_are_the_frame() {
        let encoder = FrameEncoder::new(MetadataFields { model_id: "m", ..Default::default() });
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
                let fields = MetadataFields {
                    payload_type,
                    mode,
                    session_id: &text[..text_len],
                    extra: &[("Z", "1"), (PADDING_KEY, "stale"), ("z", "2")],
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
                let mut keys = frame.metadata().extra().map(|(key, _)| key);
                assert!(keys.clone().is_sorted() && keys.any(|key| key == "z"));
                assert!(
                    frame.metadata().extra_value(PADDING_KEY).is_none_or(|spaces| spaces.trim().is_empty())
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
                        MetadataFields { payload_type, mode, session_id: "0123456789", ..Default::default() };
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
                    let large_len = encoder.write_large(2, 16, parts, &mut large).unwrap();
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
        let encoder = FrameEncoder::new(MetadataFields::default());
        for got in [0, 3, 8192] {
            assert_eq!(encoder.align(got).encoded_len(0), Err(EncodeError::Alignment { got }));
        }
    }

    #[test]
    fn a_small_buffer_is_told_the_length_it_lacks() {
        let encoder = FrameEncoder::new(MetadataFields::default()).checksum(false);
        assert_eq!(
            encoder.encode_into(b"123", &mut [0; 14]),
            Err(EncodeError::BufferTooSmall { needed: 15, got: 14 })
        );
    }
}
