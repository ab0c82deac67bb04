//! The JSON messages that agents exchange beside frames: hello, JSON message, fallback request.

use alloc::string::{String, ToString};
use core::fmt;

use crate::{
    OwnedModelIdentity,
    json::{Json, ReadError},
};

/// The `avp_version` of our own hello: the newest peer whose frames this crate writes.
pub const AVP_VERSION: &str = "0.6.2";

/// What an agent says of itself before the first frame.
///
/// Its `Display` is the JSON text that the peers write.
///
/// # Examples
///
/// ```
/// # use avp_core::{Dialect, messages::Hello};
/// let hello = Hello::parse(r#"{"agent_id": "a", "avp_version": "0.2.1"}"#).unwrap();
/// assert_eq!(Dialect::from_avp_version(&hello.avp_version), Some(Dialect::V0_2));
/// assert_eq!(hello.to_string(), r#"{"agent_id": "a", "avp_version": "0.2.1", "capabilities": {}}"#);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// The agent.
    pub agent_id: String,
    /// The version that the agent speaks: [`Dialect::from_avp_version`](crate::Dialect::from_avp_version) turns it
    /// into a dialect.
    pub avp_version: String,
    /// The agent's model, where it has one.
    pub identity: Option<OwnedModelIdentity>,
    /// Whatever else the agent can do: an object.
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
    /// Reads a hello. What is absent or null has its default.
    ///
    /// # Errors
    ///
    /// [`ReadError`] where the text is no JSON object, or a field of it something else than it should be.
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

/// What an agent says in JSON where latent state does not serve.
///
/// Its `Display` is the JSON text that the peers write.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonMessage {
    /// The version that the sender speaks.
    pub avp_version: String,
    /// The session that the message belongs to.
    pub session_id: String,
    /// The agent that sends it.
    pub source_agent_id: String,
    /// The agent that it is for.
    pub target_agent_id: String,
    /// What it says.
    pub content: String,
    /// Whatever else: an object; left out when empty.
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
    /// Reads a JSON message. What is absent or null has its default.
    ///
    /// # Errors
    ///
    /// [`ReadError`] where the text is no JSON object, or a field of it something else than it should be.
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

/// A receiver's request to go on in JSON (dialect 0.2).
///
/// Its `Display` is the JSON text that the peers write.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FallbackRequest {
    /// The session that shall go on in JSON.
    pub session_id: String,
    /// Why latent state does not serve.
    pub reason: String,
    /// Perplexity that the receiver measured on the state; 0 where it did not.
    pub perplexity_score: f64,
}

impl FallbackRequest {
    /// Reads a fallback request. What is absent or null has its default.
    ///
    /// # Errors
    ///
    /// [`ReadError`] where the text is no JSON object, or a field of it something else than it should be.
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
    Ok(OwnedModelIdentity {
        model_family: identity.text_field("model_family", "")?,
        model_id: identity.text_field("model_id", "")?,
        model_hash: identity.text_field("model_hash", "")?,
        hidden_dim: identity.u32_field("hidden_dim")?,
        num_layers: identity.u32_field("num_layers")?,
        num_kv_heads: identity.u32_field("num_kv_heads")?,
        head_dim: identity.u32_field("head_dim")?,
        tokenizer_hash: identity.text_field("tokenizer_hash", "")?,
    })
}

fn write_identity(identity: &OwnedModelIdentity) -> Json {
    let number = |value: u32| Json::from(u64::from(value));
    let entries = [
        ("model_family", identity.model_family.as_str().into()),
        ("model_id", identity.model_id.as_str().into()),
        ("model_hash", identity.model_hash.as_str().into()),
        ("hidden_dim", number(identity.hidden_dim)),
        ("num_layers", number(identity.num_layers)),
        ("num_kv_heads", number(identity.num_kv_heads)),
        ("head_dim", number(identity.head_dim)),
    ];
    let tokenizer_hash = identity.tokenizer_hash.as_str();
    let tokenizer = (!tokenizer_hash.is_empty()).then(|| ("tokenizer_hash", tokenizer_hash.into()));
    Json::object(entries.into_iter().chain(tokenizer))
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
