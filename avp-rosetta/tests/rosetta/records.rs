//! Transfers between tiny models, compared with `avp` 0.6.2 (through the vocabulary) and 0.2.1 (learned maps).
//!
//! `tools/rosetta/README.md` documents the records and their fields.

use std::{collections::HashMap, fs};

use avp_core::Mode;
use avp_rosetta::{
    AvpMap, CalibrateOptions, MapFolder, Method, ProjectOptions, QualityConfig, Rosetta, RosettaError,
    TransferOptions, ValidateOptions,
};
use avp_runtime_ort::{Context, Finish, FrameOptions, GenerateOptions, LoadOptions, Model};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::common::{load, repository, runtime, think};

/// Tolerance for projected vectors.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Record<Case> {
    pairs: Vec<Pair<Case>>,
}

#[derive(Deserialize)]
struct Pair<Case> {
    source: String,
    target: String,
    map: Map,
    cases: Vec<Case>,
    validation: Option<RecordedValidation>,
}

#[derive(Deserialize)]
struct Map {
    method: String,
    source_dim: u32,
    target_dim: u32,
    target_norm: f32,
    anchor_count: u32,
    validation_score: f32,
    overlap_count: Option<usize>,
    src_indices: Option<Vec<u32>>,
    tgt_indices: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Transferred {
    prompt: String,
    steps: usize,
    question: String,
    hidden_state: Vec<f32>,
    projected: Vec<f32>,
    metrics: HashMap<String, f32>,
    seq_len: usize,
    num_steps: usize,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Learned {
    prompt: String,
    hidden_state: Vec<f32>,
    projected: Vec<f32>,
    projected_float64: Vec<f32>,
}

#[derive(Deserialize)]
struct RecordedValidation {
    texts: Vec<String>,
    default: Option<Verdict>,
    open: Option<Verdict>,
    translated: Option<Translated>,
}

#[derive(Deserialize)]
struct Verdict {
    cosine_similarity: f32,
    perplexity: Option<f32>,
    recommended_mode: Mode,
    detail: String,
}

#[derive(Deserialize)]
struct Translated {
    cosine_similarity: f32,
}

fn record<Case: DeserializeOwned>(version: &str) -> Vec<Pair<Case>> {
    let path = repository(&format!("test-vectors/rosetta/record-{version}.json"));
    serde_json::from_slice::<Record<Case>>(&fs::read(path).unwrap()).unwrap().pairs
}

fn model(name: &str) -> Model {
    let parent = if matches!(name, "tiny-wide" | "tiny-other") { "rosetta" } else { "parity" };
    load(&format!("test-vectors/{parent}/{name}"))
}

/// Each pair's models with its record.
fn for_each<Case: DeserializeOwned>(version: &str, check: impl Fn(&Model, &Model, &Pair<Case>)) {
    let pairs = record::<Case>(version);
    assert_eq!(pairs.len(), 4);
    for pair in pairs {
        check(&model(&pair.source), &model(&pair.target), &pair);
    }
}

fn largest_difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0., f32::max)
}

fn assert_close(what: &str, actual: f32, expected: f32, relative: f32) {
    assert!((actual - expected).abs() <= relative * expected.abs().max(1.), "{what}: {actual} {expected}");
}

fn assert_facts(map: &AvpMap, expected: &Map, score_tolerance: f32) {
    assert_eq!(map.method().as_str(), expected.method);
    assert_eq!((map.source.hidden_dim, map.target.hidden_dim), (expected.source_dim, expected.target_dim));
    assert_eq!(map.anchor_count, expected.anchor_count);
    assert_close("target_norm", map.target_norm, expected.target_norm, 1e-6);
    assert_close("validation_score", map.validation_score, expected.validation_score, score_tolerance);
}

#[test]
fn maps_made_without_training_equal_the_peers() {
    for_each::<Transferred>("0.6.2", |source, target, pair| {
        let rosetta = Rosetta::calibrate(source, target, &CalibrateOptions::default()).unwrap();
        let map = rosetta.map();
        assert_facts(map, &pair.map, 1e-6);
        assert_eq!(Some(map.overlap_count()), pair.map.overlap_count);
        let expected = pair.map.src_indices.as_deref().zip(pair.map.tgt_indices.as_deref());
        assert_eq!(map.overlap_ids(), expected);
    });
}

