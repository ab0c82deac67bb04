//! Frames, hybrid payloads and KV-cache headers. Payloads of frames and tensors of KV-caches stay with the host.

use avp_core::{
    Chunk, ChunkKind, Compression, DecodeError, EncodeError, FrameEncoder, FrameHead, FrameLimits, Hybrid,
    KvDType, KvHeader, hybrid,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    argument::argument,
    fault::{Fault, Outcome},
    json::{answer, float},
    row::Reader,
};

/// Longest metadata that is decoded, in bytes: larger metadata would have to pass through the module's memory, parts of it
/// eight times.
const METADATA_LIMIT: usize = 1 << 20;

/// Decodes header and metadata at the start of `bytes`. With `frame_len`, the length of all bytes that the host has, these
/// must be one whole frame.
///
/// # Errors
/// The core's decode errors, or `metadata_too_large`.
pub fn decode_head(bytes: &[u8], frame_len: Option<u64>) -> Outcome<FrameHead<'_>> {
    let limits = FrameLimits { metadata: METADATA_LIMIT, ..FrameLimits::NONE };
    let head = FrameHead::decode_within(bytes, &limits).map_err(|error| seen_whole(error, frame_len))?;
    // The body stays with the host, so the core cannot compare its length.
    if let Some(got) = frame_len {
        let needed = head.header().frame_len();
        let (offset, expected) = (to_usize(got), to_usize(needed));
        if got < needed {
            return Err(DecodeError::Truncated { what: "body", offset, needed: expected }.into());
        }
        if got > needed {
            let extra = to_usize(got - needed);
            return Err(DecodeError::TrailingBytes { what: "frame", offset: expected, extra }.into());
        }
    }
    Ok(head)
}

/// The head of a frame that arrives in a stream, or how many bytes of the frame are needed first.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
pub enum Peeked<'a> {
    /// The whole head.
    Head(FrameHead<'a>),
    /// The frame needs this many bytes before another look can find anything new.
    Needed(usize),
}

/// Decodes the head of a frame that arrives in a stream.
///
/// # Errors
/// The core's decode errors less `truncated`, and `frame_too_large` or `metadata_too_large`.
pub fn peek_head(bytes: &[u8], frame_limit: u64) -> Outcome<Peeked<'_>> {
    let limits = FrameLimits { metadata: METADATA_LIMIT, frame: frame_limit, ..FrameLimits::NONE };
    match FrameHead::decode_within(bytes, &limits) {
        Ok(head) => Ok(Peeked::Head(head)),
        Err(DecodeError::Truncated { needed, .. }) => Ok(Peeked::Needed(needed)),
        Err(error) => Err(error.into()),
    }
}

/// The host passes no more than header and metadata, so an error has the end of its whole input.
fn seen_whole(error: DecodeError, frame_len: Option<u64>) -> DecodeError {
    match (error, frame_len) {
        (DecodeError::Truncated { what, needed, .. }, Some(got)) => {
            DecodeError::Truncated { what, needed, offset: to_usize(got) }
        }
        (error, _) => error,
    }
}

/// Encodes the head of a frame whose body has `body_len` bytes, and whose payload has the CRC-32 `crc`.
///
/// `text` and `numbers` are the row that `js/src/frames.ts` writes: dialect, checksum, alignment, compression, shape, free
/// metadata, the other fields.
///
/// # Errors
/// The core's encode errors, or an argument that is wrong.
pub fn encode_head(text: &str, numbers: &[f64], body_len: f64, crc: u32) -> Outcome<Vec<u8>> {
    let mut row = Reader::new(text, numbers);
    let dialect = row.name("options", "dialect")?;
    let checksum = row.optional_number();
    let alignment = row.number();
    let compression = if row.number() == 1 { Compression::Fast } else { Compression::None };
    let (shape, extra) = (row.shape(), row.extra());
    let metadata = row.metadata(&shape, &extra)?;
    let mut encoder =
        FrameEncoder::new(metadata).dialect(dialect).align(alignment as usize).compression(compression);
    if let Some(checksum) = checksum {
        encoder = encoder.checksum(checksum == 1);
    }
    Ok(encoder.encode_head_for(to_usize(body_len as u64), crc)?)
}

/// A chunk of a hybrid payload, by where its data lies.
#[derive(Serialize)]
struct ChunkAt {
    /// `"text"`, `"latent"` or the number of another kind.
    kind: Value,
    start: usize,
    length: usize,
    #[serde(serialize_with = "float")]
    confidence: f64,
}

fn kind_to_json(kind: ChunkKind) -> Value {
    match kind {
        ChunkKind::Text => "text".into(),
        ChunkKind::Latent => "latent".into(),
        ChunkKind::Other(kind) => kind.into(),
    }
}

/// The chunks of a hybrid payload: kind, confidence, and where each chunk's data lies.
///
/// # Errors
/// `bad_protobuf` or `bad_utf8`.
pub fn decode_hybrid(payload: &[u8]) -> Outcome<String> {
    let hybrid = Hybrid::decode(payload)?;
    let chunk = |chunk: Chunk<'_>| ChunkAt {
        kind: kind_to_json(chunk.kind),
        // No data may lie nowhere.
        start: if chunk.data.is_empty() { 0 } else { chunk.data.as_ptr().addr() - payload.as_ptr().addr() },
        length: chunk.data.len(),
        confidence: chunk.confidence.into(),
    };
    answer(&hybrid.chunks().map(chunk).collect::<Vec<_>>())
}

