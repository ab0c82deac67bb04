//! One edit makes any exported decoder ready for latent work; the result is cached.
//!
//! An export takes token ids and gives logits. Latent thinking feeds a vector where a token would stand and needs the
//! last hidden state and the next vector back. [`prepare`] adds exactly that to the graph, on its protobuf:
//!
//! ```text
//! input_ids ── embedding ──┐
//! latent_embeds ───────────┤ Where ── decoder layers ── hidden states ── last row ── head ── logits
//! latent_mask ─────────────┘                                                │ avp.last_hidden
//! latent_step ────────────────────────────────────────── If: the next latent input ── next_latent
//! ```
//!
//! - Where `latent_mask` is true, `latent_embeds` stands in for the token's embedding. Both broadcast, so an ordinary
//!   run passes a false `[1, 1, 1]` and a zero `[1, 1, hidden_size]` and pays nothing.
//! - The head sees the last row alone: a prompt of 1,000 tokens costs one row of logits, not 1,000. Of the hidden states, too,
//!   only the last row is given out.
//! - `next_latent` is computed only where `latent_step` is true. Tied embeddings: `softmax(logits / t) @ E`, where `t` is the
//!   input `latent_temperature`, which only they have. Untied:
//!   `h @ W` at the mean norm of the embeddings (see [`realign`]). Both as LatentMAS and `avp` 0.2.1 define them.
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

/// The operator set from which the operators that preparing adds mean what they mean here.
const MIN_OPSET: i64 = 13;

/// Adds the latent inputs and outputs to `model`, whose external data lies in `folder`. `head_dim` is the config's, for
/// exports that leave it open.
///
/// # Errors
/// When the graph is no decoder with a KV-cache, or its embedding or head cannot be identified; the error names the
/// node or input and what was expected of it. `model` is left as it was.
pub(crate) fn prepare(
    model: &mut ModelProto,
    folder: &Path,
    head_dim: Option<usize>,
) -> Result<PrepareReport, PrepareError> {
    prepare_with(model, folder, head_dim, soft_embedding::MAX_ROWS)
}

/// As [`prepare`], with `max_rows` embeddings at most in one latent step of a tied model.
fn prepare_with(
    model: &mut ModelProto,
    folder: &Path,
    head_dim: Option<usize>,
    max_rows: usize,
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
        let expected = "a place before the head: nodes of an ONNX graph are sorted";
        return Err(PrepareError::Embedding { node: format!("{:?}", embedding.node_name), expected });
    }
    let step = latent::plan(&index, &weights, &embedding, &head)?;
    let rotary = rotary::find(&index, &weights);
    let report = PrepareReport::new(&index, &embedding, &head, &step, cache, rotary)?;
    let graph = model.graph.as_mut().ok_or(PrepareError::NoGraph)?;
    edit::apply(graph, &embedding, &head, &step, max_rows);
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

    /// Prepares `bytes` as a file in `folder` would be; what comes of it is of no interest, as long as something does.
    fn try_prepare(bytes: Vec<u8>, folder: &Path) -> bool {
        ModelProto::decode(Bytes::from(bytes)).is_ok_and(|mut model| {
            let prepared = prepare(&mut model, folder, Some(16)).is_ok();
            let _encoded = model.encode_to_vec();
            prepared
        })
    }

    #[test]
    fn no_change_of_a_byte_and_no_cut_makes_preparing_panic() {
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
