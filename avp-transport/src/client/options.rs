//! Options of a client.

use std::{fmt, sync::Arc, time::Duration};

use avp_core::{Dialect, Evidence, OwnedModelIdentity, json::Json};
use http::HeaderValue;

use super::{ClientError, RetryPolicy, TlsOptions};
use avp_core::FrameLimits;

/// Options of a [`Client`](super::Client).
///
/// ```
/// use avp_transport::client::{ClientOptions, Token};
///
/// let options = ClientOptions {
///     agent_id: "researcher".to_owned(),
///     token: Some(Token::new("s3cret")?),
///     ..Default::default()
/// };
/// assert!(!format!("{options:?}").contains("s3cret"));
/// # Ok::<(), avp_transport::client::ClientError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The id of this agent. Default: `"default"`, as in the Python package.
    pub agent_id: String,
    /// The model of this agent. Without one the mode is always JSON.
    pub identity: Option<OwnedModelIdentity>,
    /// Further capabilities for the handshake, a JSON object.
    pub capabilities: Json,
    /// The bearer token.
    pub token: Option<Token>,
    /// The dialect to write where the server does not name its own.
    pub dialect: Dialect,
    /// Looks up evidence about two models during the handshake.
    pub evidence: Option<EvidenceLookup>,
    /// Options of TLS.
    pub tls: TlsOptions,
    /// Whether to allow plain HTTP to other machines, where the network can read tokens and contexts. Default: `false`.
    pub allow_plain_http: bool,
    /// Whether to use HTTP/2 without TLS, which the server must support without negotiation: this crate's does, the Python
    /// package's does not. Default: `false`.
    pub plain_http2: bool,
    /// A proxy for every request. Environment variables are ignored.
    pub proxy: Option<Proxy>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// How to retry requests that are safe to repeat.
    pub retry: RetryPolicy,
    /// The maximum size of a frame, sent or fetched.
    pub limits: FrameLimits,
    /// The maximum length of a JSON response, in bytes. Default: 1 MiB.
    pub reply_limit: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            agent_id: "default".to_owned(),
            identity: None,
            capabilities: Json::object([]),
            token: None,
            dialect: Dialect::default(),
            evidence: None,
            tls: TlsOptions::default(),
            allow_plain_http: false,
            plain_http2: false,
            proxy: None,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            limits: FrameLimits::default(),
            reply_limit: 1 << 20,
        }
    }
}

/// Timeouts of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For connecting, TLS included. Default: 10 s.
    pub connect: Duration,
    /// For the first byte of the response, after the last byte of the request. Default: 60 s. A request without a body
    /// gets the time for connecting in addition, because the client cannot see when it was connected.
    pub first_byte: Duration,
    /// For the next bytes of a body, in either direction. Default: 30 s.
    pub idle: Duration,
    /// For the whole operation with all retries. Default: no limit.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            total: None,
        }
    }
}

/// A bearer token. `Debug` does not print it.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// A token of printable ASCII without spaces.
    ///
    /// # Errors
    /// [`ClientError::Option`] for another character or an empty token.
    pub fn new(token: &str) -> Result<Self, ClientError> {
        let printable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = printable.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
        let wrong = ClientError::Option { option: "a token", expected: "printable ASCII without spaces" };
        let mut value = value.ok_or(wrong)?;
        // Excluded from HTTP/2's header tables and from logs.
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// `text` without the token.
    pub(super) fn hide_in(&self, text: &str) -> String {
        let token = self.0.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        token.map_or_else(String::new, |token| text.replace(token, "(token)"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A proxy for every request. `Debug` does not print its URL, which may contain a password.
#[derive(Clone)]
pub struct Proxy(reqwest::Proxy);

impl Proxy {
    /// The proxy with this URL, such as `http://proxy.example:3128`.
    ///
    /// # Errors
    /// [`ClientError::Option`] for an invalid URL.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let wrong =
            |_| ClientError::Option { option: "the proxy", expected: "a URL such as http://host:3128" };
        reqwest::Proxy::all(url).map(Self).map_err(wrong)
    }

    pub(super) fn inner(&self) -> reqwest::Proxy {
        self.0.clone()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(..)")
    }
}

/// Looks up evidence about the client's model and the server's: whether a map between them is stored, how many tokens they
/// share.
#[derive(Clone)]
pub struct EvidenceLookup(Arc<Lookup>);

type Lookup = dyn Fn(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence + Send + Sync;

impl EvidenceLookup {
    /// Calls `lookup` with the client's identity and the server's in each handshake.
    ///
    /// ```
    /// use avp_core::{Evidence, stored_map_id};
    /// use avp_transport::client::EvidenceLookup;
    ///
    /// let folder = std::path::Path::new("maps");
    /// EvidenceLookup::new(move |ours, theirs| {
    ///     let id = stored_map_id(&ours.model_hash, &theirs.model_hash);
    ///     Evidence { has_stored_map: folder.join(format!("{id}.safetensors")).exists(), shared_tokens: None }
    /// });
    /// ```
    pub fn new(
        lookup: impl Fn(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(lookup))
    }

    pub(super) fn find(&self, ours: &OwnedModelIdentity, theirs: &OwnedModelIdentity) -> Evidence {
        (self.0)(ours, theirs)
    }
}

impl fmt::Debug for EvidenceLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EvidenceLookup(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_contain_secrets() {
        let options = ClientOptions {
            token: Some(Token::new("s3cret").unwrap()),
            proxy: Some(Proxy::new("http://user:s3cret@proxy.example:3128").unwrap()),
            ..Default::default()
        };
        assert!(!format!("{options:?}").contains("s3cret"));
    }

    #[test]
    fn an_invalid_token_is_refused_and_not_repeated() {
        for token in ["", "a b", "a\r\nHost: evil", "é", "a\u{7f}"] {
            let error = Token::new(token).unwrap_err();
            assert_eq!(error.to_string(), "a token should be printable ASCII without spaces");
        }
    }
}
