//! Frames and contexts in MCP: in a tool's result, a resource, or the list of resources.
//!
//! The field names are those of the revisions from 2025-06-18, the first with `resource_link`, to 2026-07-28. The latter adds
//! `resultType`, `ttlMs` and `cacheScope`, which earlier peers ignore.

use avp_core::OwnedFrame;
use serde_json::{Value, json};
use url::Url;

use super::{
    CarrierError, Content, ContextRef, Limits,
    json::{Object, base64_text, wrong},
};
use crate::wire;

/// The key in `_meta` of the description of a context.
///
/// MCP recommends a reversed domain as prefix; AVP has no domain.
pub const CONTEXT_KEY: &str = "agent-vector-protocol/context";

/// A content block with the URL of a stored context.
///
/// ```
/// use avp_transport::carriers::{ContextRef, mcp};
///
/// let url = "https://a.example/avp/v2/contexts/c1".parse()?;
/// let link = mcp::resource_link(&ContextRef::new(url)?);
/// assert_eq!(link["type"], "resource_link");
/// assert_eq!(link["uri"], "https://a.example/avp/v2/contexts/c1");
/// assert_eq!(link["_meta"][mcp::CONTEXT_KEY]["id"], "c1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// MCP reserves `https` for resources that a client can fetch without the MCP server, as it can a context.
#[must_use]
pub fn resource_link(context: &ContextRef) -> Value {
    let mut link = json!({ "type": "resource_link" });
    if let (Value::Object(link), Value::Object(entry)) = (&mut link, resource(context)) {
        link.extend(entry);
    }
    link
}

/// An entry in the list of resources: [`resource_link`] without its `type`.
///
/// ```
/// use avp_transport::carriers::{ContextRef, mcp};
///
/// let url = "https://a.example/avp/v2/contexts/c1".parse()?;
/// assert_eq!(mcp::resource(&ContextRef::new(url)?)["name"], "c1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn resource(context: &ContextRef) -> Value {
    let mut entry = json!({ "uri": context.url().as_str(), "name": context.id, "mimeType": wire::FRAME });
    let mut details = context.details();
    // MCP has its own field for it.
    if let Some(size) = details.as_object_mut().and_then(|details| details.shift_remove("size")) {
        entry["size"] = size;
    }
    entry["_meta"] = json!({ CONTEXT_KEY: details });
    entry
}

/// The contents of a resource: an entry of the response to `resources/read`, and the `resource` of [`embedded_resource`].
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedFrame};
/// use avp_transport::carriers::{Limits, mcp};
///
/// let frame = OwnedFrame::decode(FrameEncoder::new(Metadata::default()).encode(b"tensor")?.into())?;
/// let contents = mcp::resource_contents(&"https://a.example/avp/v2/contexts/c1".parse()?, &frame);
/// assert!(contents["blob"].as_str().unwrap().starts_with("QVYB")); // "AV", version 1
/// assert_eq!(mcp::read_contents(&contents, &Limits::default())?, Some(frame));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn resource_contents(uri: &Url, frame: &OwnedFrame) -> Value {
    json!({ "uri": uri.as_str(), "mimeType": wire::FRAME, "blob": base64_text(frame) })
}

/// A content block with a frame.
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedFrame};
/// use avp_transport::carriers::mcp;
///
/// let frame = OwnedFrame::decode(FrameEncoder::new(Metadata::default()).encode(b"tensor")?.into())?;
/// let block = mcp::embedded_resource(&"https://a.example/avp/v2/contexts/c1".parse()?, &frame);
/// assert_eq!(block["resource"]["mimeType"], "application/avp+binary");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Base64 adds a third to its size. Send a large frame as a [`resource_link`].
#[must_use]
pub fn embedded_resource(uri: &Url, frame: &OwnedFrame) -> Value {
    json!({ "type": "resource", "resource": resource_contents(uri, frame) })
}

/// A tool result with these content blocks.
///
/// ```
/// use avp_transport::carriers::mcp;
///
/// let text = serde_json::json!({ "type": "text", "text": "The notes are read." });
/// assert_eq!(mcp::tool_result([text])["content"][0]["type"], "text");
/// ```
///
/// Add a block of text for models that cannot use the others.
pub fn tool_result(content: impl IntoIterator<Item = Value>) -> Value {
    json!({ "content": content.into_iter().collect::<Vec<_>>(), "resultType": "complete" })
}

