//! The published Python package's log and registry, from `test-vectors/aacp`.

#![cfg(feature = "learn")]
// Helpers of a test are tests too, which the lint's own exception for tests does not see.
#![allow(clippy::unwrap_used)]

use aacp::learn::{PatternLog, RuleRegistry, Scope, instruction_id, keywords, normalise};
use serde_json::Value;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../test-vectors/aacp");

fn learning() -> Value {
    let text = std::fs::read_to_string(format!("{VECTORS}/aacp-1.4.0.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    vectors["learning"].clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn an_instruction_has_the_packages_normal_form_id_and_keywords() {
    for case in learning()["texts"].as_array().unwrap() {
        let english = text(&case["english"]);
        assert_eq!(normalise(english), text(&case["normalised"]));
        assert_eq!(instruction_id(english), text(&case["id"]));
        assert_eq!(Value::from(keywords(english)), case["keywords"], "{english}");
    }
}

#[test]
fn the_packages_file_is_read_and_written_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = learning()["unknown_patterns"].clone();
    let file = folder.path().join("unknown_patterns.json");
    std::fs::write(&file, theirs.to_string()).unwrap();

    let log = PatternLog::open(folder.path().join("log")).unwrap();
    assert_eq!(log.import(&file).unwrap(), theirs.as_array().unwrap().len());
    let found =
        log.lookup("CROSS-reference contractors against the approved vendor list.", "fin").unwrap().unwrap();
    assert_eq!(found.times_seen, 3);

    log.export(&file).unwrap();
    let mut ours: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(ours[0]["times_seen"], 3);
    ours[0]["times_seen"] = 2.into();
    assert_eq!(ours, theirs);
}

#[test]
fn a_file_of_release_1_1_is_read_although_it_says_less() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unknown_patterns.json");
    let entry = r#"[{"id":"x","timestamp":"2026-05-01T00:00:00+00:00","domain":"HR","english":"Run payroll","aacp_packet":
        "PROC|HR|return:A|aacp:1.1","compression_loss":"odd","loss_note":null,"token_estimate_english":3,
        "token_estimate_packet":8,"reduction_pct":-166.7,"rule_based_written":false}]"#;
    std::fs::write(&file, entry).unwrap();
    let log = PatternLog::open(folder.path().join("log")).unwrap();
    assert_eq!(log.import(&file).unwrap(), 1);
    assert_eq!(log.lookup("run payroll", "HR").unwrap().unwrap().keywords, ["payroll"]);
}

#[test]
fn the_registry_finds_the_rules_that_the_package_finds() {
    let registry = RuleRegistry::from_file(format!("{VECTORS}/rules.json")).unwrap();
    assert_eq!((registry.rules().len(), registry.refused().len()), (10, 0));
    for case in learning()["queries"].as_array().unwrap() {
        let query = text(&case["query"]);
        let scope = Scope { domain: case["domain"].as_str(), task: case["task"].as_str() };
        let best = registry.find(query, scope).map(|found| found.rule.id.as_str());
        // DIFFERENCE: the package finds rules by the most common words too.
        let expected = if query == "a an the of" { None } else { case["best"].as_str() };
        assert_eq!(best, expected, "{query}");
        let top: Vec<&str> =
            registry.find_all(query, scope, 3).iter().map(|found| found.rule.id.as_str()).collect();
        if expected.is_some() {
            assert_eq!(Value::from(top), case["top"], "{query}");
        }
    }
}
