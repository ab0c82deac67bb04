//! Decides how the last hidden state becomes the next latent input.

use super::{PrepareError, embedding, embedding::Embedding, head::Head, realign};
use crate::onnx::{GraphIndex, Weights};

/// How the last hidden state becomes the next latent input.
pub(super) enum LatentStep {
    /// The head is the embedding transposed: the expected embedding under the model's own prediction,
    /// `softmax(logits) @ E` (`avp` 0.2.1, `project_to_embedding_space`).
    Tied,
    /// Head and embedding differ: `h @ W`, scaled to the mean norm of the embeddings (LatentMAS, section 3).
    Untied(realign::Realignment),
}

/// The graph decides, not `config.json`: exporters drop the `tie_word_embeddings` flag or leave it at a default.
///
/// # Errors
/// When the weights cannot be read, or differ in shape.
pub(super) fn plan(
    index: &GraphIndex<'_>,
    weights: &Weights<'_>,
    embedding: &Embedding,
    head: &Head,
) -> Result<LatentStep, PrepareError> {
    let unusable = |expected| PrepareError::Head {
        node: head.node_name.clone(),
        operator: "its weight".to_owned(),
        expected,
    };
    // The product wants `[hidden_size, vocab_size]`; behind a transpose it is stored as the table is.
    let (tensor, stored_as_table) = embedding::stored_matrix(index, &head.weight)
        .ok_or_else(|| unusable("a matrix stored in the model, directly or behind one Transpose"))?;
    if tensor.name() == embedding.initializer && stored_as_table != embedding.transposed {
        return Ok(LatentStep::Tied);
    }

    let table = embedding::read_table(index, weights, embedding)?;
    let output = weights.matrix(tensor)?;
    let output_shape = if stored_as_table { (output.rows, output.cols) } else { (output.cols, output.rows) };
    if output_shape != (embedding.vocab_size, embedding.hidden_size) {
        return Err(unusable("the shape of the embedding, transposed"));
    }
    let equal = if stored_as_table == embedding.transposed {
        output.is_transpose_of(&table)
    } else {
        output.same_as(&table)
    };
    if equal {
        return Ok(LatentStep::Tied);
    }
    let input = realign::Table { matrix: &table, transposed: embedding.transposed };
    let output = realign::Table { matrix: &output, transposed: !stored_as_table };
    realign::solve(&input, &output).map(LatentStep::Untied)
}
