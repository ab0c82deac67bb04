//! This crate's answers to the operations of the conformance cases: JSON in, JSON out.

use std::borrow::Cow;

use avp_core::{
    Chunk, ChunkKind, Compression, DEFAULT_PAYLOAD_LIMIT, DType, DecodeError, Dialect, EncodeError, Evidence,
    Frame, FrameEncoder, Header, Hybrid, KvView, Metadata, Mode, OwnedModelIdentity, PayloadType, hash,
    hybrid,
    json::ReadError,
    kv::{BlockShape, BlockTable},
    messages::{Hello, JsonMessage},
    resolve,
};
use serde_json::{Value, json};

type Answer = Result<Value, Value>;

pub(crate) fn answer(operation: &str, input: &Value) -> Answer {
    match operation {
        "frame.decode" => decode_frame(&bytes(&input["hex"]), limit(input)).map_err(decode_error),
        "frame.encode" => encode_frame(input).map(|frame| json!({"hex": hex(&frame)})).map_err(encode_error),
        "hybrid.decode" => {
            let body = bytes(&input["hex"]);
            let hybrid = Hybrid::decode(&body).map_err(decode_error)?;
            Ok(json!({"text": hybrid.text(), "chunks": chunks(&hybrid)}))
        }
        "kv.decode" => decode_kv(&bytes(&input["hex"])).map_err(decode_error),
        "kv.gather" => Ok(gather_and_scatter(input)),
        "handshake.resolve" => Ok(resolve_identities(input)),
        "handshake.hello" => Hello::parse(json_text(input)).map(|hello| written(&hello)).map_err(read_error),
        "json_message" => {
            JsonMessage::parse(json_text(input)).map(|message| written(&message)).map_err(read_error)
        }
        "hash.model" => match hash::model_hash(json_text(input)) {
            Ok(sha256) => Ok(json!({"sha256": sha256})),
            Err(error) => Err(read_error(error.into())),
        },
        "hash.tokenizer" => match hash::tokenizer_hash(json_text(input)) {
            Ok(sha256) => Ok(json!({"sha256": sha256})),
            Err(error) => Err(read_error(error.into())),
        },
        "identity" => OwnedModelIdentity::from_config(json_text(input))
            .map(|identity| serde_json::to_value(identity).expect("an identity is JSON"))
            .map_err(read_error),
        other => panic!("no such operation: {other}"),
    }
}

fn decode_frame(frame: &[u8], limit: usize) -> Result<Value, DecodeError> {
    let frame = Frame::decode(frame)?;
    let (header, metadata) = (frame.header(), frame.metadata());
    let payload = frame.decompress_unverified(limit)?;
    frame.verify_checksum(&payload)?;
    let hybrid = match metadata.mode {
        Mode::Hybrid => Some(frame.hybrid(&payload)?),
        _ => None,
    };
    let tensor = frame.tensor(&payload)?;
    let mut answer = json!({
        "dialect": frame.dialect().map(Dialect::as_str),
        "version": Header::VERSION,
        "flags": header.flags().bits(),
        "payload_length": header.payload_len(),
        "metadata_length": header.metadata_len(),
        "compressed": frame.is_compressed(),
        "text": hybrid.and_then(|hybrid| hybrid.text()),
        "chunks": hybrid.as_ref().map(chunks),
        "checksum": frame.checksum(&payload).map(|sum| {
            json!({"expected": sum.expected, "actual": sum.actual, "ok": sum.is_ok()})
        }),
        "payload_bytes": tensor.len(),
        "payload_hex": hex(tensor),
        "payload_sha256": sha256(tensor),
        "embedding_dim": 0,
        "data_type": "",
        "agent_id": null,
        "task_id": null,
    });
    let fields = serde_json::to_value(metadata).expect("metadata is JSON");
    answer.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    Ok(answer)
}

fn encode_frame(fields: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |key: &str| fields[key].as_str().expect(key);
    let number = |key: &str| u32::try_from(fields[key].as_u64().expect(key)).expect(key);
    let dialect = Dialect::from_avp_version(text("dialect")).expect("dialect");
    let mode = Mode::from_name(text("mode")).expect("mode");
    let tensor_shape: Vec<u32> =
        serde_json::from_value(fields["tensor_shape"].clone()).expect("tensor_shape");
    let extra: Vec<(&str, &str)> = fields["extra"]
        .as_object()
        .expect("extra")
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().expect("extra value")))
        .collect();
    let encoder = FrameEncoder::new(Metadata {
        session_id: text("session_id"),
        source_agent_id: text("source_agent_id"),
        target_agent_id: text("target_agent_id"),
        model_id: text("model_id"),
        hidden_dim: number("hidden_dim"),
        num_layers: number("num_layers"),
        payload_type: PayloadType::from_name(text("payload_type")).expect("payload_type"),
        dtype: DType::from_name(text("dtype")).expect("dtype"),
        tensor_shape: tensor_shape.as_slice().into(),
        mode,
        confidence_score: fields["confidence_score"].as_f64().map(|score| score as f32),
        avp_map_id: text("avp_map_id"),
        extra: extra.as_slice().into(),
        ..Metadata::default()
    })
    .dialect(dialect)
    .checksum(!fields["checksum"].is_null())
    .compression(if fields["compressed"] == true { Compression::Balanced } else { Compression::None });

    let payload = match mode {
        Mode::Hybrid => Cow::Owned(encode_chunks(&fields["chunks"])),
        _ => Cow::Owned(bytes(&fields["payload_hex"])),
    };
    encoder.encode(&payload)
}

