//! The published Python packages' own answers, from `test-vectors/aacp`.

// Helpers of a test are tests too, which the lint's own exception for tests does not see.
#![allow(clippy::unwrap_used)]

use aacp::{
    Limits, Validator,
    peer::{self, Release},
};
use serde_json::Value;

/// What package `release` answered.
fn vectors(release: Release) -> Value {
    let path = format!("{}/../test-vectors/aacp/aacp-{release}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn the_peer_report_is_the_packages_own_word_for_word() {
    for release in Release::ALL.iter().copied() {
        let vectors = vectors(release);
        assert_eq!(vectors["aacp_version"], release.current().as_str());
        let cases = vectors["validate"].as_array().unwrap();
        assert!(cases.len() >= 158);
        for case in cases {
            let packet = case["packet"].as_str().unwrap();
            let (mut errors, mut warnings) = (Vec::new(), Vec::new());
            let valid = peer::validate(packet, release, Limits::MAX, |message| {
                let list = if message.is_error() { &mut errors } else { &mut warnings };
                list.push(message.to_string());
            });
            assert_eq!(valid, Ok(case["valid"].as_bool().unwrap()), "{release}: {packet:?}");
            assert_eq!(errors, strings(&case["errors"]), "{release}: {packet:?}");
            assert_eq!(warnings, strings(&case["warnings"]), "{release}: {packet:?}");
        }
    }
}

#[test]
fn the_lenient_profile_accepts_what_the_packages_accept_and_nothing_else() {
    for case in vectors(Release::V1_4_0)["validate"].as_array().unwrap() {
        let packet = case["packet"].as_str().unwrap();
        assert_eq!(Validator::lenient().accepts(packet), case["valid"].as_bool().unwrap(), "{packet:?}");
    }
}

#[test]
fn the_strict_profile_accepts_nothing_that_the_lenient_one_refuses() {
    let mut refused = 0;
    for case in vectors(Release::V1_4_0)["validate"].as_array().unwrap() {
        let packet = case["packet"].as_str().unwrap();
        if Validator::strict().accepts(packet) {
            assert!(Validator::lenient().accepts(packet), "{packet:?}");
        } else if Validator::lenient().accepts(packet) {
            refused += 1;
        }
    }
    assert!(
        refused > 50,
        "the vectors hold many packets that only a lenient reader takes, but {refused} were found"
    );
}
