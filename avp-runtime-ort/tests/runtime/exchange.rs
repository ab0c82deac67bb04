//! Contexts sent to `AVPContext` of `avp` 0.2.1 and received from it, continued on both sides.
//!
//! `tools/contexts/README.md` documents the records.

use std::{fmt::Debug, fs, path::PathBuf};

use avp_core::{Dialect, Frame};
use avp_runtime_ort::{Context, FrameOptions, FrameReadOptions, GenerateOptions, Model};
use serde::Deserialize;

use crate::common::{load, repository, runtime, think};

#[derive(Deserialize)]
struct Record {
    prompt: String,
    question: String,
    to_rust: Vec<Exchanged>,
    to_python: Vec<Exchanged>,
}

#[derive(Deserialize)]
struct Exchanged {
    #[serde(default)]
    name: String,
    frame: String,
    dtype: String,
    seq_len: usize,
    num_steps: usize,
    /// Whether the package's own connector went on behind it.
    accepted: Option<bool>,
    tokens: Vec<u32>,
}

/// A record of `tools/contexts/exchange.py`.
const STEPS: usize = 8;
const TOLERANCE: f32 = 1e-5;

/// `<|im_end|>` in both tiny models; Transformers counts it among the tokens.
const END_OF_TURN: u32 = 2;

fn records() -> impl Iterator<Item = (PathBuf, Model, Record)> {
    ["tiny-qwen2", "tiny-llama"].into_iter().map(|name| {
        let folder = repository("test-vectors/contexts").join(name);
        let record = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
        (folder, load(&format!("test-vectors/parity/{name}")), record)
    })
}

fn assert_continues(model: &Model, record: &Record, exchanged: &Exchanged, context: &Context) {
    let what = &exchanged.frame;
    assert_eq!((context.seq_len(), context.num_steps()), (exchanged.seq_len, exchanged.num_steps), "{what}");
    assert_eq!(context.cache_layout().dtype.as_str(), exchanged.dtype, "{what}");
    let options = GenerateOptions { max_tokens: exchanged.tokens.len(), ..GenerateOptions::default() };
    let mut tokens = model.generate(record.question.as_str(), Some(context), &options).unwrap().tokens;
    if exchanged.tokens.last() == Some(&END_OF_TURN) {
        tokens.push(END_OF_TURN);
    }
    assert_eq!(tokens, exchanged.tokens, "{what}");
}

#[test]
fn contexts_of_the_package_continue_here_as_they_do_there() {
    for (folder, model, record) in records() {
        assert_eq!(record.to_rust.len(), 3);
        for exchanged in &record.to_rust {
            let frame = fs::read(folder.join(&exchanged.frame)).unwrap();
            let options = FrameReadOptions { scan: true, ..FrameReadOptions::default() };
            let context = Context::from_bytes(runtime(), frame, &options).unwrap();
            assert_continues(&model, &record, exchanged, &context);
        }
    }
}

#[test]
fn contexts_made_here_continue_in_the_package_as_they_do_here() {
    for (folder, model, record) in records() {
        assert_eq!(record.to_python.len(), 7);
        for exchanged in &record.to_python {
            let loaded =
                Context::load(runtime(), folder.join(&exchanged.frame), &FrameReadOptions::default());
            assert_continues(&model, &record, exchanged, &loaded.unwrap());
            // All but the saved file carry the package's own model hash, and nothing else is in its way.
            assert_eq!(exchanged.accepted, Some(exchanged.name != "saved"), "{}", exchanged.frame);
        }
    }
}

#[test]
fn frames_are_still_written_as_the_package_read_them() {
    for (folder, model, record) in records() {
        let context = think(&model, record.prompt.as_str(), STEPS, None);
        for (name, dialect) in [("0.2", Dialect::V0_2), ("0.3", Dialect::V0_3)] {
            let exchanged = record.to_python.iter().find(|exchanged| exchanged.name == name).unwrap();
            let read = fs::read(folder.join(&exchanged.frame)).unwrap();
            let read = Frame::decode(&read).unwrap();
            let options = FrameOptions {
                session_id: "exchange".into(),
                source_agent_id: "agent-a".into(),
                target_agent_id: "agent-b".into(),
                model_hash: read.metadata().extra.get("model_hash").map(str::to_owned),
                dialect,
                alignment: 1,
                ..FrameOptions::default()
            };
            let written = context.to_frame(&options).unwrap();
            let written = Frame::decode(&written).unwrap();
            assert_eq!(said(&written), said(&read));
            assert_eq!(written.header().flags(), read.header().flags());
            assert!(difference(&written, &read) <= TOLERANCE);
        }
    }
}

/// The metadata without the checksum, which depends on the rounding of the processor.
fn said(frame: &Frame<'_>) -> impl PartialEq + Debug {
    let metadata = frame.metadata();
    let agents = [metadata.session_id, metadata.source_agent_id, metadata.target_agent_id];
    let mut extra: Vec<(String, String)> =
        metadata.extra.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    extra.sort();
    let shape = (metadata.hidden_dim, metadata.num_layers, metadata.dtype, metadata.mode);
    (agents.map(str::to_owned), metadata.model_id.to_owned(), extra, shape)
}

/// The largest absolute difference of two caches.
fn difference(one: &Frame<'_>, other: &Frame<'_>) -> f32 {
    let (one, other) =
        (one.kv_cache(one.payload().unwrap()).unwrap(), other.kv_cache(other.payload().unwrap()).unwrap());
    assert_eq!(one.header(), other.header());
    let differences = one.layers().zip(other.layers()).flat_map(|(one, other)| {
        let keys = one.key_values().zip(other.key_values());
        keys.chain(one.value_values().zip(other.value_values()))
    });
    differences.map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}
