//! The JSON messages of the protocol: hello, JSON message, fallback request.

use alloc::string::{String, ToString};
use core::fmt;

use crate::{
    FieldValue, OwnedModelIdentity,
    json::{Json, ReadError},
};

/// The `avp_version` of this crate's hello: the newest Python package whose frames it writes.
pub const AVP_VERSION: &str = "0.6.2";

/// The message that opens a handshake.
///
/// `Display` writes the same JSON text as the Python package.
///
/// # Examples
///
/// ```
/// use avp_core::{Dialect, messages::Hello};
///
/// let hello = Hello::parse(r#"{"agent_id": "a", "avp_version": "0.2.1"}"#)?;
/// assert_eq!(Dialect::from_avp_version(&hello.avp_version), Some(Dialect::V0_2));
/// assert_eq!(hello.to_string(), r#"{"agent_id": "a", "avp_version": "0.2.1", "capabilities": {}}"#);
/// # Ok::<(), avp_core::json::ReadError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// The id of the agent.
    pub agent_id: String,
    /// The version of the agent; see [`Dialect::from_avp_version`](crate::Dialect::from_avp_version).
    pub avp_version: String,
    /// The agent's model, if it has one.
    pub identity: Option<OwnedModelIdentity>,
    /// Further capabilities: an object.
    pub capabilities: Json,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            agent_id: String::new(),
            avp_version: AVP_VERSION.to_string(),
            identity: None,
            capabilities: Json::object([]),
        }
    }
}

impl Hello {
    /// Reads a hello. Fields that are absent or null get their default.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the text is not a JSON object or a field has the wrong type.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let message = Json::parse_object(text, "hello")?;
        Ok(Self {
            agent_id: message.text_field("agent_id", "")?,
            avp_version: message.text_field("avp_version", AVP_VERSION)?,
            identity: message.field("identity").map(read_identity).transpose()?,
            capabilities: object_field(&message, "capabilities")?.unwrap_or_else(|| Json::object([])),
        })
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity.as_ref().map(|identity| ("identity", write_identity(identity)));
        let entries = [
            ("agent_id", self.agent_id.as_str().into()),
            ("avp_version", self.avp_version.as_str().into()),
            ("capabilities", self.capabilities.clone()),
        ];
        Json::object(entries.into_iter().chain(identity)).fmt(f)
    }
}

/// A message in JSON mode.
///
/// `Display` writes the same JSON text as the Python package.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonMessage {
    /// The version of the sender.
    pub avp_version: String,
    /// The session of the message.
    pub session_id: String,
    /// The sender.
    pub source_agent_id: String,
    /// The receiver.
    pub target_agent_id: String,
    /// The text.
    pub content: String,
    /// Further fields: an object; omitted if empty.
    pub extra: Json,
}

impl Default for JsonMessage {
    fn default() -> Self {
        Self {
            avp_version: AVP_VERSION.to_string(),
            session_id: String::new(),
            source_agent_id: String::new(),
            target_agent_id: String::new(),
            content: String::new(),
            extra: Json::object([]),
        }
    }
}

impl JsonMessage {
    /// Reads a JSON message. Fields that are absent or null get their default.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the text is not a JSON object or a field has the wrong type.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let message = Json::parse_object(text, "JSON message")?;
        Ok(Self {
            avp_version: message.text_field("avp_version", AVP_VERSION)?,
            session_id: message.text_field("session_id", "")?,
            source_agent_id: message.text_field("source_agent_id", "")?,
            target_agent_id: message.text_field("target_agent_id", "")?,
            content: message.text_field("content", "")?,
            extra: object_field(&message, "extra")?.unwrap_or_else(|| Json::object([])),
        })
    }
}

impl fmt::Display for JsonMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = [
            ("avp_version", self.avp_version.as_str().into()),
            ("session_id", self.session_id.as_str().into()),
            ("source_agent_id", self.source_agent_id.as_str().into()),
            ("target_agent_id", self.target_agent_id.as_str().into()),
            ("content", self.content.as_str().into()),
        ];
        let extra = (!self.extra.is_empty_object()).then(|| ("extra", self.extra.clone()));
        Json::object(entries.into_iter().chain(extra)).fmt(f)
    }
}

