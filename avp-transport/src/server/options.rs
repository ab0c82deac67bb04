//! Options of a server: access, limits, timeouts.

use std::{num::NonZeroU32, time::Duration};

use avp_core::FrameLimits;

use super::{AllowedHosts, AllowedOrigins, BodyTimeouts, Tokens};

/// Options of a server.
///
/// ```
/// use avp_transport::server::{ServerOptions, Tokens};
///
/// let options = ServerOptions { tokens: Tokens::new(["s3cret"]), ..Default::default() };
/// assert_eq!(options.limits.frame.metadata, 64 << 10);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The accepted bearer tokens. Default: none, and every request is accepted.
    pub tokens: Tokens,
    /// The names by which clients may address the server. Default: IP addresses and `localhost`.
    pub hosts: AllowedHosts,
    /// The web pages that may use the server. Default: none.
    pub origins: AllowedOrigins,
    /// Limits of sizes, numbers and times.
    pub limits: Limits,
    /// How long to wait for a request's body.
    pub body_timeouts: BodyTimeouts,
}

/// Limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The size of a frame.
    pub frame: FrameLimits,
    /// The maximum length of a request's header fields, in bytes. Default: 16 KiB.
    pub headers: usize,
    /// The maximum length of a JSON body, in bytes. Default: 1 MiB.
    pub json: usize,
    /// The maximum number of bodies received concurrently, frames and JSON. Default: 256.
    pub bodies: usize,
    /// The maximum number of bytes of all frames that are being received into memory. Default: 4 GiB.
    pub buffered: u64,
    /// The maximum number of connections. Default: 4,096. Further ones wait to be accepted.
    pub connections: usize,
    /// The maximum number of requests per second of a principal, or of an address without a valid token, with bursts of the
    /// same size. Default: `None`, no limit.
    pub requests_per_second: Option<NonZeroU32>,
    /// The timeout from accepting a connection to the end of its first request's head, TLS included. Default: 10 s.
    pub head_timeout: Duration,
    /// How long a connection may be idle between requests. Default: 75 s.
    pub idle_timeout: Duration,
    /// How often [`Handler::remove_expired`](super::Handler::remove_expired) is called. Default: every 30 s.
    pub cleanup_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: FrameLimits::default(),
            headers: 16 << 10,
            json: 1 << 20,
            bodies: 256,
            buffered: 4 << 30,
            connections: 4096,
            requests_per_second: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            cleanup_interval: Duration::from_secs(30),
        }
    }
}
