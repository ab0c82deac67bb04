//! Decides how the last hidden state becomes the next latent input.

use super::{PrepareError, embedding::Embedding, head::Head, realign};
use crate::onnx::{GraphIndex, Weights};

/// How the last hidden state becomes the next latent input.
pub(super) enum LatentStep {
    /// The head is the embedding transposed: the expected embedding under the model's own prediction,
    /// `softmax(logits) @ E` (`avp` 0.2.1, `project_to_embedding_space`).
    Tied,
    /// Head and embedding differ: `h @ W`, scaled to the mean norm of the embeddings (LatentMAS, section 3).
    Untied(realign::Realignment),
}

/// Head and embedding that differ by less than this, relative to their norm, are one weight that was quantized twice, or
/// once: exporters often quantize the head of a tied model and leave its embedding in floats. Rounding to 4 bits in blocks of
/// 32 to 256 costs 0.08 to 0.15; two weights that were trained apart differ by about 1.4, as any two unrelated matrices do.
const QUANTIZATION_ERROR: f64 = 0.25;

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
