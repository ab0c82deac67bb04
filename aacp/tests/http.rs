//! The HTTP back ends against a server on this machine that speaks the same JSON.

#![cfg(feature = "http")]
// Helpers of a test are tests too, which the lint's own exception for tests does not see.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use aacp::learn::{
    Completion, Encoder, Instruction, Model, ModelError, Prompt, RuleError, RuleRegistry,
    http::{Anthropic, OpenAi, RetryPolicy},
};
use serde_json::{Value, json};

/// A variable that cargo sets for every test, to stand for a key.
const KEY: &str = "CARGO_PKG_NAME";

/// A request as the server saw it.
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Answers with each of the responses in turn, one connection each, and hands over the requests. An empty response
/// closes the connection without a word; `HANG` keeps it open until the client has given up.
fn serve(responses: Vec<String>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    thread::spawn(move || {
        for response in responses {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                match line.trim_end() {
                    "" => break,
                    line => lines.push(line.to_string()),
                }
            }
            let headers: Vec<(String, String)> = lines[1..]
                .iter()
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_lowercase(), value.to_string()))
                .collect();
            let mut request = Request { line: lines[0].clone(), headers, body: String::new() };
            let len = request.header("content-length").map_or(0, |len| len.parse().unwrap());
            let mut body = vec![0; len];
            reader.read_exact(&mut body).unwrap();
            request.body = String::from_utf8(body).unwrap();
            sender.send(request).unwrap();
            if response == HANG {
                // Ends when the client closes its side.
                let _ = reader.read(&mut [0]);
            } else {
                reader.get_mut().write_all(response.as_bytes()).unwrap();
            }
        }
    });
    (url, requests)
}

const HANG: &str = "hang";

fn respond(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn ok(body: &Value) -> String {
    respond("200 OK", "content-type: application/json\r\n", &body.to_string())
}

fn fast_retries() -> RetryPolicy {
    RetryPolicy {
        timeout: Duration::from_millis(2_000),
        tries: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
    }
}

fn prompt() -> Prompt {
    Prompt { system: "Be brief.".into(), user: "Say hello: é".into(), max_tokens: 7 }
}

fn anthropic(url: &str) -> Anthropic {
    Anthropic::from_variable(KEY, url, "some-model").unwrap().retry(fast_retries())
}

fn anthropic_answer(text: &str) -> Value {
    json!({"type": "message", "content": [{"type": "text", "text": text}],
           "usage": {"input_tokens": 11, "output_tokens": 3}})
}

fn openai_answer(text: &str) -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
           "usage": {"prompt_tokens": 12, "completion_tokens": 4}})
}

#[test]
fn anthropics_messages_are_spoken() {
    let (url, requests) = serve(vec![ok(&anthropic_answer("hello"))]);
    let model = anthropic(&url);
    let completion = model.complete(&prompt()).unwrap();
    assert_eq!(completion, Completion { text: "hello".into(), tokens_in: 11, tokens_out: 3 });
    let request = requests.recv().unwrap();
    assert_eq!(request.line, "POST /v1/messages HTTP/1.1");
    assert_eq!(request.header("x-api-key"), Some("aacp"));
    assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(
        request.json(),
        json!({"model": "some-model", "max_tokens": 7, "system": "Be brief.",
               "messages": [{"role": "user", "content": "Say hello: é"}]})
    );
}

#[test]
fn openais_chat_completions_are_spoken() {
    let (url, requests) = serve(vec![ok(&openai_answer("hello")), ok(&openai_answer("again"))]);
    let model =
        OpenAi::from_variable(KEY, &format!("{url}/v1/"), "some-model").unwrap().retry(fast_retries());
    let completion = model.complete(&prompt()).unwrap();
    assert_eq!(completion, Completion { text: "hello".into(), tokens_in: 12, tokens_out: 4 });
    let request = requests.recv().unwrap();
    assert_eq!(request.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("Bearer aacp"));
    assert_eq!(
        request.json(),
        json!({"model": "some-model", "max_tokens": 7, "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello: é"}]})
    );
    let open = OpenAi::without_key(&url, "some-model").retry(fast_retries());
    assert_eq!(open.complete(&prompt()).unwrap().text, "again");
    assert_eq!(requests.recv().unwrap().header("authorization"), None);
}

