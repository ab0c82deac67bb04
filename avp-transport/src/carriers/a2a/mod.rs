//! Frames and contexts in A2A: in parts of messages and artifacts, the agent card, and a header.
//!
//! The writer uses A2A 1.0 in protobuf's JSON form. The reader also accepts A2A 0.3, whose parts have a `file`.

mod extension;

pub use extension::{AgentExtension, EXTENSIONS_HEADER, extensions_value, requested_extensions};

use avp_core::OwnedFrame;
use serde_json::{Value, json};

use super::{
    CarrierError, Content, ContextRef, Limits,
    json::{Object, absolute, base64_text, wrong},
    multipart::ContentId,
};
use crate::wire;

/// The URI of the extension, in agent cards, in the header, and in `extensions` of messages and artifacts.
///
/// Its version changes with its meaning.
pub const EXTENSION: &str = "urn:agent-vector-protocol:a2a:v1";

/// The key in a part's `metadata` of the description of a context.
pub const CONTEXT_KEY: &str = "urn:agent-vector-protocol:a2a:v1/context";

/// A part with a frame.
///
/// ```
/// use avp_core::{FrameEncoder, Metadata, OwnedFrame};
/// use avp_transport::carriers::a2a;
///
/// let frame = OwnedFrame::decode(FrameEncoder::new(Metadata::default()).encode(b"tensor")?.into())?;
/// let part = a2a::frame_part(&frame);
/// assert_eq!(part["mediaType"], "application/avp+binary");
/// assert!(part["raw"].as_str().unwrap().starts_with("QVYB")); // "AV", version 1
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Base64 adds a third to its size. Send a large frame as a [`context_part`].
#[must_use]
pub fn frame_part(frame: &OwnedFrame) -> Value {
    json!({ "raw": base64_text(frame), "mediaType": wire::FRAME })
}

/// A part with the URL of a stored context.
///
/// ```
/// use avp_transport::carriers::{ContextRef, a2a};
///
/// let url = "https://a.example/avp/v2/contexts/c1".parse()?;
/// let part = a2a::context_part(&ContextRef::new(url)?);
/// assert_eq!(part["url"], "https://a.example/avp/v2/contexts/c1");
/// assert_eq!(part["metadata"][a2a::CONTEXT_KEY]["id"], "c1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn context_part(context: &ContextRef) -> Value {
    json!({
        "url": context.url().as_str(),
        "mediaType": wire::FRAME,
        "metadata": { CONTEXT_KEY: context.details() },
    })
}

/// A part that refers to a frame in another part of the same `multipart/related` body.
///
/// ```
/// use avp_transport::carriers::{a2a, multipart::ContentId};
///
/// let part = a2a::attached_part(&ContentId::new("frame@a.example")?);
/// assert_eq!(part["url"], "cid:frame@a.example");
/// # Ok::<(), avp_transport::carriers::CarrierError>(())
/// ```
#[must_use]
pub fn attached_part(content_id: &ContentId) -> Value {
    json!({ "url": content_id.url(), "mediaType": wire::FRAME })
}

/// The frame or context in a part; `None` for parts of other media types.
///
/// ```
/// use avp_transport::carriers::{Limits, a2a};
///
/// let text = serde_json::json!({ "text": "hello" });
/// assert_eq!(a2a::read_part(&text, &Limits::default()), Ok(None));
/// ```
///
/// # Errors
/// [`CarrierError`] if a part of a frame's media type has neither a frame nor a reference, or both.
pub fn read_part(part: &Value, limits: &Limits) -> Result<Option<Content>, CarrierError> {
    let part = Object::of(part, "part", limits)?;
    let metadata = part.object("metadata")?;
    match part.object("file")? {
        // A2A 0.3.
        Some(file) => read_content(file, "mimeType", ["bytes", "uri"], metadata),
        // Readers of protobuf's JSON also accept a field's original name.
        None if part.has("media_type") => read_content(part, "media_type", ["raw", "url"], metadata),
        None => read_content(part, "mediaType", ["raw", "url"], metadata),
    }
}

/// The frames and contexts in the parts of a message or an artifact, in order.
///
/// ```
/// use avp_transport::carriers::{Limits, a2a};
///
/// let message = serde_json::json!({ "messageId": "1", "role": "ROLE_USER", "parts": [{ "text": "hello" }] });
/// assert_eq!(a2a::read_parts(&message, &Limits::default())?, []);
/// # Ok::<(), avp_transport::carriers::CarrierError>(())
/// ```
///
/// # Errors
/// Those of [`read_part`], for the first invalid part; [`CarrierError`] if there are no parts, or more than the limit.
pub fn read_parts(message: &Value, limits: &Limits) -> Result<Vec<Content>, CarrierError> {
    let parts = Object::of(message, "message", limits)?.list("parts")?;
    let parts = parts.ok_or(wrong("parts", "a list", "nothing"))?;
    parts.iter().filter_map(|part| read_part(part, limits).transpose()).collect()
}

