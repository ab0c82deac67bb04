//! What an exchange looks like in HTTP: paths, header names, the JSON object that answers.
//!
//! Paths and names are those of `avp` 0.2.1 and 0.6.2; what this crate adds (contexts, metrics, ids) a peer may ignore.

use avp_core::{Dialect, json::Json};
use http::HeaderName;
use serde_json::{Map, Value};

/// The media type of a frame.
pub const FRAME: &str = "application/avp+binary";

/// The media type of everything else.
pub const JSON: &str = "application/json";

/// Where an agent says hello: `POST`, a hello in JSON.
pub const HANDSHAKE: &str = "/avp/v2/handshake";

/// Where a frame goes: `POST`, the frame.
pub const TRANSMIT: &str = "/avp/v2/transmit";

/// Where words go that latent state cannot carry: `POST`, a message in JSON.
pub const TEXT: &str = "/avp/v2/text";

/// Under this lie the kept contexts: `GET`, `HEAD` or `DELETE`, the id behind it.
pub const CONTEXTS: &str = "/avp/v2/contexts/";

/// Whether the server is there: `GET`.
pub const HEALTH: &str = "/health";

/// What the server has counted, in Prometheus' text format: `GET`.
pub const METRICS: &str = "/metrics";

/// The version of the binding that the sender speaks: `0.2` or `0.4`.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("avp-version");

/// Who sends.
pub const AGENT_HEADER: HeaderName = HeaderName::from_static("avp-agent-id");

/// A name for one request, in logs of both sides; a server makes one up where the client gave none.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// A name for one deed: however often a request with it arrives, it is done once.
pub const IDEMPOTENCY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The capability by which a server says in its handshake that it knows idempotency keys of frames: then a client may
/// repeat one that it does not know the fate of.
pub const IDEMPOTENCY_CAPABILITY: &str = "idempotency_keys";

/// What a peer of this dialect writes into [`VERSION_HEADER`]: `avp` 0.2.1 says 0.2, `avp` 0.6.2 says 0.4.
#[must_use]
pub const fn binding_version(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V0_2 => "0.2",
        Dialect::V0_3 => "0.4",
    }
}

/// The JSON object that answers a request.
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
    /// A reply that says nothing but success.
    #[must_use]
    pub fn new() -> Self {
        Self(Map::from_iter([("success".to_owned(), true.into())]))
    }

    /// A reply that says why not: a stable name for programs, a sentence for people.
    #[must_use]
    pub fn failure(code: &str, message: &str) -> Self {
        Self(Map::new()).with("success", false).with("code", code).with("message", message)
    }

    /// Adds a field, in place of one that was there.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a field that avp's own JSON wrote.
    #[must_use]
    pub fn with_json(self, field: &str, value: &Json) -> Self {
        // What it writes is JSON, but for lone surrogates, which no UTF-8 holds.
        self.with(field, serde_json::from_str(&value.to_string()).unwrap_or(Value::Null))
    }

    /// Reads a reply; `None` where it is no JSON object.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    /// Whether it says success, as a peer's answers do beside their status.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.0.get("success") == Some(&Value::Bool(true))
    }

    /// A field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A field that is text.
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
        // A map of text to JSON values always has a text of its own.
        f.write_str(&serde_json::to_string(&self.0).unwrap_or_default())
    }
}
