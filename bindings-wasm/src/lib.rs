//! The WebAssembly module of the npm package `avp-wasm`.
//!
//! The host writes a request into this module's memory, names an operation, and reads the answer: JSON, or the bytes of
//! a frame's head. Nothing of that needs generated glue, so the module has six exports and two imports, and the same
//! file serves browsers, bundlers, workers, Deno and Node; `js/src` is the other side.
//!
//! | part | does |
//! |---|---|
//! | [`operation`] | answers one request |
//! | `avp-wasm-crc` | checksums of a payload that passes through a window |
//! | [`zstd`] | packs and unpacks a body that the host hands over in pieces |
//! | `abi` | the exports; the only place that knows of memory addresses |
//!
//! A body never comes in whole, except that of a hybrid frame, whose chunks can only be found by reading it.
#![deny(unsafe_code)]

#[cfg(target_arch = "wasm32")]
mod abi;
mod border;
pub mod fault;
mod frames;
mod messages;
pub mod operation;
mod packets;
mod rules;
mod utf16;
pub mod zstd;
