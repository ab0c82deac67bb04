//! `avp serve --model` with a real pretrained model, which `cargo xtask test real` makes.

use std::{io::Write, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    common::{avp, stdout},
    server::{Server, answer, head},
};

const NOTES: &str =
    "Anna moved from Oslo to Lisbon in 2019. Her brother Karl lives in Vienna and works as a baker.";

#[test]
#[ignore = "needs gigabytes: cargo xtask test real"]
fn a_real_model_streams_an_answer_behind_a_context_that_was_sent() {
    let models = PathBuf::from(std::env::var_os("AVP_REAL_MODELS").expect("cargo xtask test real sets it"));
    let model = models.join("smollm2/fp32").display().to_string();
    let server = Server::start(&["--model", &model]);
    let frame = stdout(&avp(["think", &model, "--prompt", NOTES, "-o", "-"])).to_vec();
    let (_, _, reply) = server.ask("POST /avp/v2/transmit", "", &frame);
    let id = serde_json::from_slice::<Value>(&reply).unwrap()["context_id"].clone();
    let request = json!({
        "messages": [{ "role": "user", "content": "Where does Karl live?" }],
        "avp_context": id, "stream": true, "temperature": 0, "max_tokens": 30,
    });
    let body = request.to_string();
    let mut stream = server.connect();
    let fields = "content-type: application/json\r\n";
    stream.write_all(head("POST /v1/chat/completions", fields, body.len()).as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let (status, _, events) = answer(stream);
    assert_eq!(status, 200);
    let events = String::from_utf8(events).unwrap();
    let pieces: Vec<String> = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    println!("{} pieces: {}", pieces.len(), pieces.concat());
    assert!(pieces.len() > 3 && pieces.concat().contains("Vienna"), "{events}");
    assert!(events.contains("data: [DONE]"), "{events}");
}