#[test]
fn without_a_key_the_error_names_the_variable() {
    let error = Anthropic::from_variable("AACP_TEST_NO_SUCH_KEY", "http://localhost", "m").unwrap_err();
    assert_eq!(error, ModelError::MissingKey { variable: "AACP_TEST_NO_SUCH_KEY" });
    assert!(error.to_string().contains("AACP_TEST_NO_SUCH_KEY"));
    assert_eq!((Anthropic::VARIABLE, OpenAi::VARIABLE), ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"));
}

#[test]
fn a_passing_failure_is_tried_again_and_a_lasting_one_is_not() {
    let busy = respond("529 Overloaded", "", "{}");
    let limited = respond("429 Too Many Requests", "retry-after: 0\r\n", "{}");
    let (url, requests) = serve(vec![busy, limited, ok(&anthropic_answer("third time"))]);
    let model = anthropic(&url);
    assert_eq!(model.complete(&prompt()).unwrap().text, "third time");
    assert_eq!(requests.iter().count(), 3);

    let (url, requests) = serve(vec![respond("401 Unauthorized", "", "{}")]);
    let model = anthropic(&url);
    assert_eq!(model.complete(&prompt()), Err(ModelError::Status { status: 401 }));
    assert_eq!(requests.iter().count(), 1);

    let (url, _requests) = serve(vec![String::new(); 3]);
    let model = anthropic(&url);
    assert_eq!(model.complete(&prompt()), Err(ModelError::Connection));
}

#[test]
fn a_silent_service_is_given_up() {
    let (url, _requests) = serve(vec![HANG.into()]);
    let retry = RetryPolicy { timeout: Duration::from_millis(100), tries: 1, ..fast_retries() };
    let model = OpenAi::without_key(&url, "m").retry(retry);
    assert_eq!(model.complete(&prompt()), Err(ModelError::Timeout));
}

#[test]
fn an_answer_of_another_form_says_what_is_missing() {
    let cases = [("[]", "content"), ("{\"content\": []}", "content"), ("<html>", "JSON")];
    for (body, part) in cases {
        let (url, _requests) = serve(vec![respond("200 OK", "", body)]);
        let model = anthropic(&url);
        assert_eq!(model.complete(&prompt()), Err(ModelError::Answer { part }), "{body}");
    }
}

#[test]
fn a_key_is_not_carried_to_another_address() {
    let redirect = respond("307 Temporary Redirect", "location: http://127.0.0.1:9/\r\n", "");
    let (url, requests) = serve(vec![redirect]);
    let model = anthropic(&url);
    assert!(model.complete(&prompt()).is_err());
    assert_eq!(requests.iter().count(), 1);
    assert!(!format!("{model:?}").contains("\"aacp\""), "the key is not shown");
}

#[test]
fn an_instruction_becomes_a_packet_through_a_service() {
    let answer = r#"{"packet":"FETCH|HR|p:1|res:emp_salary|period:2024-08","compression_loss":"none","loss_note":null}"#;
    let (url, _requests) = serve(vec![ok(&openai_answer(answer))]);
    let encoder = Encoder::new().model(OpenAi::without_key(&url, "m").retry(fast_retries()));
    let encoded =
        encoder.encode(&Instruction::new("Get the salaries of August 2024.", "HR", "HR-Agent")).unwrap();
    assert_eq!(encoded.packet, "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08");
}

#[test]
fn rules_are_read_from_an_address() {
    let rules = json!({"rules": [{"id": "r", "packet": "SEND|HR|return:A", "dom": "HR", "task": "SEND"}]});
    let (url, requests) = serve(vec![ok(&rules), respond("404 Not Found", "", "")]);
    let registry = RuleRegistry::from_url(&format!("{url}/index.json")).unwrap();
    assert_eq!(registry.get("r").unwrap().packet, "SEND|HR|return:A");
    assert_eq!(requests.recv().unwrap().line, "GET /index.json HTTP/1.1");
    let missing = RuleRegistry::from_url(&url).unwrap_err();
    assert_eq!(missing, RuleError::Http(ModelError::Status { status: 404 }));
}
