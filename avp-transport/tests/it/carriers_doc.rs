//! The examples of `docs/carriers.md` are what this crate writes.

use avp_core::{FrameEncoder, Metadata, OwnedFrame, OwnedModelIdentity};
use avp_transport::carriers::{
    ContextRef,
    a2a::{self, AgentExtension},
    mcp,
    multipart::{ContentId, RelatedBody},
};
use serde_json::{Value, json};

use crate::common::blocks;

fn frame() -> OwnedFrame {
    let fields = Metadata { session_id: "s-1", ..Default::default() };
    let bytes = FrameEncoder::new(fields).encode(b"tensor").unwrap();
    OwnedFrame::decode(bytes.into()).unwrap()
}

fn identity() -> OwnedModelIdentity {
    OwnedModelIdentity {
        model_family: "qwen2".to_owned(),
        model_id: "Qwen/Qwen2.5-0.5B".to_owned(),
        model_hash: "5a0c…".to_owned(),
        hidden_dim: 896,
        num_layers: 24,
        num_kv_heads: 2,
        head_dim: 64,
        tokenizer_hash: "c3f1…".to_owned(),
    }
}

fn context() -> ContextRef {
    let url = "https://a.example/avp/v2/contexts/c1".parse().unwrap();
    let mut context = ContextRef::new(url).unwrap().describing(&frame());
    context.etag = context.crc32.map(|sum| format!("\"{sum:08x}\""));
    context.identity = Some(identity());
    context
}

fn a2a_message(part: Value) -> Value {
    json!({ "messageId": "m1", "role": "ROLE_AGENT", "parts": [part], "extensions": [a2a::EXTENSION] })
}

#[test]
fn the_json_in_the_documentation_is_what_is_written() {
    let mut extension = AgentExtension::new("https://a.example/".parse().unwrap()).unwrap();
    extension.identity = Some(identity());
    let mut card = json!({ "name": "A" });
    extension.put_into(&mut card).unwrap();
    let url = context().url().clone();
    let text = json!({ "type": "text", "text": "The notes are read." });
    let written = [
        a2a_message(a2a::frame_part(&frame())),
        a2a_message(a2a::context_part(&context())),
        card,
        mcp::tool_result([text.clone(), mcp::resource_link(&context())]),
        mcp::tool_result([text, mcp::embedded_resource(&url, &frame())]),
        mcp::list_resources_result([mcp::resource(&context())]),
        mcp::read_resource_result([mcp::resource_contents(&url, &frame())]),
    ];
    let shown = blocks("carriers.md", "json");
    assert_eq!(shown.len(), written.len());
    for (shown, written) in shown.iter().zip(&written) {
        assert_eq!(&serde_json::from_str::<Value>(shown).unwrap(), written, "{written:#}");
    }
}

#[test]
fn the_multipart_body_in_the_documentation_is_what_is_written() {
    let id = ContentId::new("frame-1@a.example").unwrap();
    let body = RelatedBody::new(&a2a_message(a2a::attached_part(&id)), &id, &frame());
    let content_type = body.content_type().to_str().unwrap();
    let boundary = content_type.split("boundary=").nth(1).unwrap().split(';').next().unwrap();
    let [head, _, tail] = body.chunks();
    let [head, tail] = [head, tail].map(|piece| std::str::from_utf8(piece).unwrap());
    let whole = format!("Content-Type: {content_type}\r\n\r\n{head}(the frame){tail}");
    let shown = blocks("carriers.md", "http").concat();
    assert_eq!(whole.replace(boundary, "8f2c…").replace("\r\n", "\n"), shown + "\n");
}
