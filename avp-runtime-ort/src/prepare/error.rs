//! Errors of preparing a graph.

use std::path::PathBuf;

use crate::conventions::PAST_NAMES;

/// A graph that cannot be prepared, with the expected property and the node, input or tensor without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The model file cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        message: String,
    },
    /// The file contains no ONNX graph.
    #[error("the file contains no ONNX graph")]
    NoGraph,
    /// The bytes are not an ONNX protobuf.
    #[error("the file is not an ONNX model, or is truncated: {message}")]
    Malformed {
        /// The protobuf decoder's message.
        message: String,
    },
    /// The graph lacks an input or output of every decoder with a KV-cache.
    #[error("the graph is not a decoder with a KV-cache: it has no {missing}")]
    NotADecoder {
        /// The missing input or output.
        missing: String,
    },
    /// The graph has state other than a KV-cache.
    #[error("input {input:?} belongs to another cache family; only {} are supported", PAST_NAMES)]
    UnsupportedCache {
        /// The input's name.
        input: String,
    },
    /// The graph has an unknown input.
    #[error("unknown input {input:?} of a decoder export")]
    UnknownInput {
        /// The input's name.
        input: String,
    },
    /// A KV-cache input has an unusable shape or type.
    #[error("input {input:?}: expected {expected}")]
    CacheInput {
        /// The input's name.
        input: String,
        /// The expected shape or type.
        expected: &'static str,
    },
    /// The operator set is too old.
    #[error("the graph uses ONNX operator set {got}; expected {expected} or later")]
    Opset {
        /// The lowest supported one.
        expected: i64,
        /// The graph's; 0 if it has none.
        got: i64,
    },
    /// The node that embeds token ids was not found, or its operator is not supported.
    #[error("cannot identify the token embedding at {node}: expected {expected}")]
    Embedding {
        /// The node or value at which the search ended.
        node: String,
        /// The expected node.
        expected: &'static str,
    },
    /// The node that computes logits was not found, or its operator is not supported.
    #[error("cannot identify the language-model head at node {node:?} ({operator}): expected {expected}")]
    Head {
        /// The node at which the walk back from `logits` ended.
        node: String,
        /// Its operator.
        operator: String,
        /// The expected node.
        expected: &'static str,
    },
    /// The graph already has a value with the name of an added one.
    #[error("the graph already has a value named {name:?}; is it a prepared graph?")]
    NameTaken {
        /// The name.
        name: &'static str,
    },
    /// A weight cannot be read as a matrix.
    #[error("weight {name:?}: {reason}")]
    Weight {
        /// The initializer's name.
        name: String,
        /// The fault.
        reason: &'static str,
    },
    /// The file of a weight cannot be read.
    #[error("weight {name:?}: cannot read {}: {message}", path.display())]
    ExternalData {
        /// The initializer's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        message: String,
    },
    /// The path of a weight is outside the model's folder, or ambiguous.
    #[error(
        "weight {name:?}: external data must have one location, a file inside the model folder; got {path:?}"
    )]
    ExternalPath {
        /// The weight's name, or that of its node if it has none.
        name: String,
        /// The path in the graph.
        path: PathBuf,
    },
    /// The realignment matrix has no solution.
    #[error("the head's Gram matrix is not positive definite, so no realignment matrix exists")]
    Realignment,
}
