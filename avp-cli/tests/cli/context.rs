//! `avp think --save` and `avp context`: contexts kept in files.

use std::{fs, path::Path};

use serde_json::Value;

use crate::common::{avp, failure, repository, stdout, text};

const MODEL: &str = "test-vectors/parity/tiny-qwen2";
const OTHER_MODEL: &str = "test-vectors/parity/tiny-llama";

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn save(file: &str, prompt: &str, steps: &str, context: Option<&str>) {
    let model = repository(MODEL).display().to_string();
    let mut arguments = vec!["think", &model, "--prompt", prompt, "--steps", steps, "--save", file];
    arguments.extend(context.iter().flat_map(|context| ["--context", context]));
    assert!(stdout(&avp(arguments)).is_empty());
}

fn show(file: &str) -> Value {
    serde_json::from_slice(stdout(&avp(["context", "show", file, "--json", "--scan"]))).unwrap()
}

fn generate(context: &str) -> Vec<u8> {
    let model = repository(MODEL).display().to_string();
    let arguments = ["generate", &model, "--context", context, "--prompt", "Who?", "--max-tokens", "8"];
    stdout(&avp(arguments)).to_vec()
}

#[test]
fn a_saved_context_answers_as_a_frame_does_and_tells_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (file, frame) = (path(folder.path(), "saved.avp"), path(folder.path(), "frame.avp"));
    let model = repository(MODEL).display().to_string();
    let arguments = [
        "think",
        &model,
        "--prompt",
        "Rosa.",
        "--steps",
        "3",
        "--save",
        &file,
        "-o",
        &frame,
        "--dialect",
        "0.2",
    ];
    stdout(&avp(arguments));
    assert_eq!(generate(&file), generate(&frame));
    let (saved, sent) = (show(&file), show(&frame));
    assert_eq!((&saved["num_steps"], &saved["model_family"]), (&3.into(), &"qwen2".into()));
    assert_eq!(saved["rope_theta"], "1000000");
    let tokens = saved["tokens"].as_array().unwrap();
    assert_eq!(tokens.len() as u64, saved["seq_len"].as_u64().unwrap());
    assert_eq!(tokens.iter().filter(|token| token.is_null()).count(), 3);
    assert!(sent["tokens"].is_null() && sent["weights_hash"].is_null());
    // `avp inspect` reads it like any frame.
    let inspected = avp(["inspect", "--json", &file, &frame]);
    let mut lines = text(stdout(&inspected)).lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(lines.next().unwrap()["checksum"]["ok"], true);
    assert_eq!(lines.next().unwrap()["dialect"], "0.2");
    let fits = avp(["context", "show", &file, "--model", &model]);
    assert!(text(stdout(&fits)).contains("fits"));
    let other = repository(OTHER_MODEL).display().to_string();
    assert!(failure(&avp(["context", "show", &file, "--model", &other])).contains("num_layers"));
}

#[test]
fn a_tail_is_cut_and_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let [first, whole, tail, joined, short] =
        ["first", "whole", "tail", "joined", "short"].map(|name| path(folder.path(), name));
    save(&first, "Rosa has a parrot.", "2", None);
    save(&whole, "More.", "1", Some(&first));
    let from = show(&first)["seq_len"].to_string();
    stdout(&avp(["context", "tail", &whole, "--from", &from, "-o", &tail]));
    assert_eq!(show(&tail)["position_offset"].to_string(), from);
    stdout(&avp(["context", "append", &first, &tail, "-o", &joined]));
    assert_eq!(fs::read(&joined).unwrap(), fs::read(&whole).unwrap());
    stdout(&avp(["context", "truncate", &whole, "--tokens", &from, "-o", &short]));
    assert_eq!(generate(&short), generate(&first));
    assert!(failure(&avp(["context", "append", &tail, &first, "-o", &short])).contains("position 0"));
    let model = repository(MODEL).display().to_string();
    let behind_nothing = avp(["generate", &model, "--prompt", "x", "--context", &tail]);
    assert!(failure(&behind_nothing).contains("position"));
}

#[test]
fn layers_are_kept_for_a_model_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, first] = ["whole", "first"].map(|name| path(folder.path(), name));
    let [model, short] =
        ["models/genai-qwen2-fp32", "engine/one-layer"].map(|name| path(&repository("test-vectors"), name));
    stdout(&avp(["think", &model, "--prompt", "Rosa.", "--steps", "0", "--save", &whole]));
    assert!(failure(&avp(["context", "show", &whole, "--model", &short])).contains("num_layers"));
    stdout(&avp(["context", "layers", &whole, "--layers", "0..1", "-o", &first]));
    assert_eq!(show(&first)["num_layers"], 1);
    assert!(text(stdout(&avp(["context", "show", &first, "--model", &short]))).contains("fits"));
    let beyond = avp(["context", "layers", &whole, "--layers", "1..3", "-o", &first]);
    assert!(failure(&beyond).contains("layers"));
}

#[test]
fn a_longer_prompt_reuses_a_saved_context_and_comes_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [first, reusing, fresh] = ["first", "reusing", "fresh"].map(|name| path(folder.path(), name));
    save(&first, "Rosa has a parrot.", "2", None);
    let model = repository(MODEL).display().to_string();
    let think = ["think", &model, "--prompt", "Rosa has a parrot and a cat.", "--steps", "1", "--save"];
    let output = avp(think.iter().copied().chain([&*reusing, "--context", &first, "--reuse"]));
    stdout(&output);
    assert!(text(&output.stderr).contains("prompt tokens reused"));
    stdout(&avp(think.iter().copied().chain([&*fresh])));
    assert_eq!(show(&reusing)["tokens"], show(&fresh)["tokens"]);
    assert_eq!(generate(&reusing), generate(&fresh));
}

#[test]
fn files_that_are_no_contexts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = path(folder.path(), "empty.avp");
    fs::write(&empty, b"").unwrap();
    assert!(failure(&avp(["context", "show", &empty])).contains("empty.avp: the file is empty"));
    let missing = path(folder.path(), "missing.avp");
    assert!(failure(&avp(["context", "show", &missing])).contains("missing.avp"));
    let output = avp(["context", "truncate", &empty, "--tokens", "1", "-o", "/no/such/folder/file"]);
    assert!(failure(&output).contains("/no/such/folder"));
}

/// A limit on the size of files is a disk that is full after so many bytes.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_under_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "context.avp");
    let run = |limit: &str| {
        std::process::Command::new("sh")
            // Without the trap the signal would end the program before it could say anything.
            .args([
                "-c",
                "trap '' XFSZ; ulimit -f $0; exec \"$@\"",
                limit,
                env!("CARGO_BIN_EXE_avp"),
                "think",
            ])
            .arg(repository(MODEL))
            .args(["--prompt", "Rosa has a parrot. Rosa lives in Lisbon. Rosa is a baker.", "--save", &file])
            // Nothing is to be prepared, which writes a file too.
            .output()
            .unwrap()
    };
    stdout(&run("unlimited"));
    let whole = fs::read(&file).unwrap();
    assert!(whole.len() > 12 * 1024);
    // Blocks of 512 bytes or of 1024, as the shell has it: less than the file either way.
    let failed = run("8");
    assert!(failure(&failed).contains("context.avp"), "{}", text(&failed.stderr));
    // What was there before is there still, and nothing beside it.
    assert_eq!(fs::read(&file).unwrap(), whole);
    fs::remove_file(&file).unwrap();
    failure(&run("8"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
