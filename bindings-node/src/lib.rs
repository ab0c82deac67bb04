//! The addon of the npm package `avp-node`.
//!
//! The public API is TypeScript (`js/src`) over these functions. A function returns its value, or a [`Failure`] that TypeScript
//! throws as an `Error`.
//!
//! | part | does |
//! |---|---|
//! | `requests` | exports the functions of `avp-js-operations`, and processes payloads in place |
//! | `failure` | errors for JavaScript, which include panics |
//! | `runtime` | models and contexts, each call on its own thread |
//!
//! [`Failure`]: failure::Failure

pub mod failure;
pub mod requests;
#[cfg(feature = "runtime")]
pub mod runtime;
