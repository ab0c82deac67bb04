//! Real pretrained models: `cargo xtask test real` makes them, records what Transformers and `avp` 0.2.1 compute with them, and
//! runs these tests.
//!
//! `AVP_REAL_MODELS` names the folder that `tools/real/make.py` and `record.py` wrote, and `AVP_REAL_PYTHON` the interpreter that
//! has the peer.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use avp_runtime_ort::{
    CheckOptions, Context, FrameOptions, FrameReadOptions, GenerateOptions, LoadOptions, Model, Prompt,
    ThinkOptions, check_prepared,
};
use serde::Deserialize;

use crate::{
    common::{repository, runtime, think},
    parity::differences,
};

/// Of the norm of a tensor, for float32 caches behind up to 8 steps.
const TOLERANCE: f64 = 1e-4;
/// The same behind 20 steps: each step reads the result of the one before, and with 262,144 tokens the order in which a library sums
/// them shows.
const FAR_TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Record {
    greedy: Vec<Greedy>,
    latent: Vec<Latent>,
    frame: PeerFrame,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: String,
    rendered: String,
    prompt_ids: Vec<u32>,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Latent {
    prompt: String,
    rendered: String,
    steps: usize,
    kv_cache: String,
}

#[derive(Deserialize)]
struct PeerFrame {
    file: String,
    question: String,
    rendered: String,
    tokens: Vec<u32>,
}

struct Real {
    folder: PathBuf,
    model: Model,
    record: Record,
    /// Whether the model has a chat template.
    chats: bool,
}

impl Real {
    /// The models in float32.
    fn all() -> impl Iterator<Item = Self> {
        let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = folders.collect();
        folders.sort();
        assert!(!folders.is_empty());
        folders.into_iter().map(|folder| {
            let record = fs::read(folder.join("record/record.json")).unwrap();
            Self {
                model: load(&folder.join("fp32")),
                record: serde_json::from_slice(&record).unwrap(),
                chats: folder.join("fp32/chat_template.jinja").exists(),
                folder,
            }
        })
    }

    fn prompt(&self, text: &str, rendered: &str) -> Prompt {
        if self.chats { text.into() } else { Prompt::Raw(rendered.to_owned()) }
    }

    fn notes(&self) -> Prompt {
        let Latent { prompt, rendered, .. } = &self.record.latent[0];
        self.prompt(prompt, rendered)
    }

    fn question(&self) -> Prompt {
        let PeerFrame { question, rendered, .. } = &self.record.frame;
        self.prompt(question, rendered)
    }

    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }
}

fn root() -> PathBuf {
    PathBuf::from(env::var_os("AVP_REAL_MODELS").expect("cargo xtask test real sets AVP_REAL_MODELS"))
}

