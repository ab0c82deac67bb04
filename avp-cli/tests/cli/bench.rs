//! `avp bench`: what it measures adds up, and what it cannot measure it says.

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{avp, failure, repository, stdout, text};

fn facts() -> String {
    repository("models/facts").display().to_string()
}

fn handoff(arguments: &[&str]) -> Output {
    let model = facts();
    avp(["bench", "handoff", &model].iter().chain(arguments))
}

fn dataset(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(stdout(output)).unwrap()
}

fn modes(report: &Value, pipeline: usize) -> &Vec<Value> {
    report["pipelines"][pipeline]["modes"].as_array().unwrap()
}

#[test]
fn every_pipeline_runs_in_every_mode_and_repeats_with_the_seed() {
    let run = || json(&handoff(&["--limit", "4", "--seed", "5", "--steps", "0,3", "--json", "-"]));
    let report = run();
    let names: Vec<_> =
        report["pipelines"].as_array().unwrap().iter().map(|one| one["pipeline"].as_str().unwrap()).collect();
    assert_eq!(names, ["two-agent", "chain", "fan-out", "reading"]);
    let again = run();
    for (index, name) in names.iter().enumerate() {
        let ways: Vec<_> = modes(&report, index)
            .iter()
            .map(|mode| (mode["mode"].as_str().unwrap(), mode["steps"].as_u64().unwrap()))
            .collect();
        assert_eq!(ways, [("nothing", 0), ("direct", 0), ("text", 0), ("latent", 0), ("latent", 3)]);
        for (mode, again) in modes(&report, index).iter().zip(modes(&again, index)) {
            assert_eq!(mode["exact_match"]["total"], 4, "{name}");
            assert!(mode["total_ms"].as_f64() > Some(0.0) && mode["first_token_ms"].as_f64() > Some(0.0));
            for key in ["exact_match", "tokens", "handover_bytes", "answers"] {
                assert_eq!(mode[key], again[key], "{name} {key}");
            }
        }
        let [_, direct, _, still, stepped] = &modes(&report, index)[..] else { panic!() };
        assert_eq!(direct["handover_bytes"], 0.0);
        // Each agent before the last takes its three steps, and each step is in every cache from there on.
        let before = still["agents"].as_array().unwrap().len() - 1;
        let more = stepped["tokens"].as_f64().unwrap() - still["tokens"].as_f64().unwrap();
        let written = |mode: &Value| {
            mode["agents"].as_array().unwrap().last().unwrap()["tokens_written"].as_f64().unwrap()
        };
        if *name != "fan-out" {
            let expected = 3.0 * before as f64 + written(stepped) - written(still);
            assert!((more - expected).abs() < 0.01, "{name}: {more} {expected}");
        }
        assert!(still["handover_bytes"].as_f64() < stepped["handover_bytes"].as_f64());
        assert_eq!(modes(&report, index)[0]["f1"].is_null(), *name != "reading");
    }
}

#[test]
fn the_embedded_model_answers_behind_a_hand_over() {
    let options =
        ["--pipeline", "two-agent", "--mode", "latent", "--steps", "0", "--limit", "20", "--json", "-"];
    let report = json(&handoff(&options));
    let score = &modes(&report, 0)[0]["exact_match"];
    // Guessing among the people of a document would give about seven.
    assert!(score["right"].as_u64().unwrap() >= 17, "{score}");
    assert!(score["low"].as_f64() < score["share"].as_f64() && score["high"].as_f64() <= Some(1.0));
}

#[test]
fn published_fields_are_read_and_judged_on_any_model() {
    let (_folder, gsm8k) = dataset("{\"question\":\"1+1?\",\"answer\":\"It is 2.\\n#### 2\"}\n");
    let options = ["--dataset", &gsm8k, "--steps", "2", "--max-tokens", "4", "--json", "-"];
    let report = json(&handoff(&options));
    let names: Vec<_> =
        report["pipelines"].as_array().unwrap().iter().map(|one| one["pipeline"].as_str().unwrap()).collect();
    assert_eq!(names, ["two-agent", "chain", "fan-out"], "nothing to read, so no reading comprehension");
    assert!(modes(&report, 0).iter().all(|mode| mode["f1"].is_null() && mode["exact_match"]["total"] == 1));

    let hotpot = r#"[{"_id":"1","question":"Where?","answer":"Rome","supporting_facts":[["A",0]],
                      "context":[["A",["Rome is a town."]],["B",["So is Oslo."," Yes."]]]}]"#;
    let (_folder, hotpot) = dataset(hotpot);
    let options =
        ["--dataset", &hotpot, "--pipeline", "reading", "--steps", "2", "--max-tokens", "4", "--json", "-"];
    let report = json(&handoff(&options));
    assert!(modes(&report, 0).iter().all(|mode| mode["f1"].as_f64().is_some()));
}

