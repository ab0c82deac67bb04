//! The WebAssembly module of the npm package `avp-wasm`.
//!
//! The host writes a request into this module's memory, names an operation, and reads the answer: JSON, or the bytes of
//! a frame's head. Nothing of that needs generated glue, so the module has few exports and two imports, and the same
//! file serves browsers, bundlers, workers, Deno and Node; `js/src` is the other side.
//!
//! | part | does |
//! |---|---|
//! | `avp-js-operations` | answers one request, for every binding |
//! | `avp-wasm-crc` | checksums of a payload that passes through a window |
//! | [`zstd`] | packs and unpacks a body that the host hands over in pieces |
//! | `abi` | the exports; the only place that knows of memory addresses |
//!
//! A body never comes in whole, except that of a hybrid frame, whose chunks can only be found by reading it.
#![deny(unsafe_code)]

#[cfg(target_arch = "wasm32")]
mod abi;
pub mod zstd;
