//! Frames, hybrid payloads and KV-cache headers. Payloads of frames and tensors of KV-caches stay with the host.

use avp_core::{
    Chunk, ChunkKind, Compression, DecodeError, EncodeError, FrameEncoder, FrameHead, FrameLimits, Hybrid,
    KvDType, KvHeader, Metadata, hybrid,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    argument::named,
    fault::{Fault, Outcome},
    json::{answer, float},
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

/// Calls the macro `$build` with the values of a frame's head, in the order of the parameters of `headOf` in
/// `js/src/metadata.ts`. Text, names and lists equal to their default are `None`, which costs less to pass.
#[macro_export]
macro_rules! head_values {
    ($head:ident, $build:ident) => {{
        let (header, dialect, metadata) = ($head.header(), $head.dialect(), $head.metadata());
        $build!(
            dialect.map(|dialect| dialect.as_str()),
            header.flags().bits(),
            $crate::frames::given($crate::frames::flag_names(&$head)),
            header.payload_len(),
            header.metadata_len(),
            $crate::frames::given(metadata.session_id),
            $crate::frames::given(metadata.source_agent_id),
            $crate::frames::given(metadata.target_agent_id),
            $crate::frames::given(metadata.model_id),
            metadata.hidden_dim,
            metadata.num_layers,
            $crate::frames::given(metadata.payload_type).map(|value| value.as_str()),
            $crate::frames::given(metadata.dtype).map(|value| value.as_str()),
            $crate::frames::given(metadata.tensor_shape.iter().collect::<Vec<u32>>()),
            $crate::frames::given(metadata.mode).map(|value| value.as_str()),
            $crate::frames::given(metadata.avp_map_id),
            $crate::frames::given($crate::frames::pairs(&metadata)),
            metadata.confidence_score.map(f64::from),
            metadata.payload_checksum,
            metadata.embedding_dim,
            $crate::frames::given(metadata.data_type),
            metadata.agent_id,
            metadata.task_id
        )
    }};
}

/// The names of a head's flags.
#[must_use]
pub fn flag_names(head: &FrameHead<'_>) -> Vec<String> {
    let names = head.header().flags().names(head.dialect().unwrap_or_default());
    names.map(str::to_owned).collect()
}

/// A value, unless it is the default of its type.
pub fn given<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

/// Free metadata: keys and values in turn.
#[must_use]
pub fn pairs(metadata: &Metadata<'_>) -> Vec<String> {
    metadata.extra.iter().flat_map(|(key, value)| [key.to_owned(), value.to_owned()]).collect()
}

/// Calls the macro `$export` with the parameters of `frames::encode_head`.
#[macro_export]
macro_rules! encode_parameters {
    ($export:ident) => {
        $export! {
            session_id: Option<String>,
            source_agent_id: Option<String>,
            target_agent_id: Option<String>,
            model_id: Option<String>,
            hidden_dim: u32,
            num_layers: u32,
            payload_type: Option<String>,
            dtype: Option<String>,
            tensor_shape: &[u32],
            mode: Option<String>,
            avp_map_id: Option<String>,
            extra: Vec<String>,
            confidence_score: Option<f64>,
            dialect: Option<String>,
            checksum: Option<bool>,
            alignment: u32,
            compress: bool,
            body_length: f64,
            crc: u32,
        }
    };
}

/// Encodes the head of a frame whose body has `body_len` bytes, and whose payload has the CRC-32 `crc`.
///
/// `extra` has keys and values in turn.
///
/// # Errors
/// The core's encode errors, or an argument that is wrong.
#[expect(clippy::too_many_arguments, reason = "typed arguments cost less than one that has to be parsed")]
pub fn encode_head(
    session_id: Option<String>,
    source_agent_id: Option<String>,
    target_agent_id: Option<String>,
    model_id: Option<String>,
    hidden_dim: u32,
    num_layers: u32,
    payload_type: Option<String>,
    dtype: Option<String>,
    tensor_shape: &[u32],
    mode: Option<String>,
    avp_map_id: Option<String>,
    extra: Vec<String>,
    confidence_score: Option<f64>,
    dialect: Option<String>,
    checksum: Option<bool>,
    alignment: u32,
    compress: bool,
    body_len: f64,
    crc: u32,
) -> Outcome<Vec<u8>> {
    let extra: Vec<_> =
        extra.as_chunks().0.iter().map(|[key, value]| (key.as_str(), value.as_str())).collect();
    let fields = Metadata {
        session_id: session_id.as_deref().unwrap_or_default(),
        source_agent_id: source_agent_id.as_deref().unwrap_or_default(),
        target_agent_id: target_agent_id.as_deref().unwrap_or_default(),
        model_id: model_id.as_deref().unwrap_or_default(),
        hidden_dim,
        num_layers,
        payload_type: optional(payload_type.as_deref(), "metadata.payloadType")?,
        dtype: optional(dtype.as_deref(), "metadata.dtype")?,
        tensor_shape: tensor_shape.into(),
        mode: optional(mode.as_deref(), "metadata.mode")?,
        confidence_score: confidence_score.map(|score| score as f32),
        avp_map_id: avp_map_id.as_deref().unwrap_or_default(),
        extra: extra.as_slice().into(),
        ..Metadata::default()
    };
    let compression = if compress { Compression::Fast } else { Compression::None };
    let mut encoder = FrameEncoder::new(fields)
        .dialect(optional(dialect.as_deref(), "options.dialect")?)
        .align(alignment as usize)
        .compression(compression);
    if let Some(checksum) = checksum {
        encoder = encoder.checksum(checksum);
    }
    Ok(encoder.encode_head_for(to_usize(body_len as u64), crc)?)
}

fn optional<T: Default + for<'de> Deserialize<'de>>(value: Option<&str>, name: &str) -> Outcome<T> {
    value.map_or_else(|| Ok(T::default()), |value| named(value, name))
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

#[derive(Serialize)]
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

/// Encodes the header of a KV-cache whose tensors have these lengths: keys and values in turn.
///
/// # Errors
/// `kv_tensor`, `kv_layers` or `kv_overflow`, or an argument that is wrong.
pub fn encode_kv(
    num_layers: u32,
    num_kv_heads: u32,
    head_dim: u32,
    seq_len: u32,
    dtype: &str,
    tensor_lengths: &[f64],
) -> Outcome<Vec<u8>> {
    let dtype = named(dtype, "shape.dtype")?;
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

    fn encoded(mode: Option<&str>) -> Outcome<Vec<u8>> {
        let (session, extra) = (Some("s".to_owned()), ["k", "v"].map(str::to_owned).into());
        let mode = mode.map(str::to_owned);
        encode_head(
            session,
            None,
            None,
            None,
            0,
            0,
            None,
            None,
            &[1, 2],
            mode,
            None,
            extra,
            None,
            None,
            None,
            1,
            false,
            3.0,
            7,
        )
    }

    #[test]
    fn values_of_a_head_equal_to_their_default_are_not_passed() {
        let bytes = encoded(None).unwrap();
        let head = decode_head(&bytes, None).unwrap();
        macro_rules! list {
            ($($value:expr),*) => {
                [$(format!("{:?}", $value)),*]
            };
        }
        let metadata_length = (bytes.len() - 12).to_string();
        let length = (bytes.len() - 12 + 3).to_string();
        let expected = [
            r#"Some("0.3")"#,
            "0",
            "None",
            &length,
            &metadata_length,
            r#"Some("s")"#,
            "None",
            "None",
            "None",
            "0",
            "0",
            "None",
            "None",
            "Some([1, 2])",
            "None",
            "None",
            r#"Some(["k", "v"])"#,
            "None",
            "Some(7)",
            "0",
            "None",
            "None",
            "None",
        ];
        assert_eq!(head_values!(head, list), expected);
    }

    #[test]
    fn a_wrong_name_is_described_by_its_argument() {
        let message = encoded(Some("Json")).unwrap_err().message;
        assert_eq!(
            message,
            "metadata.mode: unknown variant `Json`, expected one of `latent`, `hybrid`, `json`"
        );
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