/// A hybrid payload of chunks whose data is joined in `data`. Kind 0 is text, 1 is latent.
///
/// # Errors
/// If the chunks are longer than their data.
pub fn encode_hybrid(kinds: &[i32], lengths: &[f64], confidences: &[f32], data: &[u8]) -> Outcome<Vec<u8>> {
    let mut rest = data;
    let mut chunks = Vec::with_capacity(kinds.len());
    for ((&kind, &length), &confidence) in kinds.iter().zip(lengths).zip(confidences) {
        let kind = match kind {
            0 => ChunkKind::Text,
            1 => ChunkKind::Latent,
            kind => ChunkKind::Other(kind),
        };
        let cut = rest.split_at_checked(to_usize(length as u64));
        let (data, after) =
            cut.ok_or_else(|| Fault::argument("chunks: longer than their data".to_owned()))?;
        rest = after;
        chunks.push(Chunk { kind, data, confidence });
    }
    Ok(hybrid::encode(&chunks))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KvShape {
    num_layers: u32,
    num_kv_heads: u32,
    head_dim: u32,
    seq_len: u32,
    dtype: KvDType,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KvCache {
    shape: KvShape,
    tensor_length: usize,
}

/// Most layers that a cache without tokens may declare: the core's own limit.
const MAX_EMPTY_LAYERS: u32 = 65_536;

/// Decodes the header of a KV-cache of `body_len` bytes.
///
/// # Errors
/// `truncated`, `unknown_enum` or `kv_shape`.
pub fn decode_kv(header: &[u8], body_len: u64) -> Outcome<String> {
    let header = KvHeader::decode(header)?;
    let (expected, got) = (header.body_len(), to_usize(body_len));
    match header.tensor_len() {
        Some(0) if header.num_layers > MAX_EMPTY_LAYERS => {
            Err(DecodeError::KvShape { expected: None, got }.into())
        }
        Some(tensor_length) if expected.map(|len| len as u64) == Some(body_len) => {
            let KvHeader { num_layers, num_kv_heads, head_dim, seq_len, dtype } = header;
            answer(&KvCache {
                shape: KvShape { num_layers, num_kv_heads, head_dim, seq_len, dtype },
                tensor_length,
            })
        }
        _ => Err(DecodeError::KvShape { expected, got }.into()),
    }
}

/// Encodes the header of a KV-cache of this shape whose tensors have these lengths: keys and values in turn.
///
/// # Errors
/// `kv_tensor`, `kv_layers` or `kv_overflow`, or an argument that is wrong.
pub fn encode_kv(shape: &str, tensor_lengths: &[f64]) -> Outcome<Vec<u8>> {
    let KvShape { num_layers, num_kv_heads, head_dim, seq_len, dtype } = argument(shape, "shape")?;
    let header = KvHeader { num_layers, num_kv_heads, head_dim, seq_len, dtype };
    let expected =
        header.tensor_len().filter(|_| header.body_len().is_some()).ok_or(EncodeError::KvOverflow)?;
    let (layers, got) = (num_layers as usize, tensor_lengths.len() / 2);
    if layers != got {
        return Err(EncodeError::KvLayers { expected: layers, got }.into());
    }
    for (index, &length) in tensor_lengths.iter().enumerate() {
        let (layer, tensor, got) = (index / 2, ["key", "value"][index % 2], to_usize(length as u64));
        if got != expected {
            return Err(EncodeError::KvTensor { layer, tensor, expected, got }.into());
        }
    }
    Ok(header.encode().into())
}

/// A length as the core's errors hold it; 4 GiB or more becomes 4 GiB less one byte where `usize` has 32 bits.
fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_described_by_its_argument() {
        // Four options, two empty lists, four empty texts, two numbers; payload type and number format are absent.
        let numbers = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4].map(f64::from);
        let message = encode_head("\0\0\0\0Json\0", &numbers, 3.0, 7).unwrap_err().message;
        assert_eq!(
            message,
            "metadata.mode: unknown variant `Json`, expected one of `latent`, `hybrid`, `json`"
        );
        let message = encode_head("\0", &[1.0, 0.0], 3.0, 7).unwrap_err().message;
        assert!(message.starts_with("options.dialect: unknown variant ``"), "{message}");
    }

    #[test]
    fn a_hybrid_payload_is_described_by_where_its_data_lies() {
        let encode = |data| encode_hybrid(&[0, 7], &[1.0, 2.0], &[0.0, 0.5], data);
        let payload = encode(b"abc").unwrap();
        let json: Value = serde_json::from_str(&decode_hybrid(&payload).unwrap()).unwrap();
        let data = |index: usize| {
            let number = |key: &str| json[index][key].as_u64().unwrap() as usize;
            &payload[number("start")..][..number("length")]
        };
        assert_eq!((data(0), data(1)), (&b"a"[..], &b"bc"[..]));
        assert_eq!((&json[0]["kind"], &json[1]["kind"]), (&"text".into(), &7.into()));
        assert!(encode(b"ab").is_err());
    }
}
