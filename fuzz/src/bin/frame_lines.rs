//! One frame a line in, in hexadecimal; a line of JSON out, with what is read of it, or the error: what `peer.py` compares with Python.

use std::io::{self, BufRead as _, Write as _};

use avp_core::Frame;
use serde_json::{Map, Value, json};

/// Bombs stop here, as in `peer.py`.
const LIMIT: usize = 1 << 20;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let bytes = bytes_of(&line?).ok_or(io::ErrorKind::InvalidData)?;
        writeln!(out, "{}", read(&bytes).unwrap_or_else(|error| json!({ "error": error })))?;
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Result<Value, &'static str> {
    let frame = Frame::decode(bytes).map_err(|error| error.kind())?;
    let payload = frame.decompress(LIMIT).map_err(|error| error.kind())?;
    let metadata = frame.metadata();
    let extra: Map<_, _> =
        metadata.extra.iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
    Ok(json!({
        "session_id": metadata.session_id,
        "source_agent_id": metadata.source_agent_id,
        "target_agent_id": metadata.target_agent_id,
        "model_id": metadata.model_id,
        "hidden_dim": metadata.hidden_dim,
        "num_layers": metadata.num_layers,
        "payload_type": metadata.payload_type.as_str(),
        "dtype": metadata.dtype.as_str(),
        "tensor_shape": metadata.tensor_shape.iter().collect::<Vec<_>>(),
        "mode": metadata.mode.as_str(),
        "avp_map_id": metadata.avp_map_id,
        "extra": extra,
        "payload_len": payload.len(),
        "payload_crc32": avp_core::crc32(&payload),
        "dialect": frame.dialect().map(|dialect| dialect.to_string()),
    }))
}

fn bytes_of(line: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(line.get(at..at + 2)?, 16).ok();
    (0..line.len()).step_by(2).map(byte).collect()
}
