//! Options of a server: access, limits, timeouts.

use std::{num::NonZeroU32, time::Duration};

use avp_core::FrameLimits;

use super::{AllowedHosts, AllowedOrigins, AuditLog, BodyTimeouts, FairShares, Tokens};

/// Options of a server.
///
/// ```
/// use avp_transport::server::{ServerOptions, Tokens};
///
/// let options = ServerOptions { tokens: Tokens::new(["s3cret"]), ..Default::default() };
/// assert_eq!(options.limits.frame.metadata, 64 << 10);
/// ```
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The accepted bearer tokens. Default: none, and every request is accepted.
    pub tokens: Tokens,
    /// The names by which clients may address the server. Default: IP addresses and `localhost`.
    pub hosts: AllowedHosts,
    /// The web pages that may use the server. Default: none.
    pub origins: AllowedOrigins,
    /// Limits of sizes, numbers and times.
    pub limits: Limits,
    /// The memory for requests, in bytes: bodies, windows of zstd, JSON, contexts that are being sent, and what your own
    /// [`Handler`](super::Handler) takes from a clone of it. Default: 4 GiB. Stored contexts have a quota of their own.
    pub memory: FairShares,
    /// How long to wait for bodies.
    pub body_timeouts: BodyTimeouts,
    /// Where to write down who did what. Default: nowhere.
    pub audit: Option<AuditLog>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tokens: Tokens::default(),
            hosts: AllowedHosts::default(),
            origins: AllowedOrigins::default(),
            limits: Limits::default(),
            memory: FairShares::new(4 << 30),
            body_timeouts: BodyTimeouts::default(),
            audit: None,
        }
    }
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
    /// The maximum number of bodies received concurrently, frames and JSON, in [`FairShares`]. Default: 256.
    pub bodies: usize,
    /// The maximum number of connections, in [`FairShares`] of addresses. Default: 4,096. Another one takes the place of one that was
    /// idle for longest. Each takes [`CONNECTION_MEMORY`](super::CONNECTION_MEMORY) beside the memory of the requests.
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
            connections: 4096,
            requests_per_second: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            cleanup_interval: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        server::{
            CONNECTION_MEMORY, MAX_SIGNATURE_LIFETIME, SESSION_MEMORY, buffer, idempotency, json_cost,
            listen, signatures,
        },
        store::{INDEX_MEMORY, MAX_READER_MEMORY, SEAL_MEMORY, START},
    };

    fn bytes(bytes: u64) -> String {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let (unit, shift) = units.into_iter().find(|(_, shift)| bytes.is_multiple_of(1 << shift)).unwrap();
        format!("{} {unit}", bytes >> shift)
    }

    fn seconds(time: Duration) -> String {
        format!("{} s", time.as_secs())
    }

    #[test]
    fn the_documented_limits_are_the_defaults() {
        let ServerOptions { limits, memory, body_timeouts, .. } = ServerOptions::default();
        let expected = [
            ("metadata of a frame", bytes(limits.frame.metadata as u64)),
            ("a frame", bytes(limits.frame.frame)),
            ("uncompressed size of a compressed body", bytes(limits.frame.unpacked as u64)),
            ("header fields", bytes(limits.headers as u64)),
            ("JSON", bytes(limits.json as u64)),
            ("memory of all requests", bytes(memory.limit())),
            ("memory of all sessions", bytes(SESSION_MEMORY as u64)),
            ("memory of the index of a folder", bytes(INDEX_MEMORY as u64)),
            (
                "unused buffers for frames, and at most a sixteenth of the memory of all requests",
                bytes(buffer::MAX_POOLED as u64),
            ),
            ("memory of a connection, beside that of requests", bytes(CONNECTION_MEMORY)),
            ("memory of a response from a folder", bytes(MAX_READER_MEMORY)),
            ("memory of a frame to or from a sealed folder, beside that", bytes(SEAL_MEMORY)),
            (
                "memory of JSON and its values, for each byte of it",
                format!("{} bytes", json_cost::MEMORY_PER_BYTE),
            ),
            (
                "memory of each list, object and comma of JSON, beside that",
                format!("{} bytes", json_cost::MEMORY_PER_VALUE),
            ),
            ("idempotency keys", idempotency::MAX_KEYS.to_string()),
            ("signatures that are remembered", signatures::MAX_SIGNATURES.to_string()),
            ("time from signing to expiry", format!("{MAX_SIGNATURE_LIFETIME} s")),
            ("bodies at a time, frames and JSON", limits.bodies.to_string()),
            ("connections", limits.connections.to_string()),
            ("from the connection to the end of its first head, including TLS", seconds(limits.head_timeout)),
            ("between requests", seconds(limits.idle_timeout)),
            ("between two pieces of a body, either way", seconds(body_timeouts.idle)),
            ("a whole body, beside its time at the minimum speed", seconds(body_timeouts.grace_period)),
            ("minimum speed of a body, either way", format!("{}/s", bytes(body_timeouts.min_rate))),
            ("window of an HTTP/2 stream", bytes(listen::STREAM_WINDOW.into())),
            ("window of an HTTP/2 connection", bytes(listen::CONNECTION_WINDOW.into())),
            ("requests of an HTTP/2 connection at a time", listen::MAX_STREAMS.to_string()),
            ("wait of a start for the contexts of a folder", format!("{} ms", START.as_millis())),
            (
                "requests per second of a caller",
                limits.requests_per_second.map_or("none".into(), |n| n.to_string()),
            ),
        ];
        let page = include_str!("../../../docs/transport.md").replace("\r\n", "\n");
        let table = page.split("| limit | default |\n|---|---|\n").nth(1).unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let rows: Vec<_> = rows.map(|row| row.trim_matches(['|', ' ']).split_once(" | ").unwrap()).collect();
        assert_eq!(rows, expected.each_ref().map(|(name, default)| (*name, &**default)));
        let costs = include_str!("../../../SECURITY.md");
        for cost in [
            format!("| any host that reaches the port | {};", bytes(CONNECTION_MEMORY)),
            format!("in a folder {} for each, in a sealed one", bytes(MAX_READER_MEMORY)),
            format!("in a sealed one {} more |", bytes(SEAL_MEMORY)),
            format!(
                "{} times its length and {} bytes for each list, object and comma",
                json_cost::MEMORY_PER_BYTE,
                json_cost::MEMORY_PER_VALUE
            ),
            format!("{} for all, where the caller with the most", bytes(SESSION_MEMORY as u64)),
        ] {
            assert!(costs.contains(&cost), "{cost}");
        }
    }
}
