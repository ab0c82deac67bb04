//! Chooses the latent step: tied or untied.

use super::{PrepareError, embedding::Embedding, head::Head, realign};
use crate::onnx::{GraphIndex, Weights};

/// The computation of the next latent input from the last hidden state.
pub(super) enum LatentStep {
    /// The head is the embedding transposed: the expected embedding under the model's own prediction,
    /// `softmax(logits) @ E` (`avp` 0.2.1, `project_to_embedding_space`).
    Tied,
    /// Head and embedding differ: `h @ W`, scaled to the mean norm of the embeddings (LatentMAS, section 3).
    Untied(realign::Realignment),
}

/// Head and embedding with a relative difference below this limit are one weight: exporters often quantize the head of a tied
/// model, or both with different settings. Rounding to 4 bits in blocks of 32 to 256 gives differences of 0.08 to 0.15;
/// weights trained separately differ by about 1.4, like unrelated matrices.
const QUANTIZATION_ERROR: f64 = 0.25;

/// Compares the weights, because exporters drop the `tie_word_embeddings` flag of `config.json` or leave it at its default.
///
/// # Errors
/// When the weights cannot be read, or differ in shape.
pub(super) fn plan(
    index: &GraphIndex<'_>,
    weights: &Weights<'_>,
    embedding: &Embedding,
    head: &Head,
) -> Result<LatentStep, PrepareError> {
    if head.weight == embedding.stored {
        return Ok(LatentStep::Tied);
    }
    let input = embedding.stored.load(index, weights)?;
    let output = head.weight.load(index, weights)?;
    if (output.rows, output.cols) != (input.rows, input.cols) {
        return Err(PrepareError::Head {
            node: head.node_name.clone(),
            operator: head.operator.clone(),
            expected: "a weight of the embedding's shape, transposed",
        });
    }
    let quantized = head.weight.is_quantized() || embedding.stored.is_quantized();
    let tied = if quantized {
        input.relative_difference(&output) < QUANTIZATION_ERROR
    } else {
        input.equals(&output)
    };
    if tied { Ok(LatentStep::Tied) } else { realign::solve(&input, &output).map(LatentStep::Untied) }
}
