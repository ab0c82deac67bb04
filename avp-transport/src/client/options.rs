//! What a client can be told beside its server's address.

use std::{fmt, sync::Arc, time::Duration};

use avp_core::{Dialect, Evidence, OwnedModelIdentity, json::Json};
use http::HeaderValue;

use super::{ClientError, RetryPolicy, TlsOptions};
use avp_core::FrameLimits;

/// What a [`Client`](super::Client) can be told. Every option has a default that suits a first try.
///
/// ```
/// # use avp_transport::client::{ClientOptions, Token};
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
    /// What this agent calls itself: `"default"` unless said otherwise, as the peers' clients.
    pub agent_id: String,
    /// The model of this agent. Without one no latent state can be agreed on.
    pub identity: Option<OwnedModelIdentity>,
    /// What else this agent can do, an object: told in the handshake.
    pub capabilities: Json,
    /// The token that the server knows this agent by.
    pub token: Option<Token>,
    /// The dialect to speak where the server does not say which it reads.
    pub dialect: Dialect,
    /// Looks up what is known about two models, before the handshake decides.
    pub evidence: Option<EvidenceLookup>,
    /// Certificates and versions of TLS.
    pub tls: TlsOptions,
    /// Whether to speak without TLS to a server that is not on this machine: `false` unless said otherwise. Whoever is on
    /// the way then reads token and contexts.
    pub allow_plain_http: bool,
    /// Whether to speak HTTP/2 where there is no TLS to agree on it: `false` unless said otherwise. The server must know
    /// it, as this one does; the peers' servers do not.
    pub plain_http2: bool,
    /// A proxy for every request. Nothing in the environment names one unasked.
    pub proxy: Option<Proxy>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often to try again what cannot be done twice by it: a frame that may have arrived only where a handshake has shown
    /// that the server takes none twice.
    pub retry: RetryPolicy,
    /// How large a frame may be, sent or fetched.
    pub limits: FrameLimits,
    /// The most bytes of a JSON answer: 1 MiB unless said otherwise.
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

/// How long the client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included: 10 s unless said otherwise.
    pub connect: Duration,
    /// For the first byte of the answer, from when the last of the request went out: 60 s unless said otherwise. A request
    /// without a body does not show when its connection stood, so it is given the time for connecting in addition.
    pub first_byte: Duration,
    /// For the next bytes of a body, in either direction: 30 s unless said otherwise.
    pub idle: Duration,
    /// For the whole deed, with all its retries: no limit unless said otherwise.
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

/// A bearer token; its `Debug` does not show it.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Takes a token.
    ///
    /// # Errors
    /// [`ClientError::Option`] where it has characters that no header can carry, or none at all.
    pub fn new(token: &str) -> Result<Self, ClientError> {
        let printable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = printable.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
        let wrong = ClientError::Option { option: "a token", expected: "printable ASCII without spaces" };
        let mut value = value.ok_or(wrong)?;
        // Kept out of HTTP/2's tables of recent headers, and out of logs.
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// A text without the token in it.
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

/// A proxy that every request goes through; its `Debug` does not show a password in its address.
#[derive(Clone)]
pub struct Proxy(reqwest::Proxy);

impl Proxy {
    /// The proxy at this address, such as `http://proxy.example:3128`.
    ///
    /// # Errors
    /// [`ClientError::Option`] where that is no address.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let wrong =
            |_| ClientError::Option { option: "the proxy", expected: "an address such as http://host:3128" };
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

/// Looks up what the caller knows about our model and the server's: whether a map between them is stored, how many tokens
/// they share.
#[derive(Clone)]
pub struct EvidenceLookup(Arc<Lookup>);

type Lookup = dyn Fn(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence + Send + Sync;

impl EvidenceLookup {
    /// Calls `lookup` with our identity and the server's, within each handshake.
    ///
    /// ```
    /// # use avp_core::{Evidence, stored_map_id};
    /// # use avp_transport::client::EvidenceLookup;
    /// # let folder = std::path::PathBuf::new();
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
    fn secrets_are_not_shown() {
        let options = ClientOptions {
            token: Some(Token::new("s3cret").unwrap()),
            proxy: Some(Proxy::new("http://user:s3cret@proxy.example:3128").unwrap()),
            ..Default::default()
        };
        assert!(!format!("{options:?}").contains("s3cret"));
    }

    #[test]
    fn a_token_that_would_end_its_header_is_refused_unseen() {
        for token in ["", "a b", "a\r\nHost: evil", "é", "a\u{7f}"] {
            let error = Token::new(token).unwrap_err();
            assert_eq!(error.to_string(), "a token should be printable ASCII without spaces");
        }
    }
}
