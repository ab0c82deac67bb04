//! Prepares an exported decoder for latent steps by one edit of its graph, and caches the result.
//!
//! An export reads token ids and returns logits. A latent step reads a vector in place of a token, and returns the last hidden
//! state and the next vector. [`prepare`] adds these inputs and outputs to the protobuf of the graph:
//!
//! ```text
//! input_ids ── embedding ──┐
//! latent_embeds ───────────┤ Where ── decoder layers ── hidden states ── last row ── head ── logits
//! latent_mask ─────────────┘                                                │ avp.last_hidden
//! latent_step ────────────────────────────────────────── If: the next latent input ── next_latent
//! ```
//!
//! - Where `latent_mask` is true, `latent_embeds` replaces the token's embedding. Both broadcast: an ordinary run passes a
//!   false `[1, 1, 1]` and a zero `[1, 1, hidden_size]`, at no cost.
//! - The head reads only the last row: a prompt of 1,000 tokens computes one row of logits, not 1,000. Only the last row of the
//!   hidden states is returned.
//! - `next_latent` is computed only if `latent_step` is true: a mean of embeddings, the hidden state, or both, as further
//!   inputs tell (see [`next_latent`] and [`StepForm`](crate::StepForm)).
//!
//! Keeping `input_ids` keeps every shape computation of the export valid.

mod cache;
mod check;
mod edit;
mod embedding;
mod error;
mod fingerprint;
mod head;
mod inputs;
mod latent;
mod next_latent;
mod realign;
mod report;
mod rotary;
mod sharing;
mod soft_embedding;
mod tables;

use std::path::Path;

pub(crate) use cache::{Cache, PreparedModel, prepare_cached};
pub use check::{CheckOptions, PrepareCheck, check_prepared, prepare_report};
pub use error::PrepareError;
pub use inputs::CacheLayout;
pub use report::PrepareReport;
pub use rotary::Rotary;
pub(crate) use tables::read_tables;

use crate::onnx::{GraphIndex, ModelProto, Weights, external_locations};

/// The first operator set with the semantics of the added operators.
const MIN_OPSET: i64 = 13;

/// Adds the latent inputs and outputs to `model`, whose external data is in `folder`. `head_dim` is the value of the config,
/// for exports with a symbolic dimension.
///
/// # Errors
/// When the graph is not a decoder with a KV-cache, or its embedding or head cannot be identified. The error names the node or
/// input and the expected property. `model` is then unchanged.
pub(crate) fn prepare(
    model: &mut ModelProto,
    folder: &Path,
    head_dim: Option<usize>,
) -> Result<PrepareReport, PrepareError> {
    prepare_with(model, folder, head_dim, soft_embedding::BLOCK)
}

/// As [`prepare`], with `block` rows of a quantized embedding at a time.
fn prepare_with(
    model: &mut ModelProto,
    folder: &Path,
    head_dim: Option<usize>,
    block: usize,
) -> Result<PrepareReport, PrepareError> {
    external_locations(model)?;
    let graph = model.graph.as_ref().ok_or(PrepareError::NoGraph)?;
    check_opset(model)?;
    let cache = CacheLayout::from_graph(graph, head_dim)?;
    edit::check_names_are_free(graph)?;

    let index = GraphIndex::new(graph);
    let weights = Weights::new(folder);
    let embedding = embedding::find(&index, &weights)?;
    let head = head::find(&index)?;
    if embedding.position() >= head.position {
        let expected = "a position before the head: nodes of an ONNX graph are sorted";
        return Err(PrepareError::Embedding { node: format!("{:?}", embedding.node_name), expected });
    }
    let step = latent::plan(&index, &weights, &embedding, &head)?;
    let rotary = rotary::find(&index, &weights);
    let report = PrepareReport::new(&index, &embedding, &head, &step, cache, rotary)?;
    let graph = model.graph.as_mut().ok_or(PrepareError::NoGraph)?;
    edit::apply(graph, &embedding, &head, &step, block);
    Ok(report)
}

fn check_opset(model: &ModelProto) -> Result<(), PrepareError> {
    let onnx = model.opset_import.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
    let version = onnx.map_or(0, |set| set.version());
    if version < MIN_OPSET {
        return Err(PrepareError::Opset { expected: MIN_OPSET, got: version });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;

    /// Prepares `bytes` as a file in `folder`; returns whether it succeeded. It must not panic.
    fn try_prepare(bytes: Vec<u8>, folder: &Path) -> bool {
        ModelProto::decode(Bytes::from(bytes)).is_ok_and(|mut model| {
            let prepared = prepare(&mut model, folder, Some(16)).is_ok();
            let _encoded = model.encode_to_vec();
            prepared
        })
    }

    #[test]
    fn changed_and_truncated_bytes_do_not_panic() {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors");
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for file in ["runtime/gemm-head/model.onnx", "models/genai-qwen2-int4/model.onnx"] {
            let path = vectors.join(file);
            let folder = path.parent().unwrap();
            let sound = std::fs::read(&path).unwrap();
            assert!(try_prepare(sound.clone(), folder), "{file}");
            let mut refused = 0;
            for _ in 0..120 {
                let mut changed = sound.clone();
                for _ in 0..=random(3) {
                    let at = random(changed.len());
                    changed[at] = random(256) as u8;
                }
                refused += usize::from(!try_prepare(changed, folder));
                try_prepare(sound[..random(sound.len())].to_vec(), folder);
            }
            assert!(refused > 0, "{file}: nothing was refused");
        }
    }
}
