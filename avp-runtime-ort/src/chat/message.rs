//! One message of a conversation, as the chat APIs write it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// One message of a conversation.
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
    /// `system`, `user`, `assistant`, `tool` or what else the model's template knows.
    pub role: String,
    /// What it says. A template can tell a content that is `null` from none at all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// All else: `tool_calls`, `tool_call_id`, `name`, `reasoning_content`, and whatever a template looks at.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts, of which `{"type": "text", "text": ...}` are the ones with text.
    Parts(Vec<Value>),
    /// `null`, as in an assistant's message that only calls tools.
    Null,
}

impl Message {
    /// A message from `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(Content::Text(content.into())), fields: Map::new() }
    }

    /// Its text; that of all its parts where it has parts.
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

/// Where the field is there it is something, `null` too.
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
