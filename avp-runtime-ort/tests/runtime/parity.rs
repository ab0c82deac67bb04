//! Numerical parity with the HuggingFace connector of `avp` 0.2.1, on recorded results of two tiny models.
//!
//! `tools/parity/README.md` documents the records and their fields.

use std::{fs, path::PathBuf};

use avp_core::{KvView, OwnedModelIdentity};
use avp_runtime_ort::{Context, Finish, FrameOptions, GenerateOptions, Generation, Model, Prompt};
use serde::Deserialize;

use crate::common::{load, repository, runtime, think};

/// Tolerance for float32 caches.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Record {
    identity: OwnedModelIdentity,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: String,
    prompt_ids: Vec<u32>,
    latent: Vec<Latent>,
    greedy: Greedy,
    handovers: Vec<Handover>,
    continued: Continued,
}

#[derive(Deserialize)]
struct Latent {
    steps: usize,
    seq_len: usize,
    kv_cache: String,
    hidden_state: Vec<f32>,
}

#[derive(Deserialize)]
struct Greedy {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Handover {
    steps: usize,
    question: String,
    question_ids: Vec<u32>,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Continued {
    first_steps: usize,
    question: String,
    steps: usize,
    kv_cache: String,
    hidden_state: Vec<f32>,
}

struct Fixture {
    folder: PathBuf,
    model: Model,
    record: Record,
}

fn fixtures() -> impl Iterator<Item = Fixture> {
    ["tiny-qwen2", "tiny-llama"].into_iter().map(|name| {
        let path = format!("test-vectors/parity/{name}");
        let folder = repository(&path);
        let record = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
        Fixture { model: load(&path), folder, record }
    })
}

impl Fixture {
    /// Compares a context with a cache as the peer serialized it.
    fn assert_cache(&self, what: &str, context: &Context, expected: &str) {
        let expected = fs::read(self.folder.join(expected)).unwrap();
        for Difference { part, absolute, .. } in differences(context, &expected) {
            assert!(absolute <= TOLERANCE, "{what}, {part}: differs by {absolute}");
        }
    }
}

/// The difference of one tensor of two caches.
pub(crate) struct Difference {
    /// Key or value, and the layer.
    pub(crate) part: String,
    /// The largest absolute difference.
    pub(crate) absolute: f32,
    /// The norm of the difference, divided by the norm of what was expected.
    pub(crate) relative: f64,
}

/// Compares each tensor of a context with that of a cache as the peer serialized it.
pub(crate) fn differences(context: &Context, expected: &[u8]) -> Vec<Difference> {
    let expected = KvView::decode(expected).unwrap();
    let frame = context.to_frame(&FrameOptions::default()).unwrap();
    let frame = avp_core::Frame::decode(&frame).unwrap();
    let actual = frame.kv_cache(frame.payload().unwrap()).unwrap();
    assert_eq!(actual.header(), expected.header());
    let difference = |part: &str, layer: usize, actual: &[u8], expected: &[u8]| {
        let (actual, expected) = (floats(actual), floats(expected));
        assert_eq!(actual.len(), expected.len());
        let errors = || actual.iter().zip(&expected).map(|(one, other)| one - other);
        Difference {
            part: format!("{part} {layer}"),
            absolute: errors().map(f32::abs).fold(0.0, f32::max),
            relative: norm(errors()) / norm(expected.iter().copied()),
        }
    };
    let layers = actual.layers().zip(expected.layers()).enumerate();
    layers
        .flat_map(|(layer, (actual, expected))| {
            [
                difference("key", layer, actual.key(), expected.key()),
                difference("value", layer, actual.value(), expected.value()),
            ]
        })
        .collect()
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn assert_close(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let difference = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= TOLERANCE, "{what}: differs by {difference}");
}

/// `<|im_end|>` in both tiny models.
const END_OF_TURN: u32 = 2;

fn options(expected: &[u32]) -> GenerateOptions {
    GenerateOptions { max_tokens: expected.len(), ..GenerateOptions::default() }
}

/// Transformers includes the end-of-turn token in the generated tokens; this crate does not.
fn assert_generated(what: &str, generation: &Generation, expected: &[u32]) {
    match expected {
        [tokens @ .., END_OF_TURN] => {
            assert_eq!(generation.tokens, tokens, "{what}");
            assert_eq!(generation.finish, Finish::EndOfTurn, "{what}");
        }
        tokens => {
            assert_eq!(generation.tokens, tokens, "{what}");
            assert_eq!(generation.finish, Finish::MaxTokens, "{what}");
        }
    }
}

#[test]
fn identities_equal_the_peers_except_for_generated_configs() {
    for fixture in fixtures() {
        let own = fixture.model.identity();
        let differing: Vec<_> = own.differences(&fixture.record.identity).map(|found| found.field).collect();
        // Optimum drops `_name_or_path`, and the peer hashes the config with every default written out.
        assert_eq!(differing, ["model_id", "model_hash"]);
    }
}

#[test]
fn prompts_are_rendered_and_tokenized_as_the_peer_does() {
    for fixture in fixtures() {
        for case in &fixture.record.cases {
            let ids = fixture.model.tokenize(&Prompt::from(case.prompt.as_str())).unwrap();
            assert_eq!(ids, case.prompt_ids, "{}", case.name);
            for handover in &case.handovers {
                let ids = fixture.model.tokenize(&Prompt::from(handover.question.as_str())).unwrap();
                assert_eq!(ids, handover.question_ids, "{}", case.name);
            }
        }
    }
}

#[test]
fn caches_and_hidden_states_equal_the_peers_after_each_number_of_steps() {
    for fixture in fixtures() {
        for case in &fixture.record.cases {
            for latent in &case.latent {
                let what = format!("{} after {} steps", case.name, latent.steps);
                let context = think(&fixture.model, case.prompt.as_str(), latent.steps, None);
                assert_eq!((context.seq_len(), context.num_steps()), (latent.seq_len, latent.steps));
                fixture.assert_cache(&what, &context, &latent.kv_cache);
                assert_close(&what, context.last_hidden_state().unwrap(), &latent.hidden_state);
            }
        }
    }
}

#[test]
fn thinking_continues_from_a_context_as_the_peer_does() {
    for fixture in fixtures() {
        for case in &fixture.record.cases {
            let continued = &case.continued;
            let first = think(&fixture.model, case.prompt.as_str(), continued.first_steps, None);
            let second = think(&fixture.model, continued.question.as_str(), continued.steps, Some(&first));
            assert_eq!(second.num_steps(), continued.first_steps + continued.steps);
            fixture.assert_cache(&case.name, &second, &continued.kv_cache);
            assert_close(&case.name, second.last_hidden_state().unwrap(), &continued.hidden_state);
            // The first context is still what it was.
            let latent = case.latent.iter().find(|latent| latent.steps == continued.first_steps).unwrap();
            fixture.assert_cache(&case.name, &first, &latent.kv_cache);
        }
    }
}

#[test]
fn greedy_continuations_equal_transformers() {
    for fixture in fixtures() {
        for case in &fixture.record.cases {
            let options = options(&case.greedy.tokens);
            let generation = fixture.model.generate(case.prompt.as_str(), None, &options).unwrap();
            assert_generated(&case.name, &generation, &case.greedy.tokens);
        }
    }
}

#[test]
fn streamed_pieces_make_the_text_that_is_returned() {
    for fixture in fixtures() {
        // Hot sampling makes bytes that are no characters, also at the very end.
        for seed in 0..20 {
            let options =
                GenerateOptions { max_tokens: 9, temperature: 5.0, seed, ..GenerateOptions::default() };
            let mut stream = fixture.model.start_generate("x", None, &options).unwrap();
            let streamed = stream.by_ref().collect::<Result<String, _>>().unwrap();
            assert_eq!(streamed, stream.into_generation().text, "seed {seed}");
        }
    }
}

#[test]
fn answers_behind_a_received_context_equal_transformers() {
    for fixture in fixtures() {
        for case in &fixture.record.cases {
            for handover in &case.handovers {
                let context = think(&fixture.model, case.prompt.as_str(), handover.steps, None);
                let frame = context.to_frame(&FrameOptions::default()).unwrap();
                let received = Context::from_frame(runtime(), &frame).unwrap();
                let options = options(&handover.tokens);
                let generation =
                    fixture.model.generate(handover.question.as_str(), Some(&received), &options).unwrap();
                let what = format!("{} behind {} steps", case.name, handover.steps);
                assert_generated(&what, &generation, &handover.tokens);
                assert_eq!(generation.context_tokens, context.seq_len());
            }
        }
    }
}
