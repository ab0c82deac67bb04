//! `avp prepare`.

use serde_json::Value;

use crate::common::{avp, failure, repository, stdout, text};

fn folder(name: &str) -> String {
    repository(name).to_str().unwrap().to_owned()
}

#[test]
fn what_is_in_a_graph_is_said_and_checked() {
    let folder = folder("test-vectors/models/genai-qwen2-int4");
    let output = avp(["prepare", &folder, "--check"]);
    let said = text(stdout(&output));
    for expected in
        ["(GatherBlockQuantized)", "(MatMulNBits)", "tied        yes", "share a buffer", "check       same: "]
    {
        assert!(said.contains(expected), "{expected} not in {said}");
    }
}

#[test]
fn one_object_holds_report_and_check() {
    let folder = folder("test-vectors/models/community-qwen2");
    let print = |arguments: &[&str]| -> Value {
        let all = ["prepare", &folder, "--json"].into_iter().chain(arguments.iter().copied());
        serde_json::from_slice(stdout(&avp(all))).unwrap()
    };
    let object = print(&["--dtype", "q4f16", "--check", "--seed", "3"]);
    assert!(object["file"].as_str().unwrap().ends_with("model_q4f16.onnx"));
    assert_eq!(object["dtype"], "float16");
    assert_eq!(object["cache"]["num_kv_heads"], 2);
    assert_eq!(object["check"]["passed"], true);
    assert_eq!(object["check"]["prompt"].as_array().unwrap().len(), 16);
    assert_ne!(print(&["--dtype", "q4f16", "--check"])["check"]["prompt"], object["check"]["prompt"]);
    assert_eq!(print(&[])["check"], Value::Null);
}

#[test]
fn what_cannot_be_prepared_is_refused_by_name() {
    let output = avp(["prepare", &folder("test-vectors/runtime/no-gather")]);
    assert!(failure(&output).contains("Gather that reads a table by input_ids"));
    let output = avp(["prepare", &folder("test-vectors/models/community-qwen2"), "--dtype", "quantized"]);
    assert!(failure(&output).contains("model_q4f16.onnx"));
    let output = avp(["prepare", "x", "--dtype", "q5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("bnb4"));
}

#[test]
fn every_command_that_loads_a_model_takes_its_form() {
    let folder = folder("test-vectors/models/community-qwen2");
    let generate = |arguments: &[&str]| {
        let all = ["generate", &folder, "--prompt", "Rosa", "--max-tokens", "8"];
        avp(all.into_iter().chain(arguments.iter().copied()))
    };
    assert!(!stdout(&generate(&["--dtype", "q4f16"])).is_empty());
    assert!(failure(&generate(&["--dtype", "q8"])).contains("model_quantized.onnx"));
}
