//! Why a graph cannot be prepared.

use std::path::PathBuf;

/// Why a graph cannot be prepared: what was expected, and the node, input or tensor where it was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The model file cannot be read.
    #[error("cannot read {}: {message}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// The file holds no ONNX graph.
    #[error("the file holds no ONNX graph")]
    NoGraph,
    /// The bytes are no ONNX protobuf.
    #[error("the file is no ONNX model, or is cut short: {message}")]
    Malformed {
        /// What the protobuf decoder says.
        message: String,
    },
    /// The graph lacks something that every decoder with a KV-cache has.
    #[error("the graph is no decoder with a KV-cache: it has no {missing}")]
    NotADecoder {
        /// The input or output that is missing.
        missing: String,
    },
    /// The graph keeps state that is no KV-cache.
    #[error(
        "input {input:?} belongs to another cache family; only past_key_values.N.key and .value are supported"
    )]
    UnsupportedCache {
        /// The input's name.
        input: String,
    },
    /// The graph wants an input whose meaning is not known.
    #[error("input {input:?} is not one a decoder export is known to take")]
    UnknownInput {
        /// The input's name.
        input: String,
    },
    /// A KV-cache input has an unusable shape or type.
    #[error("input {input:?}: expected {expected}")]
    CacheInput {
        /// The input's name.
        input: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The operator set is too old.
    #[error("the graph uses ONNX operator set {got}; expected {expected} or later")]
    Opset {
        /// The lowest that works.
        expected: i64,
        /// The graph's own; 0 when it names none.
        got: i64,
    },
    /// The node that embeds token ids was not found or is of an unknown kind.
    #[error("cannot identify the token embedding at {node}: expected {expected}")]
    Embedding {
        /// The node or value where the search ended.
        node: String,
        /// What should have stood there.
        expected: &'static str,
    },
    /// The node that makes logits was not found or is of an unknown kind.
    #[error("cannot identify the language-model head at node {node:?} ({operator}): expected {expected}")]
    Head {
        /// The node where the walk back from `logits` ended.
        node: String,
        /// Its operator.
        operator: String,
        /// What should have stood there.
        expected: &'static str,
    },
    /// The graph already has a value of a name that preparing adds.
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
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A weight lies in a file that cannot be read.
    #[error("weight {name:?}: cannot read {}: {message}", path.display())]
    ExternalData {
        /// The initializer's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// A weight claims to lie outside the model's folder, or in several places.
    #[error(
        "weight {name:?}: external data must lie in one place, in a file inside the model's folder; its path is {path:?}"
    )]
    ExternalPath {
        /// The weight's name, or where it has none that of the node it stands in.
        name: String,
        /// The path it gives.
        path: PathBuf,
    },
    /// The realignment matrix has no solution.
    #[error("the head's Gram matrix is not positive definite, so no realignment matrix exists")]
    Realignment,
}