/// A receiver's request to continue in JSON mode (dialect 0.2).
///
/// `Display` writes the same JSON text as the Python package.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FallbackRequest {
    /// The session.
    pub session_id: String,
    /// The reason.
    pub reason: String,
    /// The perplexity that the receiver measured; 0 if it did not.
    pub perplexity_score: f64,
}

impl FallbackRequest {
    /// Reads a fallback request. Fields that are absent or null get their default.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the text is not a JSON object or a field has the wrong type.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let message = Json::parse_object(text, "fallback request")?;
        let perplexity_score = match message.field("perplexity_score") {
            None => 0.0,
            Some(score) => {
                score.as_f64().ok_or(ReadError::Field { field: "perplexity_score", expected: "a number" })?
            }
        };
        Ok(Self {
            session_id: message.text_field("session_id", "")?,
            reason: message.text_field("reason", "")?,
            perplexity_score,
        })
    }
}

impl fmt::Display for FallbackRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Json::object([
            ("session_id", self.session_id.as_str().into()),
            ("reason", self.reason.as_str().into()),
            ("perplexity_score", self.perplexity_score.into()),
        ])
        .fmt(f)
    }
}

fn read_identity(identity: &Json) -> Result<OwnedModelIdentity, ReadError> {
    if !identity.is_object() {
        return Err(ReadError::Field { field: "identity", expected: "an object" });
    }
    OwnedModelIdentity::from_fields(|field| identity.text_field(field, ""), |field| identity.u32_field(field))
}

/// As the Python package: without a tokenizer hash if that is empty.
fn write_identity(identity: &OwnedModelIdentity) -> Json {
    let is_written = |field: &(&str, FieldValue<'_>)| *field != ("tokenizer_hash", FieldValue::Text(""));
    Json::object(identity.fields().filter(is_written).map(|(field, value)| match value {
        FieldValue::Text(text) => (field, text.into()),
        FieldValue::Number(number) => (field, u64::from(number).into()),
    }))
}

fn object_field(message: &Json, field: &'static str) -> Result<Option<Json>, ReadError> {
    match message.field(field) {
        Some(value) if !value.is_object() => Err(ReadError::Field { field, expected: "an object" }),
        value => Ok(value.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_fields_have_their_defaults() {
        let hello = Hello::parse(r#"{"identity": null, "agent_id": null}"#).unwrap();
        assert_eq!(hello, Hello::default());
        assert_eq!(JsonMessage::parse("{}").unwrap(), JsonMessage::default());
        assert_eq!(FallbackRequest::parse("{}").unwrap(), FallbackRequest::default());
    }

    #[test]
    fn fields_of_another_kind_are_refused_by_name() {
        for (text, field) in [
            ("[]", "hello"),
            (r#"{"agent_id": 1}"#, "agent_id"),
            (r#"{"agent_id": "\ud800"}"#, "agent_id"),
            (r#"{"capabilities": []}"#, "capabilities"),
            (r#"{"identity": "qwen2"}"#, "identity"),
            (r#"{"identity": {"hidden_dim": 4294967296}}"#, "hidden_dim"),
            (r#"{"identity": {"hidden_dim": -1}}"#, "hidden_dim"),
            (r#"{"identity": {"hidden_dim": 896.0}}"#, "hidden_dim"),
        ] {
            match Hello::parse(text) {
                Err(ReadError::Field { field: named, .. }) => assert_eq!(named, field, "{text}"),
                other => panic!("{text} gave {other:?}"),
            }
        }
    }

    #[test]
    fn a_fallback_request_reads_and_writes_the_same() {
        let text = r#"{"session_id": "s", "reason": "perplexity", "perplexity_score": 12.5}"#;
        assert_eq!(FallbackRequest::parse(text).unwrap().to_string(), text);
    }
}
