//! The server over real sockets, and the carriers against the SDKs of the protocols that they serve.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod access;
mod carriers;
mod carriers_doc;
mod common;
mod contexts;
mod faults;
mod fuzz_smoke;
mod idempotency;
mod listen;
mod refused;
mod server;
mod soak;
mod transport_doc;
