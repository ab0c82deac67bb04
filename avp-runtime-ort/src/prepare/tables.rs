//! The embedding and head of a model as tables with one row per token.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{PrepareError, embedding, head};
use crate::onnx::{ExternalFiles, GraphIndex, ModelProto, Table, Weights, external_locations};

/// The embedding and head of a model, `[vocab_size, hidden_size]`; one shared table if they are tied.
pub(crate) struct Tables {
    pub(crate) embedding: Arc<Table>,
    pub(crate) head: Arc<Table>,
}

/// Reads both from the export at `path`, quantized or not.
///
/// # Errors
/// When the file cannot be read, or a table cannot be identified.
pub(crate) fn read_tables(path: &Path) -> Result<Tables, PrepareError> {
    let export = std::fs::read(path)
        .map(Bytes::from)
        .map_err(|error| PrepareError::Unreadable { path: path.to_owned(), message: error.to_string() })?;
    let mut model =
        ModelProto::decode(export).map_err(|error| PrepareError::Malformed { message: error.to_string() })?;
    let external =
        ExternalFiles::find(path.parent().unwrap_or(Path::new(".")), &external_locations(&mut model)?)?;
    external.relocate(&mut model);
    let graph = model.graph.as_ref().ok_or(PrepareError::NoGraph)?;
    let index = GraphIndex::new(graph);
    let weights = Weights::new(&external.root);
    let embedding = embedding::find(&index, &weights)?;
    let head = head::find(&index)?;
    let table = Arc::new(embedding.stored.load(&index, &weights)?);
    let head = if head.weight == embedding.stored {
        table.clone()
    } else {
        Arc::new(head.weight.load(&index, &weights)?)
    };
    Ok(Tables { embedding: table, head })
}