/// The response to `resources/read`: entries from [`resource_contents`]. Shared caches must not store them, because a
/// context is a private conversation.
///
/// ```
/// use avp_transport::carriers::mcp;
///
/// assert_eq!(mcp::read_resource_result([])["cacheScope"], "private");
/// ```
pub fn read_resource_result(contents: impl IntoIterator<Item = Value>) -> Value {
    private_result("contents", contents)
}

/// The response to `resources/list`: entries from [`resource`].
///
/// ```
/// use avp_transport::carriers::mcp;
///
/// assert_eq!(mcp::list_resources_result([])["resources"], serde_json::json!([]));
/// ```
pub fn list_resources_result(resources: impl IntoIterator<Item = Value>) -> Value {
    private_result("resources", resources)
}

/// The frame or context in a content block; `None` for blocks of other media types.
///
/// ```
/// use avp_transport::carriers::{Limits, mcp};
///
/// let text = serde_json::json!({ "type": "text", "text": "hello" });
/// assert_eq!(mcp::read_content(&text, &Limits::default()), Ok(None));
/// ```
///
/// # Errors
/// [`CarrierError`] if a resource of a frame's media type is neither a frame nor a reference.
pub fn read_content(content: &Value, limits: &Limits) -> Result<Option<Content>, CarrierError> {
    let block = Object::of(content, "content", limits)?;
    match block.text("type")?.ok_or(wrong("type", "a string", "nothing"))? {
        "resource_link" => {
            Ok(read_resource(content, limits)?.map(|context| Content::Context(context.into())))
        }
        "resource" => {
            let resource = block.object("resource")?.ok_or(wrong("resource", "an object", "nothing"))?;
            Ok(read_blob(resource)?.map(Content::Frame))
        }
        _ => Ok(None),
    }
}

/// The frames and contexts in the content blocks of a tool result, in order.
///
/// ```
/// use avp_transport::carriers::{Limits, mcp};
///
/// assert_eq!(mcp::read_tool_result(&mcp::tool_result([]), &Limits::default())?, []);
/// # Ok::<(), avp_transport::carriers::CarrierError>(())
/// ```
///
/// # Errors
/// Those of [`read_content`], for the first invalid block; [`CarrierError`] if there is no content, or more than the limit.
pub fn read_tool_result(result: &Value, limits: &Limits) -> Result<Vec<Content>, CarrierError> {
    let content = Object::of(result, "result", limits)?.list("content")?;
    let content = content.ok_or(wrong("content", "a list", "nothing"))?;
    content.iter().filter_map(|block| read_content(block, limits).transpose()).collect()
}

/// The context of an entry in the list of resources; `None` for another media type.
///
/// ```
/// use avp_transport::carriers::{ContextRef, Limits, mcp};
///
/// let context = ContextRef::new("https://a.example/avp/v2/contexts/c1".parse()?)?;
/// assert_eq!(mcp::read_resource(&mcp::resource(&context), &Limits::default())?, Some(context));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`CarrierError`] if its URL or its description is invalid.
pub fn read_resource(entry: &Value, limits: &Limits) -> Result<Option<ContextRef>, CarrierError> {
    let entry = Object::of(entry, "resource", limits)?;
    if !entry.names_frame("mimeType")? {
        return Ok(None);
    }
    let url = entry.url("uri")?.ok_or(wrong("uri", "an absolute URL", "nothing"))?;
    let mut context = ContextRef::new(url)?;
    if let Some(name) = entry.text("name")? {
        context.id = name.to_owned();
    }
    context.size = entry.integer("size")?;
    let details = entry.object("_meta")?.map_or(Ok(None), |meta| meta.object(CONTEXT_KEY))?;
    context.with_details(details).map(Some)
}

/// The frame of an entry in the response to `resources/read`; `None` for another media type.
///
/// # Errors
/// [`CarrierError`] if it has no valid frame.
pub fn read_contents(contents: &Value, limits: &Limits) -> Result<Option<OwnedFrame>, CarrierError> {
    read_blob(Object::of(contents, "contents", limits)?)
}

fn read_blob(contents: Object<'_>) -> Result<Option<OwnedFrame>, CarrierError> {
    if !contents.names_frame("mimeType")? {
        return Ok(None);
    }
    contents.frame("blob")?.ok_or(wrong("blob", "base64", "nothing")).map(Some)
}

