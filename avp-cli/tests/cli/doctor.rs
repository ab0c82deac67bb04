//! `avp doctor`: what it finds, and what it advises.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{avp, repository, stdout, text};

fn doctor(change: impl FnOnce(&mut Command) -> &mut Command) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_avp"));
    command.args(["doctor", "--json"]);
    change(&mut command).output().unwrap()
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["check"] == name).unwrap()
}

#[test]
fn a_machine_that_runs_models_passes_and_its_library_is_named() {
    let report: Value = serde_json::from_slice(stdout(&doctor(|command| command))).unwrap();
    assert_eq!(report["ok"], true);
    assert!(report["threads"].as_u64() > Some(0));
    let library = check(&report, "onnxruntime");
    assert!(library["path"].as_str().unwrap().contains("onnxruntime"), "{library}");
    assert_eq!((&library["status"], &check(&report, "run on cpu")["status"]), (&"ok".into(), &"ok".into()));
    let shown = avp(["doctor"]);
    assert!(text(stdout(&shown)).contains("Models can run here."));
}

#[test]
fn a_library_that_cannot_be_used_fails_with_the_reason_and_the_advice() {
    let wrong = repository("README.md");
    let output = doctor(|command| command.env("ORT_DYLIB_PATH", &wrong));
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let library = check(&report, "onnxruntime");
    assert_eq!((&report["ok"], &library["status"]), (&false.into(), &"error".into()));
    assert!(library["detail"].as_str().unwrap().contains("README.md"), "{library}");
    assert!(library["advice"].as_str().unwrap().contains("pip install onnxruntime"), "{library}");
}

#[test]
fn a_cache_folder_that_cannot_be_written_is_named_and_models_still_run() {
    let output = doctor(|command| command.env("AVP_CACHE_DIR", "/dev/null/cache"));
    let report: Value = serde_json::from_slice(stdout(&output)).unwrap();
    assert_eq!(report["ok"], true);
    let cache = check(&report, "cache folder");
    assert_eq!((&cache["status"], &cache["path"]), (&"warning".into(), &"/dev/null/cache".into()));
    let model = check(&report, "embedded model");
    assert_eq!(model["status"], "warning");
    for check in [cache, model] {
        assert!(check["advice"].as_str().unwrap().contains("AVP_CACHE_DIR"), "{check}");
    }
    assert_eq!(check(&report, "run on cpu")["status"], "ok");
}

#[test]
fn a_device_that_is_required_and_missing_fails_and_the_verdict_names_it() {
    let output = doctor(|command| command.args(["--device", "cuda:4000"]));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(1), &false.into()));
    assert_eq!(check(&report, "run on cuda")["status"], "error");
    assert_eq!(check(&report, "run on cpu")["status"], "ok");
    let shown = avp(["doctor", "--device", "cuda:4000"]);
    assert!(text(&shown.stdout).ends_with("Models cannot run on cuda:4000.\n"), "{}", text(&shown.stdout));
}
