//! Errors: broken model folders, prompts that do not fit, contexts of other models.

use std::{fs, path::Path};

use avp_core::{DecodeError, Frame, FrameEncoder, KvHeader, Metadata, PayloadType, Rule, kv};
use avp_runtime_ort::{
    CheckOptions, Context, ContextError, Finish, FrameOptions, GenerateOptions, LoadOptions, Model,
    ModelError, PrepareError, Prompt, RunError, ThinkOptions, check_prepared,
};
use tempfile::TempDir;

use crate::common::{load, repository, runtime, think};

/// A folder with the graph and config of `test-vectors/runtime/NAME` and a valid tokenizer.
fn folder(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for source in
        [repository("test-vectors/runtime").join(name), repository("test-vectors/parity/tiny-qwen2")]
    {
        for file in fs::read_dir(source).unwrap() {
            let file = file.unwrap();
            let target = folder.path().join(file.file_name());
            if file.file_type().unwrap().is_file() && !target.exists() {
                fs::copy(file.path(), target).unwrap();
            }
        }
    }
    folder
}

fn try_load(folder: &Path) -> Result<Model, ModelError> {
    Model::load(runtime(), folder, &LoadOptions::default())
}

fn refused(name: &str) -> ModelError {
    match try_load(folder(name).path()) {
        Ok(_) => panic!("{name} was loaded"),
        Err(error) => error,
    }
}

fn prepare_error(name: &str) -> PrepareError {
    match refused(name) {
        ModelError::Prepare(error) => error,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_unbroken_graph_of_the_refused_ones_loads() {
    let folder = folder("intact");
    let model = try_load(folder.path()).unwrap();
    assert_eq!(model.cache_layout().num_layers, 1);
    assert_eq!(think(&model, Prompt::Raw("a".into()), 2, None).num_steps(), 2);
}

#[test]
fn graphs_that_are_not_decoders_are_refused_with_the_missing_name() {
    for (name, lacks) in [
        ("no-cache", "input named past_key_values.0.key"),
        ("no-logits", "output named logits"),
        ("no-present", "output named present.0.value"),
    ] {
        let error = prepare_error(name);
        assert!(
            matches!(&error, PrepareError::NotADecoder { missing } if missing == lacks),
            "{name}: {error}"
        );
    }
}

#[test]
fn other_caches_and_split_embeddings_are_refused_by_name() {
    let error = prepare_error("past-conv");
    assert!(matches!(&error, PrepareError::UnsupportedCache { input } if input == "past_conv.0"), "{error}");
    let error = prepare_error("inputs-embeds");
    assert!(
        matches!(&error, PrepareError::NotADecoder { missing } if missing.contains("input_ids")),
        "{error}"
    );
    let error = prepare_error("no-gather");
    assert!(matches!(&error, PrepareError::Embedding { .. }), "{error}");
    let error = prepare_error("cyclic");
    assert!(matches!(&error, PrepareError::Embedding { .. }), "{error}");
}

#[test]
fn hostile_graphs_are_refused_by_the_node_or_weight() {
    let head_at = |name: &str, expected: &str| match prepare_error(name) {
        PrepareError::Head { node, .. } => assert_eq!(node, expected, "{name}"),
        other => panic!("{name}: {other:?}"),
    };
    head_at("absent-initializer", "/lm_head/MatMul");
    head_at("cyclic-head", "logits");
    for (name, weight) in [("absurd-shape", "head"), ("huge-vocabulary", "head"), ("absurd-blocks", "packed")]
    {
        let error = prepare_error(name);
        assert!(matches!(&error, PrepareError::Weight { name, .. } if name == weight), "{name}: {error}");
    }
    let error = prepare_error("huge-layer");
    assert!(
        matches!(&error, PrepareError::CacheInput { input, .. } if input.contains("4000000000")),
        "{error}"
    );
}

#[test]
fn unusual_heads_are_prepared_and_equal_the_export() {
    for (name, operator) in [("intact", "MatMul"), ("num-logits-to-keep", "MatMul"), ("gemm-head", "Gemm")] {
        let folder = folder(name);
        let check = check_prepared(runtime(), folder.path(), &CheckOptions::default()).unwrap();
        assert_eq!(check.report.head_operator, operator);
        assert!(check.report.tied && check.passed(), "{name}: {check:?}");
        let keeps = check.report.inputs.iter().any(|input| input == "num_logits_to_keep");
        assert_eq!(keeps, name == "num-logits-to-keep");
        let model = try_load(folder.path()).unwrap();
        let context = think(&model, Prompt::Raw("a word or two".into()), 3, None);
        assert_eq!(context.num_steps(), 3);
    }
}

#[cfg(unix)]
#[test]
fn weights_behind_a_link_that_leaves_the_folder_are_refused() {
    let folder = folder("external-data-missing");
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), [0; 1 << 14]).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("model.onnx_data")).unwrap();
    let error = try_load(folder.path()).unwrap_err();
    assert!(matches!(&error, ModelError::Prepare(PrepareError::ExternalPath { .. })), "{error}");
}