fn encode_chunks(chunks: &Value) -> Vec<u8> {
    let chunks = chunks.as_array().expect("chunks");
    let data: Vec<Vec<u8>> = chunks.iter().map(|chunk| bytes(&chunk["hex"])).collect();
    let chunks: Vec<Chunk<'_>> = chunks
        .iter()
        .zip(&data)
        .map(|(chunk, data)| Chunk {
            kind: if chunk["kind"] == "latent" { ChunkKind::Latent } else { ChunkKind::Text },
            data,
            confidence: chunk["confidence"].as_f64().expect("confidence") as f32,
        })
        .collect();
    hybrid::encode(&chunks)
}

fn decode_kv(body: &[u8]) -> Result<Value, DecodeError> {
    let cache = KvView::decode(body)?;
    let header = cache.header();
    Ok(json!({
        "num_layers": header.num_layers,
        "num_kv_heads": header.num_kv_heads,
        "head_dim": header.head_dim,
        "seq_len": header.seq_len,
        "dtype": header.dtype.as_str(),
        "tensor_bytes": header.tensors_len(),
        "layers": layers(&cache),
    }))
}

/// Gathers a cache from blocks; scattering it into empty blocks must give the blocks' tokens back.
fn gather_and_scatter(input: &Value) -> Value {
    let number = |key: &str| u32::try_from(input[key].as_u64().expect(key)).expect(key);
    let shape = BlockShape {
        num_blocks: number("num_blocks"),
        num_kv_heads: number("num_kv_heads"),
        block_size: number("block_size"),
        head_dim: number("head_dim"),
        dtype: serde_json::from_value(input["dtype"].clone()).expect("dtype"),
    };
    let blocks: Vec<u32> = serde_json::from_value(input["block_table"].clone()).expect("block_table");
    let layers: Vec<Vec<u8>> = input["paged"].as_array().expect("paged").iter().map(bytes).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let table = BlockTable::new(&blocks, shape).expect("a sound table");
    let body = table.gather(&layers, number("seq_len")).expect("blocks for every token");
    let cache = KvView::decode(&body).expect("what is gathered is a cache");

    let mut emptied: Vec<Vec<u8>> = layers.iter().map(|layer| vec![0; layer.len()]).collect();
    let mut pools: Vec<&mut [u8]> = emptied.iter_mut().map(Vec::as_mut_slice).collect();
    table.scatter(&cache, &mut pools).expect("the blocks that were gathered from");
    let emptied: Vec<&[u8]> = emptied.iter().map(Vec::as_slice).collect();
    assert_eq!(table.gather(&emptied, number("seq_len")).as_ref(), Ok(&body), "scattered and gathered again");
    json!({"layers": self::layers(&cache)})
}

fn resolve_identities(input: &Value) -> Value {
    let identity = |side: &str| -> OwnedModelIdentity {
        serde_json::from_value(input[side].clone()).expect("an identity")
    };
    let (local, remote) = (identity("local"), identity("remote"));
    let evidence = Evidence { shared_tokens: input["shared_tokens"].as_u64(), ..Evidence::default() };
    let resolution = resolve(&local, &remote, evidence);
    json!({
        "mode": resolution.mode.as_str(),
        "avp_map_id": resolution.map_id.to_string(),
        "resolution_path": resolution.rule.as_str(),
    })
}

/// A message as it is written, read back by another JSON reader.
fn written(message: &dyn std::fmt::Display) -> Value {
    json!({"json": serde_json::from_str::<Value>(&message.to_string()).expect("JSON")})
}

fn json_text(input: &Value) -> &str {
    input["json"].as_str().expect("json text")
}

fn read_error(error: ReadError) -> Value {
    json!({"kind": error.kind(), "offset": error.offset(), "message": error.to_string()})
}

fn layers(cache: &KvView<'_>) -> Vec<Value> {
    cache.layers().map(|layer| json!({"key": hex(layer.key()), "value": hex(layer.value())})).collect()
}

fn chunks(hybrid: &Hybrid<'_>) -> Vec<Value> {
    let kind = |kind| match kind {
        ChunkKind::Latent => "latent",
        ChunkKind::Text => "text",
        _ => "other",
    };
    hybrid
        .chunks()
        .map(|chunk| {
            json!({
                "kind": kind(chunk.kind),
                "bytes": chunk.data.len(),
                "confidence": chunk.confidence,
                "hex": hex(chunk.data),
            })
        })
        .collect()
}

fn limit(input: &Value) -> usize {
    input["limit"].as_u64().map_or(DEFAULT_PAYLOAD_LIMIT, |limit| usize::try_from(limit).expect("limit"))
}

fn decode_error(error: DecodeError) -> Value {
    json!({"kind": error.kind(), "offset": error.offset(), "message": error.to_string()})
}

fn encode_error(error: EncodeError) -> Value {
    json!({"kind": error.kind(), "message": error.to_string()})
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hex text");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex(&sha2::Sha256::digest(bytes))
}
