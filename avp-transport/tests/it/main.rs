//! The server over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;
mod contexts;
mod faults;
mod listen;
mod server;
mod soak;