#[test]
fn weights_that_end_too_early_are_refused() {
    let folder = folder("external-data-missing");
    fs::write(folder.path().join("model.onnx_data"), [0; 64]).unwrap();
    let error = try_load(folder.path()).unwrap_err();
    assert!(
        matches!(&error, ModelError::Prepare(PrepareError::Weight { name, .. }) if name == "head"),
        "{error}"
    );
}

#[test]
fn configs_of_another_export_are_refused_by_field() {
    for (name, expected) in [
        ("kv-heads-mismatch", "num_key_value_heads"),
        ("layers-mismatch", "num_hidden_layers"),
        ("hidden-size-mismatch", "hidden_size"),
    ] {
        let error = refused(name);
        assert!(
            matches!(&error, ModelError::ConfigMismatch { field, .. } if *field == expected),
            "{name}: {error}"
        );
    }
}

#[test]
fn damaged_files_are_refused() {
    for name in ["truncated", "lfs-pointer"] {
        let error = prepare_error(name);
        assert!(matches!(error, PrepareError::Malformed { .. }), "{name}: {error}");
    }
    assert_eq!(prepare_error("empty"), PrepareError::NoGraph);
}

#[test]
fn external_data_is_found_beside_the_model_or_not_at_all() {
    let error = prepare_error("external-data-outside");
    assert!(matches!(error, PrepareError::ExternalPath { .. }), "{error}");
    let error = refused("external-data-missing");
    let message = error.to_string();
    assert!(message.contains("model.onnx_data"), "{message}");
}

#[test]
fn every_missing_file_is_named() {
    for file in ["config.json", "tokenizer.json", "model.onnx"] {
        let folder = folder("intact");
        fs::remove_file(folder.path().join(file)).unwrap();
        let error = try_load(folder.path()).unwrap_err();
        assert!(matches!(&error, ModelError::MissingFile { path } if path.ends_with(file)), "{error}");
    }
}

#[test]
fn errors_name_invalid_files() {
    let with = |file: &str, text: &str| {
        let folder = folder("intact");
        fs::write(folder.path().join(file), text).unwrap();
        try_load(folder.path()).unwrap_err()
    };
    assert!(matches!(with("config.json", "{\"hidden_size\":"), ModelError::Json { .. }));
    assert!(matches!(with("config.json", "{}"), ModelError::Json { .. }));
    assert!(matches!(with("generation_config.json", "7"), ModelError::Json { .. }));
    assert!(matches!(with("tokenizer.json", "{}"), ModelError::Tokenizer { .. }));
    assert!(matches!(with("chat_template.jinja", "a\n{% if %}"), ModelError::Template { line: Some(2), .. }));
}

#[test]
fn a_prompt_longer_than_the_window_is_refused_with_both_numbers() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let window = model.window();
    let long = "word ".repeat(window);
    let tokens = model.tokenize(&Prompt::from(long.as_str())).unwrap().len();
    let expected = RunError::PromptTooLong { tokens, window };
    assert_eq!(model.think(long.as_str(), None, &ThinkOptions::steps(0)).unwrap_err(), expected);
    assert_eq!(model.generate(long.as_str(), None, &GenerateOptions::default()).unwrap_err(), expected);
}

#[test]
fn a_context_that_fills_the_window_is_refused_and_stays_usable() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let context = think(&model, "Rosa lives in Lisbon.", 0, None);
    let prompt = model.tokenize(&Prompt::from("Where?")).unwrap().len();
    let steps = model.window();
    let expected =
        RunError::ContextTooLong { context: context.seq_len(), prompt, steps, window: model.window() };
    assert_eq!(model.think("Where?", Some(&context), &ThinkOptions::steps(steps)).unwrap_err(), expected);
    assert!(model.think("Where?", Some(&context), &ThinkOptions::steps(1)).is_ok());
}

#[test]
fn latent_steps_that_leave_no_room_for_the_answer_are_refused_before_the_model_runs() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let (prompt, window) = (model.tokenize(&"Where?".into()).unwrap().len(), model.window());
    // The prompt is read before and behind the steps, and one token is generated.
    let most = window - 2 * prompt - 1;
    let options = |steps| GenerateOptions { steps, max_tokens: 1, ..GenerateOptions::default() };
    let started = model.start_generate("Where?", None, &options(most + 1));
    let expected = RunError::ContextTooLong { context: prompt + most + 1, prompt, steps: 1, window };
    assert_eq!(started.err(), Some(expected));
    assert_eq!(model.generate("Where?", None, &options(most)).unwrap().context_tokens, prompt + most);
}

#[test]
fn generation_stops_at_the_end_of_the_window() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let prompt = || Prompt::Raw("x".into());
    let tokens = model.tokenize(&prompt()).unwrap().len();
    let room = 40;
    let context = think(&model, prompt(), model.window() - 2 * tokens - room, None);
    let options =
        GenerateOptions { max_tokens: 1000, temperature: 5.0, seed: 4, ..GenerateOptions::default() };
    let generation = model.generate(prompt(), Some(&context), &options).unwrap();
    assert_eq!(generation.finish, Finish::Window);
    // The last token needs no place: nothing is computed behind it.
    assert_eq!(generation.tokens.len(), room + 1);
}

