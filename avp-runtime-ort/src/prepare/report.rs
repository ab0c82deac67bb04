//! Reports on prepared graphs.

use std::path::PathBuf;

use avp_core::KvDType;
use serde::{Deserialize, Serialize};

use super::{
    CacheLayout, PrepareError, embedding::Embedding, head::Head, latent::LatentStep, rotary::Rotary,
    sharing::shares_buffers,
};
use crate::conventions::InputName;
use crate::onnx::{GraphIndex, tensor_proto::DataType};

/// The parts of a prepared graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PrepareReport {
    /// The export.
    pub file: PathBuf,
    /// Whether the prepared graph was read from the cache.
    pub from_cache: bool,
    /// The node that embeds token ids.
    pub embedding_node: String,
    /// Its operator.
    pub embedding_operator: String,
    /// The node that computes logits from the last hidden state.
    pub head_node: String,
    /// Its operator.
    pub head_operator: String,
    /// Whether the head is the embedding transposed.
    pub tied: bool,
    /// Rows of the embedding: the size of the vocabulary.
    pub vocab_size: usize,
    /// Columns of the embedding: the width of a hidden state.
    pub hidden_size: usize,
    /// Number format of latent inputs and of `next_latent`.
    pub dtype: KvDType,
    /// The layout of the KV-cache.
    pub cache: CacheLayout,
    /// The names of the inputs other than the cache.
    pub inputs: Vec<String>,
    /// Whether past and present of every layer can share one buffer: only `GroupQueryAttention` reads the past and writes the
    /// present. They share one on devices that can resize it.
    pub shared_buffers: bool,
    /// Whether the graph reads only one token at a time with a cache, as with `MultiHeadAttention` in half-precision exports of
    /// the onnxruntime-genai builder for the CPU, whose mask is wrong for several.
    pub one_token_behind_cache: bool,
    /// Whether the graph rounds activations to 8 bits while it runs (`DynamicQuantizeLinear`).
    pub quantized_activations: bool,
    /// The rotary embedding according to the graph's tables.
    pub rotary: Rotary,
}

impl PrepareReport {
    pub(super) fn new(
        index: &GraphIndex<'_>,
        embedding: &Embedding,
        head: &Head,
        step: &LatentStep,
        cache: CacheLayout,
        rotary: Rotary,
    ) -> Result<Self, PrepareError> {
        let dtype = match DataType::try_from(embedding.elem_type) {
            Ok(DataType::Float) => KvDType::Float32,
            Ok(DataType::Float16) => KvDType::Float16,
            Ok(DataType::Bfloat16) => KvDType::BFloat16,
            _ => {
                let node = format!("{:?}", embedding.node_name);
                let expected = "vectors of float32, float16 or bfloat16";
                return Err(PrepareError::Embedding { node, expected });
            }
        };
        let graph = index.graph();
        let inputs = graph.input.iter().map(|input| input.name());
        let has = |operator: &str| graph.node.iter().any(|node| node.op_type() == operator);
        Ok(Self {
            file: PathBuf::new(),
            from_cache: false,
            embedding_node: embedding.node_name.clone(),
            embedding_operator: embedding.operator.clone(),
            head_node: head.node_name.clone(),
            head_operator: head.operator.clone(),
            tied: matches!(step, LatentStep::Tied { .. }),
            vocab_size: embedding.vocab_size,
            hidden_size: embedding.hidden_size,
            dtype,
            cache,
            inputs: inputs
                .filter(|name| !matches!(InputName::parse(name), InputName::Past { .. }))
                .map(str::to_owned)
                .collect(),
            shared_buffers: shares_buffers(index, &cache),
            one_token_behind_cache: has("MultiHeadAttention"),
            quantized_activations: has("DynamicQuantizeLinear"),
            rotary,
        })
    }
}
