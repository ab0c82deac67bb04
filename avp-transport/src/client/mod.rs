//! The client: sends frames and text to another agent's server, and fetches contexts from it.
//!
//! ```no_run
//! use avp_core::{FrameEncoder, Metadata};
//! use avp_transport::client::{Client, ClientOptions, FrameBody};
//!
//! # async fn example(frame: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("https://agent-b.example:8443", ClientOptions::default())?;
//! let session = client.session().await?; // A handshake, the first time.
//! let fields = Metadata { session_id: &session.id, ..Default::default() };
//! let frame = FrameEncoder::new(fields).dialect(session.dialect).encode(b"tensor")?;
//! let receipt = client.transmit(FrameBody::bytes(frame)).await?;
//! println!("stored as {:?}", receipt.context_id());
//! # Ok(())
//! # }
//! ```
//!
//! Failed requests that are safe to repeat are retried: see [`RetryPolicy`]. Every wait has a timeout: see [`Timeouts`].
//! Redirects are not followed, so a token is sent to its server only.
//!
//! [`blocking`] is the same client for programs without an asynchronous runtime.

pub mod blocking;
mod chunks;
mod error;
mod exchange;
mod fetch;
mod frame_body;
mod handshake;
mod link;
mod options;
mod outgoing_frame;
mod retry;
mod send;
mod session;
mod sink;
mod tls;
mod upload;

use std::{
    fmt,
    sync::{Arc, RwLock},
    time::Duration,
};

use http::HeaderValue;
use reqwest::{Url, redirect};

pub use {
    error::{ClientError, TimeoutKind},
    fetch::{ContextInfo, Fetch, Fetched, FetchedFile},
    frame_body::FrameBody,
    link::Linked,
    options::{ClientOptions, EvidenceLookup, Proxy, Timeouts, Token},
    retry::RetryPolicy,
    send::{Receipt, Sent},
    session::Session,
    tls::{Roots, TlsIdentity, TlsOptions},
};

/// The HTTP/2 window of a stream, in bytes: large, so that a frame of 128 MiB does not wait for window updates.
const STREAM_WINDOW: u32 = 8 << 20;

/// The HTTP/2 window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The maximum length of a response's headers in HTTP/2, in bytes.
const HEADER_LIMIT: u32 = 16 << 10;

/// The maximum number of headers of a response in HTTP/1.1.
const MAX_HEADERS: usize = 64;

/// How long an idle connection is kept: less than the 75 s of this crate's server, so that the server does not close one
/// just as a request is sent on it.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// A client of one server. Clones share connections and session, and can be used by many tasks concurrently.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    base: Url,
    agent: HeaderValue,
    options: ClientOptions,
    session: RwLock<Option<handshake::CachedSession>>,
    /// Held during a handshake, so that concurrent tasks perform one.
    handshake_lock: tokio::sync::Mutex<()>,
}

impl Client {
    /// Creates a client of the server at `base_url`, such as `https://agent-b.example:8443`. It does not connect yet.
    ///
    /// ```
    /// use avp_transport::client::{Client, ClientOptions};
    ///
    /// assert!(Client::new("http://127.0.0.1:8000", ClientOptions::default()).is_ok());
    /// let error = Client::new("http://agent-b.example", ClientOptions::default()).unwrap_err();
    /// assert_eq!(error.kind(), "insecure_url");
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::InsecureUrl`], [`ClientError::Option`] or [`ClientError::Tls`].
    pub fn new(base_url: &str, options: ClientOptions) -> Result<Self, ClientError> {
        let base = exchange::base_url(base_url, options.allow_plain_http, options.proxy.is_some())?;
        let wrong =
            |_| ClientError::Option { option: "the agent id", expected: "text without control characters" };
        let agent = HeaderValue::try_from(&options.agent_id).map_err(wrong)?;
        let is_plain = base.scheme() == "http";
        let tls = if is_plain { tls::unused() } else { tls::config(&options.tls) }?;
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(!is_plain)
            .redirect(redirect::Policy::none())
            .referer(false)
            // This client has its own retry policy; a second one would multiply the attempts.
            .retry(reqwest::retry::never())
            .connect_timeout(options.timeouts.connect)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(HEADER_LIMIT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW);
        let builder = match &options.proxy {
            Some(proxy) => builder.proxy(proxy.inner()),
            None => builder.no_proxy(),
        };
        let builder = if is_plain && options.plain_http2 { builder.http2_prior_knowledge() } else { builder };
        let http =
            builder.build().map_err(|error| ClientError::from_http(error, options.timeouts.connect))?;
        let (session, handshake_lock) = (RwLock::default(), tokio::sync::Mutex::default());
        Ok(Self { inner: Arc::new(Inner { http, base, agent, options, session, handshake_lock }) })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.inner.base.as_str()).finish_non_exhaustive()
    }
}
