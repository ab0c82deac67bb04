//! Projects the last hidden state of one model into the input embeddings of another.
//!
//! ```
//! use avp_rosetta::{Rosetta, RosettaError};
//! use avp_runtime_ort::{GenerateOptions, LoadOptions, Model, Runtime};
//!
//! let (runtime, options) = (Runtime::find()?, LoadOptions::default());
//! let source = Model::load(&runtime, "../test-vectors/parity/tiny-qwen2", &options)?;
//! let target = Model::load(&runtime, "../test-vectors/rosetta/tiny-other", &options)?;
//! let rosetta = Rosetta::between(&source, &target)?;
//! let answer = rosetta.generate("Where does Rosa live?", 8, &GenerateOptions::default())?;
//! assert_eq!(answer.transfer.context.seq_len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! Only its own model can read a KV-cache. Any other model can read a vector in place of a token's embedding:
//!
//! ```text
//! source: prompt ── latent steps ── last hidden state [source width]
//!                                          │  map
//! target:                           one vector [target width] ── prompt ── answer
//! ```
//!
//! Models that share tokens need no training: the source's prediction of the next token, a distribution over the vocabulary,
//! weighs the target's embeddings. Equal tokenizers share all tokens; other pairs need at least 100 tokens with the same text.
//! Maps learned from texts, by ridge regression or orthogonal Procrustes, need no shared tokens. The algorithms are those of
//! `avp`, 0.6.2 for the vocabulary and 0.2.1 for learned maps; projected vectors are equal to within 1e-5.
//!
//! One vector carries little information. [`assess_transfer`] reports when a prompt is too long for one vector, and
//! [`Rosetta::validate`] measures the map. Both only advise.
//!
//! Maps are stored as `.avp-map` files, safetensors with their own header: see [`AvpMap::save`] and [`MapFolder`].

#![deny(missing_docs)]

mod bridge;
mod calibrate;
mod connect;
mod error;
mod file;
mod folder;
mod learn;
mod map;
mod project;
mod projector;
mod quality;
mod rows;
mod validate;
mod vocabulary;

pub use bridge::{CrossGeneration, Rosetta, Transfer, TransferOptions};
pub use calibrate::CalibrateOptions;
pub use error::{MapError, RosettaError};
pub use folder::MapFolder;
pub use learn::Pairs;
pub use map::{AvpMap, MapModel, Method};
pub use project::{
    ProjectOptions, Projection, ProjectionMetrics, SharedTokens, SoftEmbedding, nearest_cosine,
    soft_embedding, through_matrix, through_vocabulary,
};
pub use projector::Projector;
pub use quality::{QualityConfig, TransferQuality, assess_transfer};
pub use rows::{Rows, Table};
pub use validate::{ValidateOptions, Validation};
pub use vocabulary::{Vocabulary, shared_tokens};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
