//! What the JavaScript API (`js/api.ts`) asks of Rust: one request, one answer, the same for every binding.
//!
//! | part | does |
//! |---|---|
//! | [`operation`] | names every request, and answers it |
//! | [`fault`] | what an `Error` in JavaScript is made of |
//! | `border` | the form of requests and answers |
//!
//! `bindings-wasm` calls this from WebAssembly, `bindings-node` from a Node addon; `js/src` is the host's side of both.
#![forbid(unsafe_code)]

mod border;
pub mod fault;
mod frames;
mod messages;
pub mod operation;
mod packets;
mod rules;
mod tables;
mod utf16;
