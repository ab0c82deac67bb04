//! The HTTP binding: paths, headers, and the JSON of responses.
//!
//! Paths and headers are those of `avp` 0.2.1 and 0.6.2. Peers may ignore the additions of this crate: contexts, metrics and
//! ids.

use avp_core::Dialect;
use http::HeaderName;
use serde_json::{Map, Value};

/// The media type of a frame.
pub const FRAME: &str = "application/avp+binary";

/// The media type of all other bodies.
pub const JSON: &str = "application/json";

/// The path of handshakes: `POST` a hello in JSON.
pub const HANDSHAKE: &str = "/avp/v2/handshake";

/// The path of frames: `POST` a frame.
pub const TRANSMIT: &str = "/avp/v2/transmit";

/// The path of text messages: `POST` a message in JSON.
pub const TEXT: &str = "/avp/v2/text";

/// The prefix of the paths of stored contexts, before the id: `GET`, `HEAD` or `DELETE`, and
/// `POST` for a link.
pub const CONTEXTS: &str = "/avp/v2/contexts/";

/// The path of health checks: `GET`.
pub const HEALTH: &str = "/health";

/// The path of the metrics in Prometheus' text format: `GET`.
pub const METRICS: &str = "/metrics";

/// The sender's version of the binding: `0.2` or `0.4`.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("avp-version");

/// The sender's agent id.
pub const AGENT_HEADER: HeaderName = HeaderName::from_static("avp-agent-id");

/// The request's id in the logs of client and server. The server generates one if the client sent none.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The key that all retries of a request share, so that it is processed once.
pub const IDEMPOTENCY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The capability in a handshake of a server that supports idempotency keys for frames. A client may then retry a frame after
/// any broken connection.
pub const IDEMPOTENCY_CAPABILITY: &str = "idempotency_keys";

/// The value of [`VERSION_HEADER`] in this dialect: 0.2 for `avp` 0.2.1, 0.4 for `avp` 0.6.2.
#[must_use]
pub const fn binding_version(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V0_2 => "0.2",
        Dialect::V0_3 => "0.4",
    }
}

/// The JSON object of a response.
///
/// ```
/// use avp_transport::wire::Reply;
///
/// let reply = Reply::new().with("context_id", "c1");
/// assert_eq!(reply.to_string(), r#"{"success":true,"context_id":"c1"}"#);
/// assert_eq!(Reply::parse(reply.to_string().as_bytes()).unwrap().text("context_id"), Some("c1"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Reply(Map<String, Value>);

impl Reply {
    /// A reply with only `success`.
    #[must_use]
    pub fn new() -> Self {
        Self(Map::from_iter([("success".to_owned(), true.into())]))
    }

    /// An error: a stable name for programs, and a sentence for people.
    #[must_use]
    pub fn failure(code: &str, message: &str) -> Self {
        Self(Map::new()).with("success", false).with("code", code).with("message", message)
    }

    /// Sets a field.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Parses a reply; `None` if it is not a JSON object.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    /// Whether `success` is true, which peers send in addition to the status.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.0.get("success") == Some(&Value::Bool(true))
    }

    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value of a string field.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

impl From<Map<String, Value>> for Reply {
    /// A reply of another protocol than AVP.
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A map with string keys is always valid JSON.
        f.write_str(&serde_json::to_string(&self.0).unwrap_or_default())
    }
}
