//! Errors of transfers between models, and of map files.

use std::path::PathBuf;

use super::Method;
use avp_runtime_ort::{ModelError, RunError};

/// An error of a transfer between two models.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RosettaError {
    /// Source and target are the same model.
    #[error("source and target have the same hash {hash}: pass the context itself, without a projection")]
    SameModel {
        /// The model hash.
        hash: String,
    },
    /// The vocabularies share too few tokens.
    #[error(
        "the vocabularies share {shared} tokens, expected at least {expected}; \
         a map learned from texts (ridge, procrustes) needs no shared tokens"
    )]
    TooFewSharedTokens {
        /// Number of tokens with the same text in both.
        shared: usize,
        /// Minimum number for a map.
        expected: usize,
    },
    /// The method does not support these models.
    #[error("{method} needs {expected}, got {got}")]
    Method {
        /// The method.
        method: Method,
        /// The requirement.
        expected: &'static str,
        /// The actual value.
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
    /// Sizes do not match.
    #[error("{what}: expected {expected} values, got {got}")]
    Width {
        /// The argument with the wrong length.
        what: &'static str,
        /// The expected length.
        expected: usize,
        /// The actual length.
        got: usize,
    },
    /// A map names a token that the model does not have.
    #[error("the map names token {id}, but the source's head has {rows} rows")]
    UnknownToken {
        /// The token's id.
        id: u32,
        /// Rows of the head.
        rows: usize,
    },
    /// NaN or infinite values.
    #[error("{what} holds NaN or infinite values")]
    NotFinite {
        /// Where they are.
        what: &'static str,
    },
    /// The equations of a learned map have no solution.
    #[error("{method}: no solution for the hidden states of the anchors")]
    NoSolution {
        /// The method.
        method: Method,
    },
    /// The context has no hidden state.
    #[error(
        "the context has no last hidden state, because it was received; project it where it was computed"
    )]
    NoHiddenState,
    /// The map belongs to other models.
    #[error("the map is for other models: {field} is {got:?}, expected {expected:?}")]
    OtherModels {
        /// The field that differs.
        field: &'static str,
        /// The model's value.
        expected: String,
        /// The map's value.
        got: String,
    },
    /// An error of a map file.
    #[error(transparent)]
    Map(#[from] MapError),
    /// An error of a model's weights or tokenizer.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An error of running a model.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// An error of reading or writing a map file. A failed write leaves no partial file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The file cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        message: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {message}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        message: String,
    },
    /// Neither `AVP_MAP_DIR` nor a user's cache folder is set.
    #[error("no folder for maps: set AVP_MAP_DIR")]
    NoFolder,
    /// The bytes are not a safetensors file.
    #[error("not a complete safetensors file: {message}")]
    Malformed {
        /// The message of the safetensors library.
        message: String,
    },
    /// A field of the header is missing.
    #[error("the header has no field {field:?}")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// A field of the header has an unexpected value.
    #[error("header field {field:?}: expected {expected}, got {got:?}")]
    Field {
        /// The field.
        field: &'static str,
        /// The valid values.
        expected: &'static str,
        /// The first characters of the actual value.
        got: String,
    },
    /// A tensor is missing.
    #[error("tensor {tensor:?} is missing")]
    MissingTensor {
        /// The tensor.
        tensor: &'static str,
    },
    /// The method does not have this tensor.
    #[error("unknown tensor {tensor:?} in a map of method {method}")]
    UnknownTensor {
        /// The first characters of its name.
        tensor: String,
        /// The map's method.
        method: Method,
    },
    /// A tensor has an unexpected element type.
    #[error("tensor {tensor:?}: expected {expected} elements, got {got}")]
    DType {
        /// The tensor.
        tensor: &'static str,
        /// The valid types.
        expected: &'static str,
        /// The actual type.
        got: String,
    },
    /// A tensor has an unexpected shape.
    #[error("tensor {tensor:?}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The tensor.
        tensor: &'static str,
        /// The expected shape.
        expected: String,
        /// The actual shape.
        got: Vec<usize>,
    },
    /// A tensor holds NaN or infinite values.
    #[error("tensor {tensor:?} holds NaN or infinite values")]
    NotFinite {
        /// The tensor.
        tensor: &'static str,
    },
    /// A token id appears twice.
    #[error("tensor {tensor:?} contains token {id} twice")]
    RepeatedToken {
        /// The tensor.
        tensor: &'static str,
        /// The id.
        id: u32,
    },
    /// The file holds the map of another pair.
    #[error("{}: map of another pair: {field} is {got}, expected {expected}", path.display())]
    OtherPair {
        /// The file.
        path: PathBuf,
        /// `source_hash` or `target_hash`.
        field: &'static str,
        /// The requested hash.
        expected: String,
        /// The hash in the file.
        got: String,
    },
}
