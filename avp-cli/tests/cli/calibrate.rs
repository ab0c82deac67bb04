//! `avp calibrate`, and `avp think --steps auto` after it.

use std::{path::Path, process::Output};

use serde_json::Value;

use crate::common::{failure, program, repository, stdout, text};

/// The program with a cache folder of its own.
fn avp(cache: &Path, arguments: &[&str]) -> Output {
    program().args(arguments).env("AVP_CACHE_DIR", cache).output().unwrap()
}

#[test]
fn automatic_steps_are_what_was_measured_and_nothing_before() {
    let cache = tempfile::tempdir().unwrap();
    let model = repository("models/facts").display().to_string();
    let think = |steps: &str| {
        avp(cache.path(), &["think", &model, "--prompt", "Rosa has a parrot.", "--steps", steps, "-o", "-"])
    };
    assert!(failure(&think("auto")).contains("run `avp calibrate`"));
    let uncalibrated = think("2");
    stdout(&uncalibrated);
    assert!(text(&uncalibrated.stderr).contains("not calibrated"));

    let arguments = [
        "calibrate",
        &model,
        "--limit",
        "2",
        "--steps",
        "0,2,1",
        "--form",
        "peer",
        "--max-tokens",
        "2",
        "--json",
        "-",
    ];
    let output = avp(cache.path(), &arguments);
    let report: Value = serde_json::from_slice(stdout(&output)).unwrap();
    let tried: Vec<_> =
        report["measured"].as_array().unwrap().iter().map(|one| one["steps"].as_u64().unwrap()).collect();
    assert_eq!(tried, [0, 1, 2]);
    assert_eq!((&report["steps"], &report["measured"][0]["surprise"]), (&0.into(), &0.0.into()));

    // Two questions prove nothing, so no steps are recommended.
    let context = stdout(&think("auto")).to_vec();
    assert_eq!(context, stdout(&think("0")));
    let measured = think("2");
    assert!(text(&measured.stderr).contains("2 steps of form peer answered"), "{}", text(&measured.stderr));
    let formed = ["think", &model, "--prompt", "x", "--steps", "auto", "--form", "token", "-o", "-"];
    assert!(failure(&avp(cache.path(), &formed)).contains("leave the form out"));
}

#[test]
fn a_calibration_that_cannot_be_kept_is_told_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let model = repository("models/facts").display().to_string();
    let arguments =
        ["calibrate", &model, "--limit", "1", "--steps", "1", "--form", "token", "--max-tokens", "1"];
    let output = avp(&file, &arguments);
    assert!(text(&output.stdout).contains("| token |"), "{}", text(&output.stdout));
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains(&file.display().to_string()), "{error}");
}