fn load(folder: &Path) -> Model {
    Model::load(runtime(), folder, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Transformers counts the token that ends a turn; this crate does not.
fn assert_answers(what: &str, ours: &[u32], expected: &[u32]) {
    let same = ours == expected || expected.split_last().is_some_and(|(_, text)| ours == text);
    assert!(same, "{what}: {ours:?}, expected {expected:?}");
}

fn options(expected: &[u32]) -> GenerateOptions {
    GenerateOptions { max_tokens: expected.len(), ..GenerateOptions::default() }
}

#[test]
#[ignore = "needs gigabytes: cargo xtask test real"]
fn twenty_prompts_are_rendered_tokenized_and_answered_as_by_transformers() {
    for real in Real::all() {
        assert_eq!(real.record.greedy.len(), 20);
        for Greedy { prompt, rendered, prompt_ids, tokens } in &real.record.greedy {
            let asked = real.prompt(prompt, rendered);
            assert_eq!(real.model.tokenize(&asked).unwrap(), *prompt_ids);
            let answer = real.model.generate(asked, None, &options(tokens)).unwrap();
            assert_answers(&format!("{}, {prompt}", real.name()), &answer.tokens, tokens);
        }
    }
}

#[test]
#[ignore = "needs gigabytes: cargo xtask test real"]
fn caches_behind_latent_steps_equal_the_peers() {
    for real in Real::all() {
        for Latent { prompt, rendered, steps, kv_cache } in &real.record.latent {
            let context = think(&real.model, real.prompt(prompt, rendered), *steps, None);
            let expected = fs::read(real.folder.join("record").join(kv_cache)).unwrap();
            let parts = differences(&context, &expected);
            let worst = parts.iter().max_by(|one, other| one.relative.total_cmp(&other.relative)).unwrap();
            let (name, part, relative) = (real.name(), &worst.part, worst.relative);
            println!("{name}, {steps} steps: {part} is {relative:.1e} off");
            let allowed = if *steps > 8 { FAR_TOLERANCE } else { TOLERANCE };
            assert!(relative <= allowed);
        }
    }
}

#[test]
#[ignore = "needs gigabytes: cargo xtask test real"]
fn frames_of_the_peer_and_ours_are_continued_alike_on_both_sides() {
    let python = env::var_os("AVP_REAL_PYTHON").expect("cargo xtask test real sets AVP_REAL_PYTHON");
    for real in Real::all() {
        let PeerFrame { file, tokens, .. } = &real.record.frame;
        let frame = fs::read(real.folder.join("record").join(file)).unwrap();
        let theirs = Context::from_bytes(runtime(), frame, &FrameReadOptions::default()).unwrap();
        let answer = real.model.generate(real.question(), Some(&theirs), &options(tokens)).unwrap();
        assert_answers(&real.name(), &answer.tokens, tokens);

        let ours = think(&real.model, real.notes(), 0, None);
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("ours.avp");
        fs::write(
            &path,
            ours.to_bytes(&FrameOptions { dialect: avp_core::Dialect::V0_2, ..FrameOptions::default() })
                .unwrap(),
        )
        .unwrap();
        let script = repository("tools/real/record.py");
        let read =
            Command::new(&python).arg(script).arg(&real.folder).arg("--read").arg(path).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        assert_eq!(serde_json::from_slice::<Vec<u32>>(&read.stdout).unwrap(), *tokens);
    }
}

#[test]
#[ignore = "needs gigabytes: cargo xtask test real"]
fn prepared_graphs_equal_their_exports() {
    let folders = Real::all().flat_map(|real| [real.folder.join("fp32"), real.folder.join("int4")]);
    for folder in folders.filter(|folder| folder.exists()) {
        let check = check_prepared(runtime(), &folder, &CheckOptions::default()).unwrap();
        println!("{}: {:.1e} off", folder.display(), check.relative);
        assert!(check.passed());
    }
}

#[test]
#[ignore = "needs gigabytes: cargo xtask test real"]
fn a_context_that_was_saved_or_cut_is_continued_as_it_was() {
    for real in Real::all() {
        let context = think(&real.model, real.notes(), 0, None);
        let answer = |context: &Context, options: &GenerateOptions| {
            real.model.generate(real.question(), Some(context), options).unwrap().tokens
        };
        let options = GenerateOptions { max_tokens: 16, ..GenerateOptions::default() };
        let expected = answer(&context, &options);
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("context.avp");
        context.save(&path).unwrap();
        let loaded = Context::load(runtime(), &path, &FrameReadOptions::default()).unwrap();
        assert_eq!(answer(&loaded, &options), expected);

        // What a cut leaves is read on from there.
        let first = loaded.truncate(loaded.seq_len() / 2).unwrap();
        let resumed = ThinkOptions { reuse_prefix: true, ..ThinkOptions::default() };
        let resumed = real.model.think(real.notes(), Some(&first), &resumed).unwrap();
        assert_eq!(resumed.reused_tokens, first.seq_len());
        assert_eq!(answer(&resumed.into_context().unwrap(), &options), expected);
    }
}
