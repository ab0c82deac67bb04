//! What preparing found.

use std::path::PathBuf;

use avp_core::KvDType;
use serde::{Deserialize, Serialize};

use super::{
    CacheLayout, PrepareError, embedding::Embedding, head::Head, latent::LatentStep, rotary::Rotary,
    sharing::shares_buffers,
};
use crate::onnx::{GraphIndex, tensor_proto::DataType};

/// What preparing found in a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PrepareReport {
    /// The export.
    pub file: PathBuf,
    /// Whether the prepared graph was in the cache.
    pub from_cache: bool,
    /// The node that turns token ids into vectors.
    pub embedding_node: String,
    /// Its operator.
    pub embedding_operator: String,
    /// The node that turns the last hidden state into logits.
    pub head_node: String,
    /// Its operator.
    pub head_operator: String,
    /// Whether the head is the embedding transposed.
    pub tied: bool,
    /// Rows of the embedding: tokens in the vocabulary.
    pub vocab_size: usize,
    /// Columns of the embedding: the width of a hidden state.
    pub hidden_size: usize,
    /// Type of a latent input and of `next_latent`.
    pub dtype: KvDType,
    /// How the graph takes its KV-cache.
    pub cache: CacheLayout,
    /// What the graph takes beside the cache, as the export names it.
    pub inputs: Vec<String>,
    /// Whether past and present of every layer may be one buffer, and so will be on any device that can make such a buffer
    /// longer: `GroupQueryAttention` alone reads the one and writes the other.
    pub shared_buffers: bool,
    /// Whether behind a cache the graph reads one token at a time. So it is with `MultiHeadAttention` as the
    /// onnxruntime-genai builder writes it for half precision on the CPU: its mask is wrong for several.
    pub one_token_behind_cache: bool,
    /// What its tables say of its rotary embedding.
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
            tied: matches!(step, LatentStep::Tied),
            vocab_size: embedding.vocab_size,
            hidden_size: embedding.hidden_size,
            dtype,
            cache,
            inputs: inputs.filter(|name| !name.starts_with("past_key_values.")).map(str::to_owned).collect(),
            shared_buffers: shares_buffers(index, &cache),
            one_token_behind_cache: has("MultiHeadAttention"),
            rotary,
        })
    }
}
