//! `avp think` and `avp generate`: two processes, joined by a frame.

use std::{fs, path::Path};

use crate::common::{avp, avp_with_input, failure, repository, stdout, text};

const MODEL: &str = "test-vectors/parity/tiny-qwen2";
const OTHER_MODEL: &str = "test-vectors/parity/tiny-llama";

fn model() -> String {
    repository(MODEL).display().to_string()
}

fn think(output: &Path, steps: &str) {
    let output = output.display().to_string();
    let arguments = ["think", &model(), "--prompt", "Rosa has a parrot.", "--steps", steps, "-o", &output];
    assert!(stdout(&avp(arguments)).is_empty());
}

#[test]
fn a_frame_in_a_file_or_a_pipe_gives_the_same_answer() {
    let folder = tempfile::tempdir().unwrap();
    let frame = folder.path().join("frame.avp");
    think(&frame, "3");
    let generate = |context: &str, input: &[u8]| {
        let model = model();
        let arguments =
            ["generate", &model, "--context", context, "--prompt", "Who has a pet?", "--max-tokens", "12"];
        stdout(&avp_with_input(arguments, input)).to_vec()
    };
    let from_file = generate(&frame.display().to_string(), &[]);
    let piped = avp(["think", &model(), "--prompt", "Rosa has a parrot.", "--steps", "3", "-o", "-"]);
    assert_eq!(stdout(&piped), fs::read(&frame).unwrap());
    assert_eq!(generate("-", stdout(&piped)), from_file);
    assert!(!from_file.is_empty());
}

#[test]
fn thinking_continues_behind_a_frame() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1.avp"), folder.path().join("2.avp"));
    think(&first, "2");
    let arguments = [
        "think",
        &model(),
        "--prompt",
        "More.",
        "--steps",
        "3",
        "--context",
        &first.display().to_string(),
        "-o",
        &second.display().to_string(),
    ];
    stdout(&avp(arguments));
    let output = avp(["inspect".as_ref(), "--json".as_ref(), second.as_os_str()]);
    let record: serde_json::Value = serde_json::from_slice(stdout(&output)).unwrap();
    assert_eq!(record["extra"]["num_steps"], "5");
    assert_eq!(record["extra"]["model_family"], "qwen2");
    assert_eq!(record["checksum"]["ok"], true);
}

#[test]
fn a_context_of_the_python_package_is_taken_and_the_structural_match_reported() {
    let frame = repository(MODEL).join("context.avp").display().to_string();
    for command in [&["think", "--steps", "0", "-o", "-"][..], &["generate", "--max-tokens", "3"]] {
        let model = model();
        let output = avp(command.iter().copied().chain([&*model, "--prompt", "x", "--context", &*frame]));
        stdout(&output);
        assert!(text(&output.stderr).contains("model hash differs"), "{command:?}: {}", text(&output.stderr));
    }
}

#[test]
fn drawing_repeats_with_the_seed_and_differs_without() {
    let model = model();
    let draw = |seed: &str| {
        let arguments =
            ["generate", &model, "--prompt", "x", "--max-tokens", "20", "--temperature", "2", "--seed", seed];
        stdout(&avp(arguments)).to_vec()
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn a_context_of_another_model_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (frame, output) = (folder.path().join("frame.avp"), folder.path().join("out.avp"));
    think(&frame, "0");
    let other = repository(OTHER_MODEL).display().to_string();
    let frame = frame.display().to_string();
    let refused = avp(["generate", &other, "--prompt", "x", "--context", &frame]);
    assert!(failure(&refused).contains("num_layers"));
    assert!(refused.stdout.is_empty());
    let arguments =
        ["think", &other, "--prompt", "x", "--context", &frame, "-o", &output.display().to_string()];
    failure(&avp(arguments));
    assert!(!output.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_frame_cut_anywhere_is_refused_before_the_model_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let frame = folder.path().join("frame.avp");
    think(&frame, "0");
    let bytes = fs::read(&frame).unwrap();
    for length in [0, 11, 60, bytes.len() - 1] {
        let output = avp_with_input(
            ["generate", "/no/such/model", "--prompt", "x", "--context", "-"],
            &bytes[..length],
        );
        assert!(failure(&output).contains("standard input"), "{length}");
    }
}

#[test]
fn wrong_folders_and_libraries_are_told_in_one_sentence() {
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().display().to_string();
    assert!(failure(&avp(["generate", &empty, "--prompt", "x"])).contains("config.json"));
    let library = repository("README.md").display().to_string();
    let output = avp(["generate", &model(), "--prompt", "x", "--onnxruntime", &library]);
    assert!(failure(&output).contains("README.md"));
    let output = avp(["think", &model(), "--prompt", "x", "-o", "/no/such/folder/frame.avp"]);
    assert!(failure(&output).contains("/no/such/folder"));
    let output = avp(["generate", &model(), "--prompt", "x", "--temperature=-1"]);
    assert!(failure(&output).contains("temperature"));
    assert!(text(&output.stdout).is_empty());
}

#[test]
fn a_gpu_that_cannot_be_had_is_an_error_and_never_the_processor() {
    let folder = repository("models/facts");
    let asked = |device: &str| {
        let folder = folder.display().to_string();
        avp(["generate", folder.as_str(), "--prompt", "Hello", "--device", device])
    };
    assert!(asked("cpu").status.success());
    let gpu = asked("cuda:4000");
    assert!(failure(&gpu).contains("CUDA device 4000") && gpu.stdout.is_empty());
    assert_eq!(asked("gpu").status.code(), Some(2));
}
