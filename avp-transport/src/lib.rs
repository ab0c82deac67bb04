//! AVP over HTTP: agents on other machines hand each other frames.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod client;
pub mod reader;
pub mod server;
pub mod store;
pub mod wire;
