//! Models and contexts. Each call runs on its own thread and does not block Node's event loop.
//!
//! JavaScript holds models and contexts as externals, which the garbage collector frees.
//!
//! | part | does |
//! |---|---|
//! | `library` | the ONNX Runtime library of this process |
//! | `call` | one call: thread, promise, cancellation |
//! | `fault` | the runtime's errors, by code |
//! | `options` | options as JSON |
//! | `models`, `contexts` | the exported functions |

pub mod call;
pub mod contexts;
mod fault;
mod library;
pub mod models;
mod options;