#[test]
fn projected_vectors_and_their_metrics_equal_the_peers() {
    for_each::<Transferred>("0.6.2", |source, target, pair| {
        let rosetta = Rosetta::calibrate(source, target, &CalibrateOptions::default()).unwrap();
        for case in &pair.cases {
            let what = format!("{} to {}, {} steps", pair.source, pair.target, case.steps);
            // First the peer's hidden state, then ours, so that errors of the steps and of the map do not cancel.
            let projection = rosetta.projector().project(&case.hidden_state).unwrap();
            let difference = largest_difference(&projection.vector, &case.projected);
            assert!(difference <= TOLERANCE, "{what}: {difference}");
            let metrics = projection.metrics.unwrap();
            for (name, value) in [
                ("entropy", metrics.entropy),
                ("max_prob", metrics.max_prob),
                ("logit_gap", metrics.logit_gap),
                ("hidden_state_norm", projection.hidden_state_norm),
                ("nearest_cos_sim", rosetta.projector().nearest_cosine(&projection).unwrap().unwrap()),
            ] {
                assert_close(&format!("{what}, {name}"), value, case.metrics[name], TOLERANCE);
            }
            let thought = think(source, case.prompt.as_str(), case.steps, None);
            let difference =
                largest_difference(&rosetta.transfer(&thought).unwrap().projection.vector, &case.projected);
            assert!(difference <= TOLERANCE, "{what}, from the prompt on: {difference}");
        }
    });
}

#[test]
fn answers_after_a_transfer_equal_the_peers() {
    for_each::<Transferred>("0.6.2", |source, target, pair| {
        let rosetta = Rosetta::calibrate(source, target, &CalibrateOptions::default()).unwrap();
        for case in &pair.cases {
            let thought = think(source, case.prompt.as_str(), case.steps, None);
            let transfer = rosetta.transfer(&thought).unwrap();
            let context = &transfer.context;
            assert_eq!((context.seq_len(), context.num_steps()), (case.seq_len, case.num_steps));
            assert_eq!(context.identity(), target.identity());
            let diagnostics = rosetta.diagnose(&transfer).unwrap();
            assert_eq!(diagnostics.projection_method, pair.map.method.to_uppercase());
            assert_eq!((diagnostics.quality_gate_passed, diagnostics.healthy()), (Some(true), true));
            let nearest = diagnostics.nearest_cos_sim.unwrap() as f32;
            assert_close("nearest", nearest, case.metrics["nearest_cos_sim"], TOLERANCE);
            let options = GenerateOptions { max_tokens: case.tokens.len(), ..GenerateOptions::default() };
            let generation = target.generate(case.question.as_str(), Some(context), &options).unwrap();
            assert_eq!(generation.finish, Finish::MaxTokens);
            assert_eq!(generation.tokens, case.tokens, "{} to {}", pair.source, pair.target);
        }
    });
}

#[test]
fn one_call_thinks_with_the_source_and_answers_with_the_target() {
    // One tokenizer, and two that differ.
    for (source, target, method) in [
        ("tiny-qwen2", "tiny-wide", Method::VocabMediated),
        ("tiny-qwen2", "tiny-other", Method::VocabOverlap),
    ] {
        let what = format!("{source} to {target}");
        let (source, target) = (model(source), model(target));
        let same_tokenizer = source.identity().tokenizer_hash == target.identity().tokenizer_hash;
        assert_eq!(same_tokenizer, method == Method::VocabMediated, "{what}");
        let rosetta = Rosetta::calibrate(&source, &target, &CalibrateOptions::default()).unwrap();
        let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
        let answer = rosetta.generate("Where does Rosa live?", 8, &options).unwrap();
        assert_eq!(answer.transfer.method, method, "{what}");
        let thought = think(&source, "Where does Rosa live?", 8, None);
        let context = rosetta.transfer(&thought).unwrap().context;
        let by_hand = target.generate("Where does Rosa live?", Some(&context), &options).unwrap();
        assert_eq!(answer.generation.tokens, by_hand.tokens, "{what}");
        let alone = target.generate("Where does Rosa live?", None, &options).unwrap();
        assert_ne!(answer.generation.tokens, alone.tokens, "{what}: the thought changed nothing");
    }
}

