//! The server and the client against programs of others: the Python packages' client and server, `curl`, and a conformance run
//! of HTTP/1.1 and HTTP/2 on the wire.
//!
//! `cargo xtask test` installs the packages and names their interpreters in the environment; without them there is nothing to
//! ask, and the tests say so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../it/common.rs"]
#[allow(dead_code, reason = "what the tests beside these need")]
mod common;
mod conformance;
mod curl;
mod our_client;
mod python;
mod their_client;
mod tls;