/// The frame or context in a part whose fields have these names.
fn read_content(
    part: Object<'_>,
    media_type: &'static str,
    [raw, url]: [&'static str; 2],
    metadata: Option<Object<'_>>,
) -> Result<Option<Content>, CarrierError> {
    if !part.names_frame(media_type)? {
        return Ok(None);
    }
    let frame = part.frame(raw)?;
    let Some(address) = part.text(url)? else {
        let frame = frame.ok_or(wrong("part", "raw bytes or a URL", "neither"))?;
        return Ok(Some(Content::Frame(frame)));
    };
    if frame.is_some() {
        return Err(wrong("part", "raw bytes or a URL", "both"));
    }
    if let Some(id) = ContentId::from_url(address)? {
        return Ok(Some(Content::Attached(id)));
    }
    let details = metadata.map_or(Ok(None), |metadata| metadata.object(CONTEXT_KEY))?;
    let context = ContextRef::new(absolute(address, url)?)?.with_details(details)?;
    Ok(Some(Content::Context(context.into())))
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

    fn read(part: Value) -> Result<Option<Content>, CarrierError> {
        read_part(&part, &Limits::default())
    }

    #[test]
    fn both_alphabets_of_base64_are_read_with_and_without_padding() {
        // Bytes that the alphabets write differently, and two of them over a multiple of three.
        let frame = frame(&[0xff, 0xfe, 0xfb, 0xff, 0xbf]);
        let standard = base64_text(&frame).as_str().unwrap().to_owned();
        let url_safe = standard.replace('+', "-").replace('/', "_");
        assert_ne!(standard, url_safe);
        for text in [&standard, &url_safe, standard.trim_end_matches('='), url_safe.trim_end_matches('=')] {
            let part = json!({ "raw": text, "mediaType": wire::FRAME });
            assert_eq!(read(part), Ok(Some(Content::Frame(frame.clone()))), "{text}");
        }
    }

    #[test]
    fn a_media_type_is_found_under_the_name_that_protobuf_has_for_it() {
        let frame = frame(b"tensor");
        let part = json!({ "raw": base64_text(&frame), "media_type": wire::FRAME });
        assert_eq!(read(part), Ok(Some(Content::Frame(frame))));
    }

    #[test]
    fn a_part_of_our_type_is_a_frame_or_an_address_and_never_both() {
        let cases = [
            (json!({}), "bad_field"),
            (json!({ "raw": null }), "bad_field"),
            (json!({ "raw": base64_text(&frame(b"")), "url": "https://a.example/c1" }), "bad_field"),
            (json!({ "raw": [65, 86] }), "bad_field"),
            (json!({ "url": "file:///etc/passwd" }), "bad_field"),
            (json!({ "url": "cid:" }), "bad_field"),
            (json!({ "raw": "QVYB*" }), "bad_base64"),
            (json!({ "raw": "QVYBQ" }), "bad_base64"),
            (json!({ "raw": "QVYB" }), "truncated"),
            (json!({ "raw": "UEsDBAAAAAAAAAAA" }), "bad_magic"),
            (json!({ "url": "https://a.example/c1", "metadata": { CONTEXT_KEY: [] } }), "bad_field"),
        ];
        for (mut part, kind) in cases {
            part["mediaType"] = wire::FRAME.into();
            assert_eq!(read(part.clone()).unwrap_err().kind(), kind, "{part}");
        }
        assert_eq!(read(json!("text")).unwrap_err().kind(), "bad_field");
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_the_length_of_its_text() {
        let mut limits = Limits::default();
        limits.frame.frame = 1000;
        let part = |len: usize| json!({ "raw": "*".repeat(len), "mediaType": wire::FRAME });
        assert_eq!(read_part(&part(1336), &limits).unwrap_err().kind(), "frame_too_large");
        // One that is within it is looked at, and then is no base64.
        assert_eq!(read_part(&part(1332), &limits).unwrap_err().kind(), "bad_base64");
    }

    #[test]
    fn more_parts_than_the_limit_are_refused() {
        let limits = Limits { parts: 2, ..Default::default() };
        let message = |count: usize| json!({ "parts": vec![json!({ "text": "hi" }); count] });
        assert_eq!(read_parts(&message(2), &limits), Ok(vec![]));
        let error = CarrierError::TooLarge { field: "parts", limit: 2, got: 3 };
        assert_eq!(read_parts(&message(3), &limits), Err(error));
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(body: Vec<u8>, context in any_context()) {
            let frame = frame(&body);
            let message = json!({ "parts": [{ "text": "hi" }, frame_part(&frame), context_part(&context)] });
            let carried = read_parts(&message, &Limits::default()).unwrap();
            prop_assert_eq!(carried, [Content::Frame(frame), Content::Context(context.into())]);
        }

        #[test]
        fn no_text_in_a_part_makes_the_reader_panic(raw in "\\PC{0,40}", base64 in "[A-Za-z0-9+/_=-]{0,40}") {
            for text in [raw, base64] {
                for field in ["raw", "url", "mediaType", "metadata", "file"] {
                    let mut part = json!({ "raw": "QVYB", "mediaType": wire::FRAME });
                    part[field] = text.as_str().into();
                    let _ = read(part);
                }
            }
        }
    }
}
