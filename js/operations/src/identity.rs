//! Model identities with JavaScript's names.

use avp_core::OwnedModelIdentity;
use serde::{Deserialize, Serialize};

/// An identity as JSON: `{"modelFamily": "qwen2", "hiddenDim": 896, ...}`. An absent field has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(#[serde(with = "Names")] pub OwnedModelIdentity);

#[derive(Serialize, Deserialize)]
#[serde(remote = "OwnedModelIdentity", rename_all = "camelCase")]
struct Names {
    #[serde(default)]
    model_family: String,
    #[serde(default)]
    model_id: String,
    #[serde(default)]
    model_hash: String,
    #[serde(default)]
    hidden_dim: u32,
    #[serde(default)]
    num_layers: u32,
    #[serde(default)]
    num_kv_heads: u32,
    #[serde(default)]
    head_dim: u32,
    #[serde(default)]
    tokenizer_hash: String,
}