fn private_result(name: &str, entries: impl IntoIterator<Item = Value>) -> Value {
    json!({
        name: entries.into_iter().collect::<Vec<_>>(),
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    })
}

#[cfg(test)]
mod tests {
    use avp_core::{FrameEncoder, Metadata};
    use proptest::prelude::*;

    use super::{super::context_ref::tests::any_context, *};

    fn frame(body: &[u8]) -> OwnedFrame {
        let bytes = FrameEncoder::new(Metadata::default()).encode(body).unwrap();
        OwnedFrame::decode(bytes.into()).unwrap()
    }

    fn read(content: Value) -> Result<Option<Content>, CarrierError> {
        read_content(&content, &Limits::default())
    }

    #[test]
    fn what_a_link_says_without_our_details_is_taken() {
        let link = json!({
            "type": "resource_link",
            "uri": "https://a.example/kept/7",
            "name": "notes",
            "mimeType": wire::FRAME,
            "size": 4096,
        });
        let Ok(Some(Content::Context(context))) = read(link) else { panic!("no context") };
        assert_eq!((context.id.as_str(), context.size, context.crc32), ("notes", Some(4096), None));
    }

    #[test]
    fn blocks_of_other_kinds_and_types_are_passed_over() {
        for block in [
            json!({ "type": "image", "data": "QVYB", "mimeType": wire::FRAME }),
            json!({ "type": "resource_link", "uri": "file:///notes.txt", "name": "notes" }),
            json!({ "type": "resource", "resource": { "uri": "file:///notes.txt", "text": "hello" } }),
            json!({ "type": "something new" }),
        ] {
            assert_eq!(read(block.clone()), Ok(None), "{block}");
        }
    }

    #[test]
    fn a_block_of_our_type_without_a_frame_is_refused() {
        let resource = |mut resource: Value| {
            resource["mimeType"] = wire::FRAME.into();
            json!({ "type": "resource", "resource": resource })
        };
        for (block, kind) in [
            (json!({}), "bad_field"),
            (json!({ "type": "resource" }), "bad_field"),
            (json!({ "type": "resource_link", "mimeType": wire::FRAME }), "bad_field"),
            (
                json!({ "type": "resource_link", "mimeType": wire::FRAME, "uri": "file:///c1.avp" }),
                "bad_field",
            ),
            (resource(json!({ "text": "QVYB" })), "bad_field"),
            (resource(json!({ "blob": "QVYB\n" })), "bad_base64"),
            (resource(json!({ "blob": "QVYB" })), "truncated"),
        ] {
            assert_eq!(read(block.clone()).unwrap_err().kind(), kind, "{block}");
        }
        assert_eq!(
            read_tool_result(&json!({ "isError": true }), &Limits::default()).unwrap_err().kind(),
            "bad_field"
        );
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(body: Vec<u8>, context in any_context()) {
            let frame = frame(&body);
            let text = json!({ "type": "text", "text": "hi" });
            let result = tool_result([text, embedded_resource(context.url(), &frame), resource_link(&context)]);
            let carried = read_tool_result(&result, &Limits::default()).unwrap();
            prop_assert_eq!(carried, [Content::Frame(frame.clone()), Content::Context(context.clone().into())]);

            let list = list_resources_result([resource(&context)]);
            let listed = read_resource(&list["resources"][0], &Limits::default()).unwrap();
            prop_assert_eq!(listed, Some(context.clone()));
            let held = read_resource_result([resource_contents(context.url(), &frame)]);
            prop_assert_eq!(read_contents(&held["contents"][0], &Limits::default()).unwrap(), Some(frame));
        }

        #[test]
        fn no_text_in_a_block_makes_the_reader_panic(text in "\\PC{0,40}") {
            for field in ["type", "uri", "mimeType", "name", "_meta", "resource"] {
                for kind in ["resource", "resource_link"] {
                    let mut block = json!({
                        "type": kind,
                        "uri": "https://a.example/c1",
                        "mimeType": wire::FRAME,
                        "resource": { "blob": text, "mimeType": wire::FRAME },
                    });
                    block[field] = text.as_str().into();
                    let _ = read(block);
                }
            }
        }
    }
}