#[test]
fn a_learned_rotation_between_models_of_one_width_keeps_angles_and_is_stored() {
    let (source, target) = (model("tiny-qwen2"), load("test-vectors/models/optimum-mistral"));
    let options = CalibrateOptions { method: Some(Method::Procrustes), ..CalibrateOptions::default() };
    let rosetta = Rosetta::calibrate(&source, &target, &options).unwrap();
    let map = rosetta.map();
    assert_eq!((map.method(), map.anchor_count), (Method::Procrustes, 80));
    assert!((-1. ..=1.).contains(&map.validation_score), "{}", map.validation_score);

    let hidden = |phase: f32| (0..32).map(|at| (at as f32 * 0.7 + phase).sin()).collect::<Vec<f32>>();
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    let cosine = |one: &[f32], other: &[f32]| dot(one, other) / (dot(one, one) * dot(other, other)).sqrt();
    let project = |vector: &[f32]| rosetta.projector().project(vector).unwrap().vector;
    for phase in [0.1, 0.8, 2.5] {
        let (one, other) = (hidden(0.), hidden(phase));
        let turned = (project(&one), project(&other));
        assert_close("angle", cosine(&turned.0, &turned.1), cosine(&one, &other), TOLERANCE);
        assert_close("norm", dot(&turned.0, &turned.0).sqrt(), map.target_norm, TOLERANCE);
        assert!(cosine(&turned.0, &one) < 0.99, "nothing was turned");
    }

    let root = tempfile::tempdir().unwrap();
    let folder = MapFolder::at(root.path());
    folder.save(map).unwrap();
    let stored = folder.load(&source.identity().model_hash, &target.identity().model_hash).unwrap().unwrap();
    let stored = Rosetta::with_map(&source, &target, stored).unwrap();
    let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
    let answers = [&rosetta, &stored].map(|rosetta| rosetta.generate("Where is Rosa?", 4, &options).unwrap());
    assert_eq!(answers[0].transfer.method, Method::Procrustes);
    assert_eq!(answers[0].generation.tokens, answers[1].generation.tokens);
}

/// `tiny-other` with a tokenizer that renames all but `known` tokens.
fn renamed(known: usize) -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(repository("test-vectors/rosetta/tiny-other")).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // Merges are written in the old names.
    tokenizer["model"]["merges"] = Value::Array(Vec::new());
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let names: Vec<(String, Value)> = std::mem::take(vocabulary).into_iter().collect();
    for (position, (name, id)) in names.into_iter().enumerate() {
        let special = name.starts_with('<');
        let name = if position < known || special { name } else { format!("{name}\u{1}") };
        vocabulary.insert(name, id);
    }
    fs::write(&path, tokenizer.to_string()).unwrap();
    let model = Model::load(runtime(), folder.path(), &LoadOptions::default()).unwrap();
    (folder, model)
}

#[test]
fn vocabularies_with_fewer_than_a_hundred_shared_tokens_are_refused() {
    let source = model("tiny-qwen2");
    let shared = |known| {
        let (_folder, target) = renamed(known);
        match Rosetta::calibrate(&source, &target, &CalibrateOptions::default()) {
            Ok(rosetta) => Ok(rosetta.map().overlap_count()),
            Err(RosettaError::TooFewSharedTokens { shared, expected: 100 }) => Err(shared),
            Err(other) => panic!("{other}"),
        }
    };
    // Some of the kept tokens are not in the source's vocabulary: start below the limit and add one at a time.
    let few = shared(60).unwrap_err();
    let mut known = 60 + 99 - few;
    let mut last = shared(known).unwrap_err();
    assert!(few <= last, "{few} {last}");
    let first = loop {
        known += 1;
        match shared(known) {
            Ok(count) => break count,
            Err(count) => {
                assert!((last..100).contains(&count), "{count}");
                last = count;
            }
        }
    };
    assert_eq!((last, first), (99, 100));
}

#[test]
fn validation_gives_the_peers_numbers_and_verdicts() {
    for_each::<Transferred>("0.6.2", |source, target, pair| {
        let rosetta = Rosetta::calibrate(source, target, &CalibrateOptions::default()).unwrap();
        let recorded = pair.validation.as_ref().unwrap();
        let options = ValidateOptions::default();
        assert_eq!(options.texts, recorded.texts);
        let open = ValidateOptions { cosine_threshold: -1., ..options.clone() };
        for (options, expected) in [(&options, &recorded.default), (&open, &recorded.open)] {
            let Some(expected) = expected else { continue };
            let found = rosetta.validate(options).unwrap();
            assert_close("cosine", found.cosine_similarity, expected.cosine_similarity, TOLERANCE);
            assert_eq!(found.perplexity.is_some(), expected.perplexity.is_some());
            if let (Some(found), Some(expected)) = (found.perplexity, expected.perplexity) {
                assert_close("perplexity", found, expected, 1e-4);
            }
            assert_eq!(
                (found.recommended_mode, &found.detail),
                (expected.recommended_mode, &expected.detail)
            );
        }
        if let Some(expected) = &recorded.translated {
            let found = rosetta.validate(&options).unwrap();
            assert_close("cosine", found.cosine_similarity, expected.cosine_similarity, TOLERANCE);
            assert_eq!((found.recommended_mode, found.perplexity), (Mode::Json, None));
            let open = rosetta.validate(&open).unwrap();
            assert_eq!((open.recommended_mode, open.perplexity), (Mode::Latent, None));
            assert!(open.detail.contains("(moderate) — no shared tokenizer"), "{}", open.detail);
        }
    });
}

