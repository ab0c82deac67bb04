//! Chat messages.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A message of a conversation, in the format of chat APIs.
///
/// ```
/// # use avp_runtime_ort::Message;
/// let call: Message = serde_json::from_str(
///     r#"{"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "now"}}]}"#,
/// )?;
/// assert!(call.fields.contains_key("tool_calls"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or another role of the model's template.
    pub role: String,
    /// The content. Templates distinguish `null` from a missing content.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Other fields for the template, such as `tool_calls`, `tool_call_id`, `name` and `reasoning_content`.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts. Those with text are `{"type": "text", "text": ...}`.
    Parts(Vec<Value>),
    /// `null`, as in an assistant's message with tool calls only.
    Null,
}

impl Message {
    /// A message from `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(Content::Text(content.into())), fields: Map::new() }
    }

    /// The text, or the joined text of the parts.
    pub fn text(&self) -> String {
        match &self.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
            }
            Some(Content::Null) | None => String::new(),
        }
    }
}

/// Deserializes a present `null` as `Some`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Content>, D::Error> {
    Content::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_message_comes_back_as_it_was() {
        for json in [
            r#"{"role":"user","content":"hi"}"#,
            r#"{"role":"user","content":[{"type":"image"},{"type":"text","text":"hi"}]}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"b":1,"a":2}]}"#,
            r#"{"role":"assistant","name":"b"}"#,
        ] {
            let message: Message = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), json);
        }
    }

    #[test]
    fn a_message_without_a_role_or_with_a_number_for_content_is_none() {
        for json in [r#"{"content":"hi"}"#, r#"{"role":"user","content":7}"#, r#"{"role":7}"#, "[]"] {
            assert!(serde_json::from_str::<Message>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_text_of_parts_is_that_of_the_text_parts() {
        let json = r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image"},{"type":"text","text":"b"}]}"#;
        assert_eq!(serde_json::from_str::<Message>(json).unwrap().text(), "ab");
    }
}
