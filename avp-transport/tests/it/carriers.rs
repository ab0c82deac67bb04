//! What the public SDKs of A2A and MCP write, read by us; and what we write, read by them.
//!
//! Their messages lie in `test-vectors/carriers/`. `cargo xtask test` installs the SDKs and names their interpreters in the
//! environment; without them there is nothing to ask, and the tests say so.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use avp_core::{FrameEncoder, Metadata, OwnedFrame, OwnedModelIdentity};
use avp_transport::carriers::{
    Content, ContextRef, Limits,
    a2a::{self, AgentExtension},
    mcp,
    multipart::{ContentId, Related, RelatedBody},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value, json};

const A2A: Sdk = Sdk {
    variable: "A2A_SDK_PYTHON",
    script: "tools/carriers/a2a_peer.py",
    vectors: "test-vectors/carriers/a2a.json",
};
const MCP: Sdk = Sdk {
    variable: "MCP_SDK_PYTHON",
    script: "tools/carriers/mcp_peer.py",
    vectors: "test-vectors/carriers/mcp.json",
};

/// The media type of a frame.
const FRAME: &str = "application/avp+binary";

struct Sdk {
    /// The variable that names the interpreter.
    variable: &'static str,
    script: &'static str,
    /// What the script's `make` wrote.
    vectors: &'static str,
}

