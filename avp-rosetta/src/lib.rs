//! From one model to another: what the source thought, as a vector that the target can read.
//!
//! ```
//! # use avp_rosetta::Rosetta;
//! # use avp_runtime_ort::*;
//! # let runtime = Runtime::find()?;
//! # let load = |name: &str| Model::load(&runtime, format!("../test-vectors/{name}"), &LoadOptions::default());
//! # let (source, target) = (load("parity/tiny-qwen2")?, load("rosetta/tiny-other")?);
//! let thought = source.think("Rosa lives in Lisbon.", None, &ThinkOptions::steps(8))?.into_context()?;
//! let handed_over = Rosetta::between(&source, &target)?.transfer(&thought)?;
//! let answer = target.generate("Where?", Some(&handed_over.context), &GenerateOptions::default())?;
//! # assert_eq!((handed_over.context.seq_len(), handed_over.context.num_steps()), (1, 8));
//! # assert!(handed_over.quality.recommend_latent && answer.context_tokens == 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happens
//!
//! A KV-cache is of use to its own model only. What another model can take is a vector in the place of a token's embedding:
//!
//! ```text
//! source: prompt ── latent steps ── last hidden state [source width]
//!                                          │  map
//! target:                           one vector [target width] ── prompt ── answer
//! ```
//!
//! The map is made without training where the models share tokens: the source's prediction of the next token, a
//! distribution over the vocabulary, weighs the target's embeddings. Equal tokenizers share all tokens; others need at least
//! 100 of the same text. Maps learned from texts, by ridge regression or orthogonal Procrustes, need no shared tokens. All of
//! it is as in `avp`, 0.6.2 for the vocabulary and 0.2.1 for learned maps, equal to within 1e-5 in projected vectors.
//!
//! One vector carries little. [`assess_transfer`] says when a prompt is too long for it, [`Rosetta::validate`] whether the map
//! is any good; both only advise.
//!
//! Maps are kept as `.avp-map` files, safetensors with a header of their own: see [`AvpMap::save`] and [`MapFolder`].

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