#[test]
fn questions_that_do_not_fit_are_counted_with_the_reason() {
    let long = "word ".repeat(3000);
    let (_folder, path) = dataset(&format!(
        "{{\"question\":\"{long}\",\"answer\":\"x\"}}\n{{\"question\":\"a?\",\"answer\":\"x\"}}"
    ));
    let output =
        handoff(&["--dataset", &path, "--pipeline", "two-agent", "--steps", "1", "--max-tokens", "2"]);
    let shown = text(stdout(&output));
    for mode in ["direct", "text", "latent, 1 steps"] {
        assert!(shown.contains(&format!("{mode}: 1 skipped: a prompt is longer than the window")), "{shown}");
    }
}

#[test]
fn wrong_input_is_named_before_the_model_is_loaded() {
    let (_folder, bad) = dataset("{\"question\":\"q\",\"answer\":\"a\"}\nnot json\n");
    let message = failure(&handoff(&["--dataset", &bad])).to_owned();
    assert!(message.contains("data.jsonl, line 2, column 2"), "{message}");
    let (_folder, empty) = dataset("\n");
    assert!(failure(&handoff(&["--dataset", &empty])).contains("has no questions"));
    let (_folder, plain) = dataset("{\"question\":\"q\",\"answer\":\"a\"}");
    assert!(failure(&handoff(&["--dataset", &plain, "--pipeline", "reading"])).contains("without a context"));
    assert!(failure(&handoff(&["--limit", "0"])).contains("--limit"));
    assert!(failure(&handoff(&["--json", "/no/such/folder/x.json"])).contains("/no/such/folder"));
    assert!(failure(&handoff(&["--json", "-", "--html", "-"])).contains("standard output"));
    let other = repository("test-vectors/parity/tiny-qwen2").display().to_string();
    assert!(failure(&avp(["bench", "handoff", &other])).contains("--dataset"));
    for command in ["handoff", "speed"] {
        assert!(failure(&avp(["bench", command, "/no/such/model"])).contains("/no/such/model"));
    }
}

#[test]
fn the_page_is_written_whole_with_a_chart_for_each_measure() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let output = handoff(&[
        "--pipeline",
        "two-agent",
        "--limit",
        "2",
        "--steps",
        "1",
        "--html",
        &page.display().to_string(),
    ]);
    assert!(text(stdout(&output)).contains("| latent, 1 steps |"));
    let page = fs::read_to_string(Path::new(&page)).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<svg").count(), 4);
}

#[test]
fn speed_measures_what_fits_the_window_and_names_what_does_not() {
    let model = facts();
    let run = |more: &[&str]| {
        let options =
            ["bench", "speed", &model, "--lengths", "64,256,4096", "--steps", "4", "--repeats", "1"];
        avp(options.iter().chain(more))
    };
    let report = json(&run(&["--json", "-"]));
    let lengths = report["lengths"].as_array().unwrap();
    assert_eq!(lengths.len(), 2);
    for (length, asked) in lengths.iter().zip([64, 256]) {
        let tokens = length["tokens"].as_u64().unwrap();
        assert!(tokens <= asked && tokens > asked - 8, "{tokens} of {asked}");
        // 4 layers of key and value, 2 heads, 32 wide, float32.
        let cache = 4 * 2 * 2 * 32 * 4 * tokens;
        assert!(length["frame_bytes"].as_u64().unwrap() > cache);
        for key in
            ["prefill_ms", "export_ms", "import_ms", "received_first_token_ms", "prefilled_first_token_ms"]
        {
            assert!(length[key].as_f64().unwrap() > 0.0, "{key}");
        }
    }
    assert_eq!(report["skipped"][0]["length"], 4096);
    assert!(text(stdout(&run(&[]))).contains("4096 tokens: left out"));
    assert!(failure(&avp(["bench", "speed", &model, "--repeats", "0"])).contains("--repeats"));
    assert!(failure(&avp(["bench", "speed", &model, "--lengths", "0"])).contains("--lengths"));
}