#[test]
fn ridge_maps_from_the_same_anchors_project_as_the_peers_do() {
    for_each::<Learned>("0.2.1", |source, target, pair| {
        let options = CalibrateOptions { method: Some(Method::Ridge), ..CalibrateOptions::default() };
        let rosetta = Rosetta::calibrate(source, target, &options).unwrap();
        // The peer solves in float32.
        assert_facts(rosetta.map(), &pair.map, 1e-4);
        for case in &pair.cases {
            let projection = rosetta.projector().project(&case.hidden_state).unwrap();
            assert_eq!(projection.metrics, None);
            let what = format!("{} to {}", pair.source, pair.target);
            let difference = largest_difference(&projection.vector, &case.projected_float64);
            assert!(difference <= TOLERANCE * 2., "{what}: {difference}");
            let difference = largest_difference(&projection.vector, &case.projected);
            assert!(difference <= 2e-3, "{what}, as the peer solves it: {difference}");
            let thought = think(source, case.prompt.as_str(), 0, None);
            let ours = rosetta.transfer(&thought).unwrap().projection.vector;
            assert!(largest_difference(&ours, &case.projected_float64) <= TOLERANCE * 2., "{what}");
        }
    });
}

#[test]
fn a_stored_map_projects_the_same_vectors() {
    let (source, target) = (model("tiny-llama"), model("tiny-other"));
    let root = tempfile::tempdir().unwrap();
    let folder = MapFolder::at(root.path());
    let thought = think(&source, "Rosa has a parrot.", 2, None);
    for method in [None, Some(Method::Ridge)] {
        let options = CalibrateOptions { method, ..CalibrateOptions::default() };
        let made = Rosetta::calibrate(&source, &target, &options).unwrap();
        folder.save(made.map()).unwrap();
        let (from, to) = (&source.identity().model_hash, &target.identity().model_hash);
        let stored = folder.load(from, to).unwrap().unwrap();
        let stored = Rosetta::with_map(&source, &target, stored).unwrap();
        let [made, stored] = [made, stored].map(|rosetta| rosetta.transfer(&thought).unwrap().projection);
        assert_eq!(made, stored);
    }
}

#[test]
fn a_map_written_by_python_is_read() {
    let map = AvpMap::load(&repository("test-vectors/rosetta/peer.avp-map")).unwrap();
    let pair = record::<Transferred>("0.6.2").remove(2);
    assert_facts(&map, &pair.map, 1e-6);
    let (source, target) = (model(&pair.source), model(&pair.target));
    let rosetta = Rosetta::with_map(&source, &target, map).unwrap();
    for case in &pair.cases {
        let projection = rosetta.projector().project(&case.hidden_state).unwrap();
        assert!(largest_difference(&projection.vector, &case.projected) <= TOLERANCE);
    }
}

#[test]
fn a_long_prompt_fails_the_quality_gate_but_not_the_transfer() {
    let (source, target) = (model("tiny-qwen2"), model("tiny-wide"));
    let quality = QualityConfig { max_prompt_tokens: 3, ..QualityConfig::default() };
    let options = TransferOptions { quality, ..TransferOptions::default() };
    let rosetta = Rosetta::calibrate(&source, &target, &CalibrateOptions::default()).unwrap();
    let thought = think(&source, "Rosa has a parrot.", 5, None);
    let advice = rosetta.transfer(&thought).unwrap().quality;
    assert_eq!((advice.recommend_latent, advice.prompt_tokens), (true, thought.seq_len() - 5));
    let transfer = rosetta.with_options(options).transfer(&thought).unwrap();
    assert!(!transfer.quality.recommend_latent && transfer.context.seq_len() == 1);
}

