//! Every supported family and number format: tiny models from the real exporters, compared with the records of
//! `tools/models/record.py`.
//!
//! Float32 exports are compared with Transformers. Other exports have other weights than their source, so they are compared
//! with ONNX Runtime on the export itself, run step by step in Python.

use std::{fs, path::Path};

use avp_core::{Frame, KvDType, KvView};
use avp_runtime_ort::{
    CheckOptions, Context, Dtype, FrameOptions, GenerateOptions, LoadOptions, Model, ModelError, Prompt,
    ThinkOptions, check_prepared, prepare_report,
};
use serde::Deserialize;

use crate::common::{repository, runtime, think};

#[derive(Deserialize)]
struct Record {
    prompt: String,
    prompt_ids: Vec<u32>,
    question: String,
    question_ids: Vec<u32>,
    steps: usize,
    tied: bool,
    graphs: Vec<Graph>,
}

#[derive(Deserialize)]
struct Graph {
    file: String,
    reference: String,
    difference_to_transformers: Difference,
    logits: Vec<f32>,
    hidden: Vec<f32>,
    latent_hidden: Vec<f32>,
    greedy: Vec<u32>,
    answer: Vec<u32>,
}

/// The difference of the export to its source network, relative to the largest value, as computed in Python.
#[derive(Deserialize)]
struct Difference {
    logits: f32,
    hidden: f32,
}

