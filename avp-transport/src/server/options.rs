//! What a server takes, from whom, and how much of it.

use std::{num::NonZeroU32, time::Duration};

use super::{Pace, Tokens};
use crate::reader::FrameLimits;

/// How a server answers. Every field has a default; give what you want otherwise.
///
/// ```
/// # use avp_transport::server::{Limits, ServerOptions, Tokens};
/// let options = ServerOptions { tokens: Tokens::new(["s3cret"]), ..Default::default() };
/// assert_eq!(options.limits.frame.metadata, 64 << 10);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Who may ask; everybody unless said otherwise.
    pub tokens: Tokens,
    /// How much is taken.
    pub limits: Limits,
    /// How long a sender is waited for.
    pub pace: Pace,
}

/// How much a server takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One frame.
    pub frame: FrameLimits,
    /// The most bytes of a request's header fields: 16 KiB unless said otherwise.
    pub headers: usize,
    /// The most bytes of a JSON body: 1 MiB unless said otherwise.
    pub json: usize,
    /// The most bodies at a time, frames and JSON: 256 unless said otherwise.
    pub bodies: usize,
    /// The most bytes of frames that are being received into memory, all together: 4 GiB unless said otherwise.
    pub buffered: u64,
    /// The most connections: 4,096 unless said otherwise. Others wait to be accepted.
    pub connections: usize,
    /// The most requests per second and agent, with bursts of as many; `None`, the default, counts none. An agent is an
    /// address and a name, and anybody can write a name: this keeps order among friends, tokens keep strangers out.
    pub requests_per_second: Option<NonZeroU32>,
    /// How long a connection may take, from when it is accepted, over its TLS handshake and its first request's head, both
    /// together: 10 s unless said otherwise.
    pub head_time: Duration,
    /// How long a connection may be idle between requests: 75 s unless said otherwise.
    pub idle_time: Duration,
    /// How often [`Handler::tidy`](super::Handler::tidy) is called: every 30 s unless said otherwise.
    pub tidy_every: Duration,
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
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            tidy_every: Duration::from_secs(30),
        }
    }
}
