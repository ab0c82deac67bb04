//! The addon of the npm package `avp-node`.
//!
//! It offers functions and nothing else: the classes are TypeScript (`js/src`), which checks every argument before it comes
//! here. A function answers with its value, or with a [`Failure`] that TypeScript makes an `Error` of.
//!
//! | part | does |
//! |---|---|
//! | `requests` | answers what every binding is asked (`avp-js-operations`), and works on payloads where they lie |
//! | `failure` | what an `Error` is made of; a panic becomes one here |
//! | `runtime` | models and contexts, each call on a thread of its own |
//!
//! [`Failure`]: failure::Failure

pub mod failure;
pub mod requests;
#[cfg(feature = "runtime")]
pub mod runtime;
