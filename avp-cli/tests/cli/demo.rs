//! `avp demo`: the comparison that the README shows.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{avp, failure, repository, stdout, text};

fn demo(arguments: &[&str]) -> Output {
    avp(["demo"].iter().chain(arguments))
}

#[test]
fn demo_and_bench_need_nothing_but_the_program_and_its_library() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_avp"));
        command.args(arguments).current_dir(folder.path()).env("AVP_CACHE_DIR", cache.path());
        let output = command.output().unwrap();
        serde_json::from_slice::<Value>(stdout(&output)).unwrap()
    };
    // The second run finds the model unpacked.
    for _ in 0..2 {
        assert_eq!(run(&["demo", "--questions", "1", "--json"])["questions"], 1);
    }
    let handoff = run(&["bench", "handoff", "--pipeline", "reading", "--limit", "1", "--json", "-"]);
    let model = handoff["model"]["folder"].as_str().unwrap();
    assert!(model.starts_with(&cache.path().display().to_string()), "{model}");
    let speed = run(&["bench", "speed", "--lengths", "32", "--repeats", "1", "--json", "-"]);
    assert_eq!(speed["model"], model);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    assert_eq!(cache.path().join("models").read_dir().unwrap().count(), 1);
}

#[test]
fn json_has_every_mode_over_the_same_questions_and_repeats_with_the_seed() {
    let run = || -> Value {
        serde_json::from_slice(stdout(&demo(&["--json", "--questions", "8", "--seed", "5"]))).unwrap()
    };
    let report = run();
    assert_eq!((&report["questions"], &report["seed"]), (&8.into(), &5.into()));
    let modes = report["modes"].as_array().unwrap();
    let named: Vec<_> =
        modes.iter().map(|mode| (mode["mode"].as_str().unwrap(), mode["steps"].as_u64().unwrap())).collect();
    assert_eq!(named, [("nothing", 0), ("direct", 0), ("text", 0), ("latent", 0)]);
    for mode in modes {
        assert_eq!((&mode["one_hop"]["total"], &mode["two_hop"]["total"]), (&4.into(), &4.into()));
        assert!(mode["b_first_token_ms"].as_f64() > Some(0.0) && mode["total_ms"].as_f64() > Some(0.0));
    }
    let tokens = |mode: usize, agent: &str| modes[mode]["tokens"][agent].as_u64().unwrap();
    // Direct needs no agent A and hands nothing over; behind a KV-cache B reads the question alone.
    assert_eq!((tokens(1, "a"), &modes[1]["handover_bytes"]), (0, &0.into()));
    assert!(tokens(3, "b") < tokens(1, "b") && tokens(3, "b") < tokens(2, "b"));
    assert!(modes[3]["handover_bytes"].as_u64() > modes[2]["handover_bytes"].as_u64());
    // Greedy decoding repeats: the same seed scores the same.
    let again = run();
    for (mode, again) in modes.iter().zip(again["modes"].as_array().unwrap()) {
        for key in ["one_hop", "two_hop", "tokens", "handover_bytes"] {
            assert_eq!(mode[key], again[key], "{key}");
        }
    }
}

#[test]
fn b_answers_one_hop_questions_from_as_cache_alone() {
    let report: Value = serde_json::from_slice(stdout(&demo(&["--json", "--questions", "40"]))).unwrap();
    for mode in report["modes"].as_array().unwrap() {
        let right = mode["one_hop"]["right"].as_u64().unwrap();
        if mode["mode"] == "nothing" {
            // Without the cache there is nothing to answer from.
            assert!(right <= 2, "{mode}");
            continue;
        }
        // Guessing among the people of a document would give 5 to 10 of 20.
        assert!(right >= 17, "{mode}");
    }
}

#[test]
fn text_shows_one_hand_over_and_the_table_without_colours_in_a_pipe() {
    let output = demo(&["--questions", "2"]);
    let shown = text(stdout(&output));
    for part in [
        "which only agent A reads",
        "avp think",
        "a frame of",
        "avp generate",
        "| latent, 0 steps |",
        "vs text",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\u{1b}') && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_folder_without_questions_is_named() {
    let other = repository("test-vectors/parity/tiny-qwen2").display().to_string();
    assert!(failure(&avp(["demo", "--model", &other])).contains("world.json"));
    assert!(failure(&demo(&["--questions", "0"])).contains("--questions"));
}

#[test]
fn a_library_that_cannot_be_used_is_one_sentence_that_names_the_doctor() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_avp"));
    let output = command.arg("demo").env("ORT_DYLIB_PATH", repository("README.md")).output().unwrap();
    let message = failure(&output);
    assert!(message.contains("README.md") && message.contains("`avp doctor`"), "{message}");
}