#[test]
fn a_smaller_tail_reads_more_rows_with_errors_within_the_bound() {
    let (source, target) = (model("tiny-wide"), model("tiny-qwen2"));
    let project = |tail| {
        let project = ProjectOptions { tail, ..ProjectOptions::default() };
        let options = TransferOptions { project, ..TransferOptions::default() };
        let rosetta = Rosetta::calibrate(&source, &target, &CalibrateOptions::default()).unwrap();
        let thought = think(&source, "Rosa has a parrot.", 2, None);
        rosetta.with_options(options).transfer(&thought).unwrap().projection
    };
    let all = project(0.);
    assert_eq!((all.rows_read, all.error_bound), (320, 0.));
    let mut rows = all.rows_read;
    for tail in [1e-3, 1e-2, 1e-1] {
        let some = project(tail);
        assert!(some.rows_read < rows, "{} of {rows} rows at {tail}", some.rows_read);
        rows = some.rows_read;
        let off: f32 = some.vector.iter().zip(&all.vector).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        assert!(off <= some.error_bound + 1e-5, "{off} is more than {}", some.error_bound);
    }
}

#[test]
fn invalid_transfers_are_refused_by_name() {
    let (qwen, wide, other) = (model("tiny-qwen2"), model("tiny-wide"), model("tiny-other"));
    let default = CalibrateOptions::default();
    let with = |method| CalibrateOptions { method: Some(method), ..CalibrateOptions::default() };
    let refused = |source, target, options: &CalibrateOptions| {
        Rosetta::calibrate(source, target, options).map(|_| ()).unwrap_err()
    };
    assert!(matches!(refused(&qwen, &qwen, &default), RosettaError::SameModel { .. }));
    let mediated = refused(&qwen, &other, &with(Method::VocabMediated));
    assert!(matches!(mediated, RosettaError::Method { method: Method::VocabMediated, .. }));
    let rotated = refused(&qwen, &wide, &with(Method::Procrustes));
    assert!(matches!(rotated, RosettaError::Method { method: Method::Procrustes, .. }));
    let four = CalibrateOptions { anchors: vec!["text".to_owned(); 4], ..with(Method::Ridge) };
    assert!(matches!(refused(&qwen, &wide, &four), RosettaError::Method { method: Method::Ridge, .. }));

    let rosetta = Rosetta::calibrate(&qwen, &wide, &default).unwrap();
    let theirs = think(&other, "text", 1, None);
    assert!(matches!(rosetta.transfer(&theirs), Err(RosettaError::Run(_))));
    let frame = think(&qwen, "text", 1, None).to_frame(&FrameOptions::default()).unwrap();
    let received = Context::from_frame(runtime(), &frame).unwrap();
    assert!(matches!(rosetta.transfer(&received), Err(RosettaError::NoHiddenState)));
    let map = rosetta.map().clone();
    let swapped = Rosetta::with_map(&wide, &qwen, map).map(|_| ()).unwrap_err();
    assert!(matches!(swapped, RosettaError::OtherModels { field: "source_hash", .. }));
}

/// The folders of `test-vectors/models` whose graph is in the folder itself.
fn families() -> Vec<String> {
    let folders = fs::read_dir(repository("test-vectors/models")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = folders
        .filter(|folder| folder.join("model.onnx").is_file())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 8, "{names:?}");
    names
}

#[test]
fn every_family_is_a_source_and_a_target_with_any_weight_format() {
    let (source, target) = (model("tiny-qwen2"), model("tiny-wide"));
    let options = GenerateOptions { max_tokens: 2, ..GenerateOptions::default() };
    for name in families() {
        let family = load(&format!("test-vectors/models/{name}"));
        for (from, to) in [(&family, &target), (&source, &family)] {
            let rosetta = Rosetta::calibrate(from, to, &CalibrateOptions::default())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let answer = rosetta.generate("Rosa has a parrot.", 2, &options).unwrap();
            let vector = &answer.transfer.projection.vector;
            assert_eq!(vector.len(), to.identity().hidden_dim as usize, "{name}");
            let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            assert!((norm / rosetta.map().target_norm - 1.).abs() < 1e-4, "{name}");
        }
    }
}

#[test]
fn projections_are_close_in_three_number_formats() {
    let target = model("tiny-other");
    let project = |name: &str| {
        let source = load(&format!("test-vectors/models/{name}"));
        let rosetta = Rosetta::calibrate(&source, &target, &CalibrateOptions::default()).unwrap();
        let width = source.identity().hidden_dim;
        let hidden: Vec<f32> = (0..width).map(|at| (at as f32 * 0.7).sin()).collect();
        rosetta.projector().project(&hidden).unwrap().vector
    };
    let exact = project("genai-qwen2-fp32");
    let off = |name: &str| largest_difference(&project(name), &exact);
    let (half, int4) = (off("genai-qwen2-fp16"), off("genai-qwen2-int4"));
    assert!(half <= 2e-3 && half < int4 && int4 <= 0.3, "fp16 {half}, int4 {int4}");
}
