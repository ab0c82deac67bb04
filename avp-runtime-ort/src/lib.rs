//! Make and use KV-caches with any ONNX-exported decoder model.
//!
//! ```
//! use avp_runtime_ort::{Error, GenerateOptions, LoadOptions, Model, Runtime, ThinkOptions};
//!
//! let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
//! let notes = model.think("Notes: Rosa lives in Lisbon. Rosa has a parrot.", None, &ThinkOptions::default())?;
//! let answer = model.generate("Where does Rosa live?", notes.context.as_ref(), &GenerateOptions::default())?;
//! assert_eq!(answer.text, "Answer: Rosa lives in Lisbon.");
//! # Ok::<(), Error>(())
//! ```
//!
//! # Overview
//!
//! - [`OrtLibrary`] finds and checks the ONNX Runtime library; [`Runtime`] loads it. Everything else requires a runtime, so a
//!   missing library is one error at the start.
//! - [`Model::load`] reads a model folder and prepares its graph once: a vector can then take the place of a token, and the
//!   graph returns the next one. The prepared graph is cached under the hash of the export.
//! - [`Model::think`] reads a prompt, takes latent steps and returns a [`Context`]; [`Model::generate`] answers, optionally
//!   continuing from a context. The KV-cache is passed between runs as ONNX Runtime values, without copies to host vectors.
//! - [`Context::to_frame`] and [`Context::from_frame`] hand a context to another process, or to the Python package;
//!   [`Context::save`] and [`Context::load`] keep it in a file. [`Context::reusable`] is the prefix that a longer prompt can
//!   reuse.
//!
//! # Supported models
//!
//! Decoders exported with their KV-cache (token ids in, `logits` and `present.N.key` / `.value` out): by Optimum's
//! `text-generation-with-past`, by the onnxruntime-genai model builder, or as onnx-community publishes them. Weights may be
//! float32, float16 or bfloat16, or quantized: `GatherBlockQuantized`, `MatMulNBits`, `MatMulBnb4`, `MatMulInteger`.
//! [`prepare_report`] reports the parts of a graph and [`check_prepared`] compares the prepared graph with the export.
//! Unsupported graphs are refused with the node's name; see [`PrepareError`].

#![deny(missing_docs)]

mod cache_folder;
mod calibration;
mod chat;
mod config;
mod context;
mod conventions;
mod decoder;
mod engine;
mod error;
mod facts;
mod folder;
mod generate;
mod identity;
mod inspect;
mod kv;
mod library;
mod metrics;
mod model;
mod onnx;
mod prepare;
mod runtime;
mod step_form;
mod step_watch;
mod think;
mod tokens;

pub use cache_folder::cache_folder;
pub use calibration::{Calibration, MeasuredSteps, Steps, UnknownSteps};
pub use chat::{Chat, Content, Message, Prompt, Rendered};
pub use context::{Context, Fingerprint, FrameOptions, FrameReadOptions};
pub use decoder::Device;
pub use engine::{Canceller, Pending, PendingFuture};
pub use error::{ContextError, Error, ModelError, RunError};
pub use folder::{Dtype, UnknownDtype};
pub use generate::{Finish, GenerateOptions, Generation, GenerationStream};
pub use identity::{read_identity, tokenizer_hash};
pub use inspect::{Inspector, TokenTable, TokenTables, read_vocabulary};
pub use library::{LibraryError, LibrarySource, OrtLibrary};
pub use metrics::{GenerateMetrics, ThinkMetrics, TransferDiagnostics};
pub use model::{LoadOptions, Model};
pub use prepare::{
    CacheLayout, CheckOptions, PrepareCheck, PrepareError, PrepareReport, Rotary, check_prepared,
    prepare_report,
};
pub use runtime::Runtime;
pub use step_form::{Soft, StepForm, UnknownStepForm};
pub use step_watch::{Departure, StepLimits, StepState};
pub use think::{StepsTime, ThinkOptions, Thought};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
