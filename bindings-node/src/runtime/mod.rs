//! Models and contexts, each call on a thread of its own, so that Node's event loop goes on.
//!
//! JavaScript holds models and contexts as externals, which are let go of when it has no more use for them.
//!
//! | part | does |
//! |---|---|
//! | `library` | the ONNX Runtime library of this process |
//! | `call` | one call: its thread, its promise, its end before time |
//! | `fault` | the runtime's errors, by code |
//! | `options` | what TypeScript hands over, as JSON |
//! | `models`, `contexts` | the functions themselves |

pub mod call;
pub mod contexts;
mod fault;
mod library;
pub mod models;
mod options;