#[test]
fn empty_prompts_and_options_out_of_range_are_refused() {
    let model = load("test-vectors/parity/tiny-qwen2");
    assert_eq!(
        model.think(Prompt::Raw(String::new()), None, &ThinkOptions::steps(1)).unwrap_err(),
        RunError::EmptyPrompt
    );
    let options = GenerateOptions { max_tokens: 0, ..GenerateOptions::default() };
    let error = model.generate("x", None, &options).unwrap_err();
    assert!(matches!(error, RunError::Option { option: "max_tokens", .. }), "{error}");
}

#[test]
fn a_context_of_another_model_is_refused_by_the_field_that_differs() {
    let qwen2 = load("test-vectors/parity/tiny-qwen2");
    let llama = load("test-vectors/parity/tiny-llama");
    let context = think(&qwen2, "x", 0, None);
    match llama.generate("y", Some(&context), &GenerateOptions::default()) {
        Err(RunError::Context(ContextError::OtherModel { field, expected, got })) => {
            assert_eq!((field, &*expected, &*got), ("num_layers", "3", "2"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_frame_of_the_python_package_is_taken_by_its_structure() {
    for name in ["tiny-qwen2", "tiny-llama"] {
        let path = format!("test-vectors/parity/{name}");
        let model = load(&path);
        let frame = fs::read(repository(&path).join("context.avp")).unwrap();
        let context = Context::from_frame(runtime(), &frame).unwrap();
        assert_eq!(model.accepts(&context), Ok(Rule::StructuralMatch));
        assert_eq!(context.num_steps(), 8);
        assert!(model.generate("y", Some(&context), &GenerateOptions::default()).is_ok());
    }
}

#[test]
fn our_own_frame_is_taken_by_its_hash() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let context = think(&model, "x", 3, None);
    let received =
        Context::from_frame(runtime(), &context.to_frame(&FrameOptions::default()).unwrap()).unwrap();
    assert_eq!(model.accepts(&received), Ok(Rule::HashMatch));
    assert_eq!((received.num_steps(), received.seq_len()), (3, context.seq_len()));
}

#[test]
fn frames_that_are_cut_or_changed_are_refused() {
    let model = load("test-vectors/parity/tiny-qwen2");
    let frame = think(&model, "x", 1, None).to_frame(&FrameOptions::default()).unwrap();
    for length in [0, 5, 11, 40, frame.len() - 1] {
        let error = Context::from_frame(runtime(), &frame[..length]).unwrap_err();
        assert!(matches!(error, ContextError::Decode(DecodeError::Truncated { .. })), "{length}: {error}");
    }
    let mut changed = frame;
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let error = Context::from_frame(runtime(), &changed).unwrap_err();
    assert!(matches!(error, ContextError::Decode(DecodeError::ChecksumMismatch { .. })), "{error}");
}

#[test]
fn frames_that_hold_something_else_or_contradict_themselves_are_refused() {
    let encode = |fields, body: &[u8]| FrameEncoder::new(fields).encode(body).unwrap();
    let hidden = encode(Metadata::default(), b"tensor");
    assert_eq!(
        Context::from_frame(runtime(), &hidden).unwrap_err(),
        ContextError::NotAKvCache { got: "hidden_state" }
    );

    let header = KvHeader {
        num_layers: 2,
        num_kv_heads: 1,
        head_dim: 1,
        seq_len: 1,
        dtype: avp_core::KvDType::Float32,
    };
    let body = kv::encode(header, [([0; 4], [0; 4]), ([0; 4], [0; 4])]).unwrap();
    let fields = Metadata { payload_type: PayloadType::KvCache, num_layers: 3, ..Metadata::default() };
    let error = Context::from_frame(runtime(), &encode(fields, &body)).unwrap_err();
    assert_eq!(error, ContextError::Contradiction { field: "num_layers", metadata: 3, body: 2 });

    let fields = Metadata {
        payload_type: PayloadType::KvCache,
        extra: (&[("num_steps", "many")]).into(),
        ..Metadata::default()
    };
    let error = Context::from_frame(runtime(), &encode(fields, &body)).unwrap_err();
    assert_eq!(error, ContextError::Extra { field: "num_steps" });

    let fields = Metadata { payload_type: PayloadType::KvCache, ..Metadata::default() };
    let empty = KvHeader { num_layers: 60_000, seq_len: 0, ..header };
    let error = Context::from_frame(runtime(), &encode(fields, &empty.encode())).unwrap_err();
    assert_eq!(error, ContextError::Empty { num_layers: 60_000, seq_len: 0 });

    let error = Context::from_frame(runtime(), &encode(fields, &body[..body.len() - 1])).unwrap_err();
    assert!(matches!(error, ContextError::Decode(DecodeError::KvShape { .. })), "{error}");
    assert!(Frame::decode(&encode(fields, &body)).is_ok());
}
