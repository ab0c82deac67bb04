//! What can go wrong between two models, and with a map's file.

use std::path::PathBuf;

use super::Method;
use avp_runtime_ort::{ModelError, RunError};

/// Why one model's state cannot be brought to another.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RosettaError {
    /// Both models are one.
    #[error("both models have the hash {hash}; a context of one needs no projection for the other")]
    SameModel {
        /// The model hash.
        hash: String,
    },
    /// The vocabularies have too little in common.
    #[error(
        "the vocabularies share {shared} tokens, expected at least {expected}; \
         a map learned from texts (ridge, procrustes) does not need them"
    )]
    TooFewSharedTokens {
        /// Tokens that are in both, by their text.
        shared: usize,
        /// The least that carries a projection.
        expected: usize,
    },
    /// The method asked for needs what these models do not have.
    #[error("{method} needs {expected}, got {got}")]
    Method {
        /// The method.
        method: Method,
        /// What it needs.
        expected: &'static str,
        /// What there is.
        got: String,
    },
    /// An option is out of its range.
    #[error("{option} must be {expected}, got {got}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value given.
        got: f64,
    },
    /// Two things that are multiplied have other sizes.
    #[error("{what}: expected {expected} values, got {got}")]
    Width {
        /// What was too long or too short.
        what: &'static str,
        /// Its length as it should be.
        expected: usize,
        /// As it is.
        got: usize,
    },
    /// A map speaks of a token that the model does not have.
    #[error("the map names token {id}, but the source's head has {rows} rows")]
    UnknownToken {
        /// The token's id.
        id: u32,
        /// Rows of the head.
        rows: usize,
    },
    /// Numbers that are none.
    #[error("{what} holds NaN or infinite values")]
    NotFinite {
        /// Where they were found.
        what: &'static str,
    },
    /// The equations of a learned map have no solution.
    #[error("{method}: the anchors' hidden states give no solution")]
    NoSolution {
        /// The method.
        method: Method,
    },
    /// The context carries no hidden state.
    #[error(
        "the context has no last hidden state, as received ones have not; only the model that thought can project it"
    )]
    NoHiddenState,
    /// A map of other models.
    #[error("the map is for other models: {field} is {got:?}, expected {expected:?}")]
    OtherModels {
        /// The field that differs.
        field: &'static str,
        /// The model's value.
        expected: String,
        /// The map's value.
        got: String,
    },
    /// A map's file.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Weights or tokenizer of a model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Running a model.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why a map's file cannot be read or written. Nothing is read from it then, and nothing half-written stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The file cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {message}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// Neither `AVP_MAP_DIR` nor a folder of the user's own is set.
    #[error("no folder for maps: set AVP_MAP_DIR")]
    NoFolder,
    /// The bytes are no safetensors file.
    #[error("not a safetensors file, or cut short: {message}")]
    Malformed {
        /// The library's words.
        message: String,
    },
    /// A field of the header is missing.
    #[error("the header has no field {field:?}")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// A field of the header says something else than expected.
    #[error("header field {field:?}: expected {expected}, got {got:?}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it may say.
        expected: &'static str,
        /// The first characters of what it says.
        got: String,
    },
    /// A tensor is missing.
    #[error("tensor {tensor:?} is missing")]
    MissingTensor {
        /// The tensor.
        tensor: &'static str,
    },
    /// A tensor that the method has no use for.
    #[error("tensor {tensor:?} does not belong in a map of method {method}")]
    UnknownTensor {
        /// The first characters of its name.
        tensor: String,
        /// The map's method.
        method: Method,
    },
    /// A tensor has another element type.
    #[error("tensor {tensor:?}: expected {expected} elements, got {got}")]
    DType {
        /// The tensor.
        tensor: &'static str,
        /// The types it may have.
        expected: &'static str,
        /// The type it has.
        got: String,
    },
    /// A tensor has another shape.
    #[error("tensor {tensor:?}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The tensor.
        tensor: &'static str,
        /// The shape it should have.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// A tensor holds numbers that are none.
    #[error("tensor {tensor:?} holds NaN or infinite values")]
    NotFinite {
        /// The tensor.
        tensor: &'static str,
    },
    /// Token ids that cannot be those of a vocabulary.
    #[error("tensor {tensor:?} names token {id} twice")]
    RepeatedToken {
        /// The tensor.
        tensor: &'static str,
        /// The id.
        id: u32,
    },
    /// The file is another pair's.
    #[error("{}: holds a map of another pair: {field} is {got}, expected {expected}", path.display())]
    OtherPair {
        /// The file.
        path: PathBuf,
        /// `source_hash` or `target_hash`.
        field: &'static str,
        /// The hash asked for.
        expected: String,
        /// The hash in the file.
        got: String,
    },
}
