//! Chooses the latent step: tied or untied.

use super::{PrepareError, embedding::Embedding, head::Head, realign};
use crate::onnx::{GraphIndex, Weights};

/// What a latent step reads beside the graph's own weights.
pub(super) enum LatentStep {
    /// The head is the embedding transposed, and a hidden state lies in the space of the embeddings.
    Tied {
        /// Mean L2 norm of the rows of the embedding.
        embedding_norm: f32,
    },
    /// Head and embedding differ: a hidden state is realigned first (LatentMAS, section 3).
    Untied(realign::Realignment),
}

impl LatentStep {
    /// Mean L2 norm of the rows of the input embedding.
    pub(super) fn embedding_norm(&self) -> f32 {
        match self {
            Self::Tied { embedding_norm } => *embedding_norm,
            Self::Untied(realignment) => realignment.target_norm,
        }
    }
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
    let input = embedding.stored.load(index, weights)?;
    let tied = || LatentStep::Tied { embedding_norm: realign::mean_norm(&input) };
    if head.weight == embedding.stored {
        return Ok(tied());
    }
    let output = head.weight.load(index, weights)?;
    if (output.rows, output.cols) != (input.rows, input.cols) {
        return Err(PrepareError::Head {
            node: head.node_name.clone(),
            operator: head.operator.clone(),
            expected: "a weight of the embedding's shape, transposed",
        });
    }
    let quantized = head.weight.is_quantized() || embedding.stored.is_quantized();
    let equal = if quantized {
        input.relative_difference(&output) < QUANTIZATION_ERROR
    } else {
        input.equals(&output)
    };
    if equal { Ok(tied()) } else { realign::solve(&input, &output).map(LatentStep::Untied) }
}
