//! The two matrices of a model whose rows are tokens: its embedding and its head.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{PrepareError, embedding, head};
use crate::onnx::{GraphIndex, Matrix, ModelProto, Weights};

/// A matrix with a row for each token, `[vocab_size, hidden_size]`, as it is stored or transposed.
pub(crate) struct TokenRows {
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) transposed: bool,
}

/// A model's embedding and head; one matrix in memory where they are one in the model.
pub(crate) struct Tables {
    pub(crate) embedding: TokenRows,
    pub(crate) head: TokenRows,
}

/// Reads both from the export at `path`.
///
/// # Errors
/// When the file cannot be read, or one of them cannot be identified or is no float matrix.
pub(crate) fn read_tables(path: &Path) -> Result<Tables, PrepareError> {
    let export = std::fs::read(path)
        .map(Bytes::from)
        .map_err(|error| PrepareError::Unreadable { path: path.to_owned(), message: error.to_string() })?;
    let model =
        ModelProto::decode(export).map_err(|error| PrepareError::Malformed { message: error.to_string() })?;
    let graph = model.graph.as_ref().ok_or(PrepareError::NoGraph)?;
    let index = GraphIndex::new(graph);
    let weights = Weights::new(path.parent().unwrap_or(Path::new(".")));
    let embedding = embedding::find(&index, &weights)?;
    let head = head::find(&index)?;
    let (tensor, stored_as_table) =
        embedding::stored_matrix(&index, &head.weight).ok_or_else(|| PrepareError::Head {
            node: head.node_name.clone(),
            operator: "its weight".to_owned(),
            expected: "a matrix stored in the model, directly or behind one Transpose",
        })?;
    let table = Arc::new(embedding::read_table(&index, &weights, &embedding)?);
    let head_matrix = if tensor.name() == embedding.initializer {
        table.clone()
    } else {
        Arc::new(weights.matrix(tensor)?)
    };
    Ok(Tables {
        embedding: TokenRows { matrix: table, transposed: embedding.transposed },
        // The product wants `[hidden_size, vocab_size]`; behind a transpose it is stored as the table is.
        head: TokenRows { matrix: head_matrix, transposed: !stored_as_table },
    })
}