/// Folder, dtype, embedding, head, type of latents, and whether past and present may share a buffer.
type Expected = (&'static str, Option<Dtype>, &'static str, &'static str, KvDType, bool);

const F32: KvDType = KvDType::Float32;
const F16: KvDType = KvDType::Float16;
const COMMUNITY: &str = "community-qwen2";

const MODELS: [Expected; 21] = [
    ("optimum-mistral", None, "Gather", "MatMul", F32, false),
    ("optimum-gemma", None, "Gather", "MatMul", F32, false),
    ("optimum-gemma2", None, "Gather", "MatMul", F32, false),
    ("optimum-phi3", None, "Gather", "MatMul", F32, false),
    ("optimum-gpt2", None, "Gather", "MatMul", F32, false),
    ("genai-qwen2-fp32", None, "Gather", "MatMul", F32, true),
    ("genai-qwen2-fp16", None, "Gather", "MatMul", F16, false),
    ("genai-qwen2-int4", None, "GatherBlockQuantized", "MatMulNBits", F32, true),
    ("genai-qwen2-fp16-cuda", None, "Gather", "MatMul", F16, true),
    ("genai-llama-fp32", None, "Gather", "MatMul", F32, true),
    ("genai-llama-fp16", None, "Gather", "MatMul", F16, false),
    ("genai-llama-fp16-cuda", None, "Gather", "MatMul", F16, true),
    ("genai-llama-int4", None, "Gather", "MatMulNBits", F32, true),
    ("genai-gemma-int4", None, "GatherBlockQuantized", "MatMulNBits", F32, true),
    (COMMUNITY, None, "Gather", "MatMul", F32, false),
    (COMMUNITY, Some(Dtype::Fp16), "Gather", "MatMul", F16, false),
    (COMMUNITY, Some(Dtype::Q4), "Gather", "MatMulNBits", F32, false),
    (COMMUNITY, Some(Dtype::Q4F16), "GatherBlockQuantized", "MatMulNBits", F16, false),
    (COMMUNITY, Some(Dtype::Int8), "Gather and DequantizeLinear", "MatMulInteger", F32, false),
    (COMMUNITY, Some(Dtype::Uint8), "Gather and DequantizeLinear", "MatMulInteger", F32, false),
    (COMMUNITY, Some(Dtype::Bnb4), "Gather", "MatMulBnb4", F32, false),
];

fn record(folder: &str) -> Record {
    let path = repository("test-vectors/models").join(folder).join("record.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

struct Fixture {
    name: String,
    record: Record,
    graph: usize,
    expected: Expected,
}

fn fixtures() -> impl Iterator<Item = Fixture> {
    MODELS.into_iter().map(|expected| {
        let (folder, dtype, ..) = expected;
        let record = record(folder);
        let file = dtype.unwrap_or(Dtype::Fp32).file_name();
        let graph = record.graphs.iter().position(|graph| Path::new(&graph.file).ends_with(&file)).unwrap();
        Fixture { name: format!("{folder}/{file}"), record, graph, expected }
    })
}

impl Fixture {
    fn folder(&self) -> std::path::PathBuf {
        repository("test-vectors/models").join(self.expected.0)
    }

    fn options(&self) -> LoadOptions {
        LoadOptions { dtype: self.expected.1, ..LoadOptions::default() }
    }

    fn load(&self) -> Model {
        Model::load(runtime(), self.folder(), &self.options())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn graph(&self) -> &Graph {
        &self.record.graphs[self.graph]
    }

    /// How far from Transformers an export may be that rounds its weights so, over the largest value there: docs/models.md has
    /// the same numbers.
    fn distance_to_transformers(&self) -> f32 {
        match self.expected {
            (_, _, _, "MatMulNBits" | "MatMulBnb4", ..) => 0.2,
            (_, _, _, "MatMulInteger", ..) => 0.05,
            (_, _, _, _, F16, _) => 2e-3,
            _ => 1e-4,
        }
    }

    /// What Transformers says where the export was made of the same network.
    fn transformers(&self) -> Graph {
        let folder = match self.expected.0 {
            name if name.contains("qwen2") => COMMUNITY,
            name if name.contains("llama") => "genai-llama-fp32",
            "genai-gemma-int4" => "optimum-gemma",
            name => name,
        };
        let of_transformers = |graph: &Graph| graph.reference == "transformers";
        record(folder).graphs.into_iter().find(of_transformers).unwrap()
    }

    /// The largest allowed difference to the reference, over its largest value: 1e-4 in float32; in half precision twenty steps of
    /// its 11 bits, which eight latent steps add up; with activations of 8 bits four of their roundings, because the reference was
    /// recorded on another processor, whose last bits of float32 differ and can round to the next integer.
    fn tolerance(&self) -> f32 {
        match self.expected {
            (_, _, _, "MatMulInteger", ..) => 1.0 / 64.0,
            (_, _, _, _, F16, _) => 1e-2,
            _ => 1e-4,
        }
    }

    fn assert_close(&self, what: &str, actual: &[f32], expected: &[f32]) {
        let difference = relative(actual, expected);
        eprintln!("{}: {what}: differs from {} by {difference:.1e}", self.name, self.graph().reference);
        assert!(difference <= self.tolerance(), "{}: {what}: differs by {difference}", self.name);
    }
}

fn relative(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0.0, |largest: f32, value| largest.max(value.abs()))
    };
    assert!(actual.iter().all(|value| value.is_finite()));
    largest(&mut actual.iter().zip(expected).map(|(one, other)| one - other))
        / largest(&mut expected.iter().copied())
}

/// Greedy generation of the recorded number of tokens. The end-of-turn token is recorded last and not returned.
fn assert_greedy(
    fixture: &Fixture,
    model: &Model,
    prompt: &str,
    context: Option<&Context>,
    expected: &[u32],
) {
    let options = GenerateOptions { max_tokens: expected.len(), ..GenerateOptions::default() };
    let generation = model.generate(Prompt::Raw(prompt.to_owned()), context, &options).unwrap();
    let expected = expected.strip_suffix(&[2]).unwrap_or(expected);
    assert_eq!(generation.tokens, expected, "{}", fixture.name);
}

#[test]
fn the_report_lists_the_parts_of_each_graph() {
    for fixture in fixtures() {
        let report = prepare_report(fixture.folder(), &fixture.options()).unwrap();
        let (_, _, embedding, head, dtype, shared_buffers) = fixture.expected;
        assert_eq!(
            (&*report.embedding_operator, &*report.head_operator),
            (embedding, head),
            "{}",
            fixture.name
        );
        assert_eq!((report.dtype, report.cache.dtype), (dtype, dtype), "{}", fixture.name);
        assert_eq!(
            (report.tied, report.shared_buffers),
            (fixture.record.tied, shared_buffers),
            "{}",
            fixture.name
        );
        assert!(report.inputs.iter().any(|input| input == "input_ids"));
    }
}

#[test]
fn prepared_graphs_give_the_logits_of_their_export_and_of_the_reference() {
    for fixture in fixtures() {
        let options = CheckOptions {
            dtype: fixture.expected.1,
            prompt: Some(fixture.record.prompt_ids.clone()),
            ..CheckOptions::default()
        };
        let check = check_prepared(runtime(), fixture.folder(), &options).unwrap();
        let rounds_activations = fixture.expected.3 == "MatMulInteger";
        assert_eq!(check.report.quantized_activations, rounds_activations, "{}", fixture.name);
        assert_eq!(check.tolerance() == 1.0 / 64.0, rounds_activations, "{}", fixture.name);
        assert!(
            check.passed(),
            "{}: {:e} relative, {:e} absolute",
            fixture.name,
            check.relative,
            check.absolute
        );
        fixture.assert_close("logits", &check.logits, &fixture.graph().logits);
    }
}

#[test]
fn every_number_format_stays_within_its_distance_to_transformers() {
    for fixture in fixtures() {
        let (limit, name) = (fixture.distance_to_transformers(), &fixture.name);
        let recorded = &fixture.graph().difference_to_transformers;
        assert!(recorded.logits <= limit && recorded.hidden <= limit, "{name}: {limit}");

        let options = CheckOptions {
            dtype: fixture.expected.1,
            prompt: Some(fixture.record.prompt_ids.clone()),
            ..CheckOptions::default()
        };
        let logits = check_prepared(runtime(), fixture.folder(), &options).unwrap().logits;
        let context = think(&fixture.load(), Prompt::Raw(fixture.record.prompt.clone()), 0, None);
        let expected = fixture.transformers();
        for (what, own, expected) in [
            ("logits", &logits[..], &expected.logits),
            ("hidden state", context.last_hidden_state().unwrap(), &expected.hidden),
        ] {
            let difference = relative(own, expected);
            eprintln!("{name}: {what}: differs from Transformers by {difference:.1e}");
            assert!(difference <= limit, "{name}: {what}: differs from Transformers by {difference}");
        }
    }
}

#[test]
fn half_precision_stays_half_precision_in_buffers_contexts_and_frames() {
    for fixture in fixtures().filter(|fixture| fixture.expected.0.ends_with("fp16-cuda")) {
        let (model, prompt) = (fixture.load(), Prompt::Raw(fixture.record.prompt.clone()));
        assert!(prepare_report(fixture.folder(), &fixture.options()).unwrap().shared_buffers);
        let context = think(&model, prompt, fixture.record.steps, None);
        let frame = context.to_frame(&FrameOptions::default()).unwrap();
        let received = Context::from_frame(runtime(), &frame).unwrap();
        for context in [&context, &received] {
            assert_eq!(context.cache_layout().dtype, F16, "{}", fixture.name);
        }
        let frame = Frame::decode(&frame).unwrap();
        let payload = frame.payload().unwrap();
        let header = *KvView::decode(payload).unwrap().header();
        assert_eq!((header.dtype, header.seq_len as usize), (F16, context.seq_len()), "{}", fixture.name);
        // Behind what came, the same bytes are written as behind what was made here.
        let [one, other] = [&context, &received].map(|before| {
            let question = Prompt::Raw(fixture.record.question.clone());
            let behind = think(&model, question, 2, Some(before));
            Frame::decode(&behind.to_frame(&FrameOptions::default()).unwrap())
                .unwrap()
                .payload()
                .unwrap()
                .to_vec()
        });
        assert!(one == other, "{}", fixture.name);
    }
}

#[test]
fn hidden_states_latent_steps_and_greedy_tokens_equal_the_reference() {
    for fixture in fixtures() {
        let (model, record, graph) = (fixture.load(), &fixture.record, fixture.graph());
        let prompt = || Prompt::Raw(record.prompt.clone());
        assert_eq!(model.tokenize(&prompt()).unwrap(), record.prompt_ids, "{}", fixture.name);
        assert_eq!(model.tokenize(&Prompt::Raw(record.question.clone())).unwrap(), record.question_ids);
        let read = think(&model, prompt(), 0, None);
        fixture.assert_close("hidden state", read.last_hidden_state().unwrap(), &graph.hidden);
        let thought = think(&model, prompt(), record.steps, None);
        fixture.assert_close("latent steps", thought.last_hidden_state().unwrap(), &graph.latent_hidden);
        assert_greedy(&fixture, &model, &record.prompt, None, &graph.greedy);
        assert_greedy(&fixture, &model, &record.question, Some(&thought), &graph.answer);

        // What was thought is the same to a reader that got it as a frame.
        let frame = thought.to_frame(&FrameOptions::default()).unwrap();
        let received = Context::from_frame(runtime(), &frame).unwrap();
        assert_eq!(received.seq_len(), record.prompt_ids.len() + record.steps);
        assert_greedy(&fixture, &model, &record.question, Some(&received), &graph.answer);
    }
}

#[test]
fn a_missing_dtype_is_refused_with_a_list_of_existing_graphs() {
    let folder = repository("test-vectors/models").join(COMMUNITY);
    let options = LoadOptions { dtype: Some(Dtype::Quantized), ..LoadOptions::default() };
    match Model::load(runtime(), &folder, &options) {
        Err(ModelError::NoSuchGraph { wanted, there }) => {
            assert_eq!((&*wanted, there.len()), ("model_quantized.onnx", 7));
            assert!(
                there.iter().any(|file| Path::new(file) == Path::new("onnx/model_q4f16.onnx")),
                "{there:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

/// A download cache keeps contents under `blobs` and links to them from `snapshots/REVISION`.
#[cfg(unix)]
#[test]
fn a_downloaded_snapshot_loads_through_its_links() {
    use std::os::unix::fs::symlink;
    let cache = tempfile::tempdir().unwrap();
    let (snapshot, blobs) = (cache.path().join("snapshots/1"), cache.path().join("blobs"));
    fs::create_dir_all(snapshot.join("onnx")).unwrap();
    fs::create_dir(&blobs).unwrap();
    let source = repository("test-vectors/models").join(COMMUNITY);
    for (number, name) in
        ["config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data"].into_iter().enumerate()
    {
        let blob = blobs.join(number.to_string());
        fs::copy(source.join(name), &blob).unwrap();
        symlink(blob, snapshot.join(name)).unwrap();
    }
    let model = Model::load(runtime(), &snapshot, &LoadOptions::default()).unwrap();
    assert!(model.think(Prompt::Raw("x".into()), None, &ThinkOptions::steps(1)).is_ok());
}