impl Sdk {
    /// Runs the script with `command`, or gives `None` where there is no interpreter.
    fn run(&self, command: &str, input: &str) -> Option<String> {
        let Some(python) = std::env::var_os(self.variable) else {
            eprintln!("{} names no interpreter: nothing to ask", self.variable);
            return None;
        };
        let mut child = Command::new(python)
            .arg(in_repository(self.script))
            .arg(command)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{} {command}: {}", self.script, output.status);
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// What the SDK finds in `value`, or `None` where there is no interpreter.
    fn read(&self, kind: &str, value: Value) -> Option<Value> {
        let line = json!({ "kind": kind, "value": value }).to_string() + "\n";
        let answer: Value = serde_json::from_str(&self.run("read", &line)?).unwrap();
        assert_eq!(answer.get("error"), None, "{kind} was refused");
        Some(answer)
    }

    fn vectors(&self) -> String {
        std::fs::read_to_string(in_repository(self.vectors)).unwrap()
    }
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Holds `read` to each of the SDK's cases.
fn reads_as_meant(sdk: &Sdk, read: fn(&str, &Value) -> Value) {
    let vectors: Value = serde_json::from_str(&sdk.vectors()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let found = read(case["kind"].as_str().unwrap(), &case["value"]);
        assert_eq!(found, case["expect"], "{}: {}", case["name"], case["rule"]);
    }
}

/// What was found, in the words of the vectors.
fn told(carried: &Content) -> Value {
    match carried {
        Content::Frame(frame) => json!({ "frame": hex(frame) }),
        Content::Attached(id) => json!({ "attached": id.as_str() }),
        Content::Context(context) => json!({ "context": {
            "url": context.url().as_str(),
            "id": context.id,
            "size": context.size,
            "crc32": context.crc32,
            "etag": context.etag,
            "session_id": context.session_id,
            "identity": context.identity,
        } }),
    }
}

fn hex(frame: &OwnedFrame) -> String {
    frame.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frame(body: &[u8]) -> OwnedFrame {
    let fields = Metadata { session_id: "s-1", model_id: "智能体 🤝", ..Default::default() };
    let bytes = FrameEncoder::new(fields).encode(body).unwrap();
    OwnedFrame::decode(bytes.into()).unwrap()
}

fn identity() -> OwnedModelIdentity {
    OwnedModelIdentity {
        model_family: "qwen2".to_owned(),
        model_id: "Qwen/Qwen2.5-0.5B".to_owned(),
        model_hash: "ab".repeat(32),
        hidden_dim: 896,
        num_layers: 24,
        num_kv_heads: 2,
        head_dim: u32::MAX,
        tokenizer_hash: String::new(),
    }
}

fn context(frame: &OwnedFrame) -> ContextRef {
    let url = "https://a.example/avp/v2/contexts/réseau?x=1".parse().unwrap();
    let mut context = ContextRef::new(url).unwrap().describing(frame);
    context.id = "réseau".to_owned();
    context.etag = Some("\"5a\"".to_owned());
    context.identity = Some(identity());
    context
}

/// What is known of `context` beside its address, as it should stand in a message.
fn details(context: &ContextRef) -> Value {
    let Value::Object(all) = &told(&Content::Context(context.clone().into()))["context"] else { panic!() };
    all.iter().filter(|(name, _)| *name != "url").map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn read_a2a(kind: &str, value: &Value) -> Value {
    let limits = Limits::default();
    match kind {
        "message" => a2a::read_parts(value, &limits).unwrap().iter().map(told).collect(),
        "multipart" => {
            let body = STANDARD.decode(value["body"].as_str().unwrap()).unwrap();
            let related =
                Related::read(value["content_type"].as_str().unwrap(), body.into(), &limits).unwrap();
            let named = a2a::read_parts(&related.root_json().unwrap(), &limits).unwrap();
            let frames = named.into_iter().map(|carried| match carried {
                Content::Attached(id) => told(&Content::Frame(related.frame(&id).unwrap())),
                other => panic!("not attached: {other:?}"),
            });
            frames.collect()
        }
        "card" => {
            let found = AgentExtension::from_card(value, &limits).unwrap().unwrap();
            json!({
                "url": found.url().as_str(),
                "avp_version": found.avp_version,
                "dialects": found.dialects,
                "identity": found.identity,
            })
        }
        "headers" => {
            let headers = value.as_object().unwrap().iter().map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap())
            });
            json!(a2a::requested_extensions(&HeaderMap::from_iter(headers)))
        }
        other => panic!("no kind is called {other}"),
    }
}

fn read_mcp(kind: &str, value: &Value) -> Value {
    let limits = Limits::default();
    let entries = |name: &str| value[name].as_array().unwrap().iter();
    match kind {
        "tool_result" => mcp::read_tool_result(value, &limits).unwrap().iter().map(told).collect(),
        "resources" => entries("resources")
            .filter_map(|entry| mcp::read_resource(entry, &limits).unwrap())
            .map(|context| told(&Content::Context(context.into())))
            .collect(),
        "contents" => entries("contents")
            .filter_map(|entry| mcp::read_contents(entry, &limits).unwrap())
            .map(|frame| told(&Content::Frame(frame)))
            .collect(),
        other => panic!("no kind is called {other}"),
    }
}

#[test]
fn what_the_a2a_sdk_writes_is_read_as_it_was_meant() {
    reads_as_meant(&A2A, read_a2a);
}

#[test]
fn what_the_mcp_sdk_writes_is_read_as_it_was_meant() {
    reads_as_meant(&MCP, read_mcp);
}

#[test]
fn the_vectors_are_what_the_sdks_write() {
    for sdk in [A2A, MCP] {
        if let Some(made) = sdk.run("make", "") {
            let [made, kept]: [Value; 2] =
                [made, sdk.vectors()].map(|text| serde_json::from_str(&text).unwrap());
            assert_eq!(made, kept, "{}", sdk.vectors);
        }
    }
}

#[test]
fn the_a2a_sdk_reads_our_parts_as_we_meant_them() {
    let frame = frame(&[0xff; 100]);
    let context = context(&frame);
    let parts = json!([{ "text": "hello" }, a2a::frame_part(&frame), a2a::context_part(&context)]);
    let message =
        json!({ "messageId": "1", "role": "ROLE_USER", "parts": parts, "extensions": [a2a::EXTENSION] });
    let artifact = json!({ "artifactId": "1", "parts": parts, "extensions": [a2a::EXTENSION] });
    for (kind, value) in [("message", message), ("artifact", artifact)] {
        let Some(found) = A2A.read(kind, value) else { return };
        assert_eq!(found[1], json!({ "media_type": FRAME, "raw": hex(&frame), "url": null, "metadata": {} }));
        let address = json!([found[2]["media_type"], found[2]["raw"], found[2]["url"]]);
        assert_eq!(address, json!([FRAME, null, context.url().as_str()]));
        assert_eq!(as_integers(&found[2]["metadata"][a2a::CONTEXT_KEY]), details(&context));
    }
}

#[test]
fn the_a2a_sdk_finds_our_extension_and_its_name_in_our_header() {
    let mut ours = AgentExtension::new("https://a.example/".parse().unwrap()).unwrap();
    ours.identity = Some(identity());
    let mut card =
        json!({ "name": "A", "capabilities": { "extensions": [{ "uri": "https://b.example/ext/v1" }] } });
    ours.put_into(&mut card).unwrap();
    let Some(found) = A2A.read("card", card) else { return };
    assert_eq!(found["required"], false);
    let expected = json!({
        "url": "https://a.example/",
        "avp_version": ours.avp_version,
        "dialects": ["0.2", "0.3"],
        "identity": identity(),
    });
    assert_eq!(as_integers(&found["params"]), expected);

    let value = a2a::extensions_value(&[a2a::EXTENSION, "https://b.example/ext/v1"]).unwrap();
    let found = A2A.read("header", value.to_str().unwrap().into()).unwrap();
    assert_eq!(found, json!(["https://b.example/ext/v1", a2a::EXTENSION]));
}

#[test]
fn the_mail_reader_of_python_takes_our_bodies_apart() {
    // Every byte, line breaks of each kind, and the beginning of a boundary.
    let body: Vec<u8> = (0..=255).chain(*b"\r\n\n\r\r\n--").collect();
    let frame = frame(&body);
    let id = ContentId::new("frame/1@a.example").unwrap();
    let message = json!({ "messageId": "1", "role": "ROLE_USER", "parts": [a2a::attached_part(&id)] });
    let sent = RelatedBody::new(&message, &id, &frame);
    let value = json!({
        "content_type": sent.content_type().to_str().unwrap(),
        "body": STANDARD.encode(sent.chunks().concat()),
    });
    let Some(found) = A2A.read("multipart", value) else { return };
    let part = json!({ "media_type": FRAME, "raw": null, "url": "cid:frame%2F1@a.example", "metadata": {} });
    let other = json!({
        "content_id": "<frame/1@a.example>",
        "media_type": FRAME,
        "encoding": "binary",
        "body": hex(&frame),
    });
    let expected = json!({
        "type": "multipart/related",
        "root_type": "application/json",
        "root": [part],
        "others": [other],
        "defects": [],
    });
    assert_eq!(found, expected);
}

#[test]
fn the_mcp_sdk_reads_our_results_under_each_revision_as_we_meant_them() {
    let frame = frame(&[0xff; 100]);
    let context = context(&frame);
    let url = context.url();
    // MCP has a field of its own for the size.
    let mut known = details(&context);
    known.as_object_mut().unwrap().shift_remove("size");
    let held = json!({ "uri": url.as_str(), "media_type": FRAME, "raw": hex(&frame) });
    let listed = json!({
        "uri": url.as_str(),
        "name": "réseau",
        "media_type": FRAME,
        "size": frame.bytes().len(),
        "context": known,
    });
    let typed = |kind: &str, value: &Value| {
        let mut typed = Map::from_iter([("type".to_owned(), kind.into())]);
        typed.extend(value.as_object().unwrap().clone());
        Value::Object(typed)
    };
    let text = json!({ "type": "text", "text": "hello" });
    let blocks = [text, mcp::resource_link(&context), mcp::embedded_resource(url, &frame)];
    let cases = [
        (
            "tool_result",
            mcp::tool_result(blocks),
            json!([{ "type": "text" }, typed("resource_link", &listed), typed("resource", &held)]),
        ),
        ("resources", mcp::list_resources_result([mcp::resource(&context)]), json!([listed])),
        ("contents", mcp::read_resource_result([mcp::resource_contents(url, &frame)]), json!([held])),
    ];
    for (kind, value, expected) in cases {
        let Some(found) = MCP.read(kind, value) else { return };
        assert_eq!(found, expected, "{kind}");
    }
}

/// `value` with whole numbers for the floats that protobuf makes of them.
fn as_integers(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), as_integers(value))).collect(),
        Value::Array(list) => list.iter().map(as_integers).collect(),
        Value::Number(number) => (number.as_f64().unwrap() as u64).into(),
        other => other.clone(),
    }
}
