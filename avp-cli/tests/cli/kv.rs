//! `avp kv`: slices, conversions and statistics of the cache in a frame.

use std::fs;

use avp_core::{Frame, KvView};
use serde_json::Value;

use crate::common::{avp, avp_with_input, failure, repository, stdout, text};

const FRAME: &str = "test-vectors/parity/tiny-llama/context.avp";

fn frame() -> Vec<u8> {
    fs::read(repository(FRAME)).unwrap()
}

fn kv(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    stdout(&avp_with_input(["kv"].iter().chain(arguments), input)).to_vec()
}

/// The keys of a layer, head by head, token by token.
fn keys(view: &KvView<'_>, layer: usize) -> Vec<Vec<f32>> {
    let header = view.header();
    let values: Vec<f32> = view.layer(layer).key_values().collect();
    values.chunks(header.seq_len as usize * header.head_dim as usize).map(<[f32]>::to_vec).collect()
}

#[test]
fn a_slice_keeps_just_what_was_asked_for() {
    let whole = frame();
    let whole = Frame::decode(&whole).unwrap();
    let whole = whole.kv_cache(whole.payload().unwrap()).unwrap();
    let sliced =
        kv(&["slice", "-", "--tokens", "5..9", "--layers", "1..3", "--heads", "2..3", "-o", "-"], &frame());
    let frame = Frame::decode(&sliced).unwrap();
    let view = frame.kv_cache(frame.payload().unwrap()).unwrap();
    let header = view.header();
    assert_eq!((header.num_layers, header.num_kv_heads, header.seq_len), (2, 1, 4));
    assert_eq!(frame.metadata().num_layers, 2);
    assert_eq!(frame.metadata().extra.get("num_steps"), Some("8"));
    let width = header.head_dim as usize;
    assert_eq!(keys(&view, 0), [keys(&whole, 1)[2][5 * width..9 * width].to_vec()]);
}

#[test]
fn conversion_to_half_and_back_rounds_once() {
    let half = kv(&["convert", "-", "--dtype", "float16", "-o", "-"], &frame());
    assert!(half.len() * 3 < frame().len() * 2);
    let back = kv(&["convert", "-", "--dtype", "float32", "-o", "-"], &half);
    assert_eq!(kv(&["convert", "-", "--dtype", "float16", "-o", "-"], &back), half);
    let stat =
        |frame: &[u8]| -> Value { serde_json::from_slice(&kv(&["stat", "-", "--json"], frame)).unwrap() };
    let (before, after) = (stat(&frame()), stat(&back));
    let rms = |stat: &Value| stat["layers"][0]["key"]["rms"].as_f64().unwrap();
    assert!((rms(&before) - rms(&after)).abs() < 1e-3 * rms(&before));
    assert_eq!((&before["seq_len"], &before["dtype"]), (&42.into(), &"float32".into()));
}

#[test]
fn a_model_takes_a_cache_in_another_number_format() {
    let model = repository("test-vectors/parity/tiny-llama").display().to_string();
    let half = kv(&["convert", "-", "--dtype", "float16", "-o", "-"], &frame());
    let generate = |frame: &[u8]| {
        let arguments = ["generate", &model, "--prompt", "x", "--max-tokens", "8", "--context", "-"];
        stdout(&avp_with_input(arguments, frame)).to_vec()
    };
    assert_eq!(generate(&half), generate(&kv(&["convert", "-", "--dtype", "float32", "-o", "-"], &half)));
}

#[test]
fn a_person_reads_one_line_for_each_layer() {
    let path = repository(FRAME).display().to_string();
    let output = avp(["kv", "stat", &path]);
    assert_eq!(text(stdout(&output)).lines().count(), 2 + 3);
}

#[test]
fn ranges_outside_the_cache_and_frames_without_one_are_refused() {
    let refuse = |arguments: &[&str], input: &[u8]| {
        failure(&avp_with_input(["kv", "slice", "-", "-o", "-"].iter().chain(arguments), input)).to_owned()
    };
    assert!(refuse(&["--tokens", "5..43"], &frame()).contains("tokens"));
    assert!(refuse(&["--layers", "2..1"], &frame()).contains("layers"));
    let hidden = avp_core::FrameEncoder::new(avp_core::Metadata::default()).encode(b"x").unwrap();
    assert!(refuse(&[], &hidden).contains("kv_cache"));
}
