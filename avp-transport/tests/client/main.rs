//! The client against servers that do as they should, and servers that do not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod blocking;
mod faults;
mod fetching;
mod handshake;
mod sending;
mod server;
mod timeouts;
mod tls;
