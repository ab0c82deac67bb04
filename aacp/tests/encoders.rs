//! The published Python packages' encoders, decoder and log, from `test-vectors/aacp`.

#![cfg(feature = "workflows")]
// Helpers of a test are tests too, which the lint's own exception for tests does not see.
#![allow(clippy::unwrap_used)]

use aacp::{
    Explanation, Packet, Version,
    peer::Release,
    workflow::{Value, WorkflowError, Workflows},
};
use serde_json::Value as Json;

fn vectors(release: Release) -> Json {
    let path = format!("{}/../test-vectors/aacp/aacp-{release}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn packets(
    workflows: &Workflows,
    version: Version,
    workflow: &str,
    call: &str,
    arguments: &Json,
) -> Result<Vec<String>, WorkflowError> {
    let mut call = workflows.call(workflow, call)?.version(version);
    for (name, value) in arguments.as_object().unwrap() {
        call = call.arg(name, Value::from_json(value).unwrap());
    }
    call.packets()
}

#[test]
fn the_workflow_encoders_write_the_packages_packets() {
    let workflows = Workflows::standard();
    for (release, least) in [(Release::V1_1_0, 40), (Release::V1_4_0, 87)] {
        let vectors = vectors(release);
        let cases = vectors["workflow"].as_array().unwrap();
        assert!(cases.len() >= least);
        for case in cases {
            let (workflow, call) = (case["encoder"].as_str().unwrap(), case["method"].as_str().unwrap());
            let expected: Vec<&str> =
                case["packets"].as_array().unwrap().iter().map(|packet| packet.as_str().unwrap()).collect();
            let built = packets(&workflows, release.current(), workflow, call, &case["args"]);
            assert_eq!(
                built.as_deref(),
                Ok(&expected[..].iter().map(|p| p.to_string()).collect::<Vec<_>>()[..]),
                "{case}"
            );
        }
    }
}

#[test]
fn the_general_encoder_writes_the_packages_packets() {
    let workflows = Workflows::standard();
    for release in Release::ALL.iter().copied() {
        let vectors = vectors(release);
        let cases = vectors["rule_based"].as_array().unwrap();
        assert!(cases.len() >= 90);
        for case in cases {
            let built = packets(&workflows, release.current(), "RuleBasedEncoder", "encode", &case["args"]);
            match case["packet"].as_str() {
                Some(packet) => assert_eq!(built, Ok(vec![packet.to_string()]), "{case}"),
                None => assert!(matches!(built, Err(WorkflowError::Build(_))), "{case}"),
            }
        }
    }
}

#[test]
fn the_explanation_is_the_decoders_wherever_the_fields_stand() {
    for release in Release::ALL.iter().copied() {
        let vectors = vectors(release);
        let cases = vectors["decode"].as_array().unwrap();
        assert!(cases.len() >= 150);
        for case in cases {
            for form in ["positional", "compact"] {
                let packet = Packet::parse(case[form].as_str().unwrap()).unwrap();
                assert_eq!(Explanation::of(&packet).to_string(), case["english"].as_str().unwrap(), "{case}");
            }
        }
    }
}
