//! `config.json` and `generation_config.json`: what a model says of how it is run.

use std::path::Path;

use serde::Deserialize;

use crate::{ModelError, folder::read_json};

/// What running needs of `config.json`; the rest is the model's identity.
#[derive(Deserialize)]
pub(crate) struct ModelConfig {
    /// Tokens the model can attend to; GPT-2 calls it `n_positions`.
    #[serde(alias = "n_positions")]
    pub(crate) max_position_embeddings: usize,
    #[serde(default)]
    eos_token_id: TokenIds,
}

/// How a model's makers would have it generate; from `generation_config.json`, which may be absent.
#[derive(Default, Deserialize)]
pub(crate) struct GenerationConfig {
    #[serde(default)]
    eos_token_id: TokenIds,
}

impl GenerationConfig {
    /// # Errors
    /// When the file is there and cannot be read as JSON.
    pub(crate) fn load(folder: &Path) -> Result<Self, ModelError> {
        match read_json(&folder.join("generation_config.json")) {
            Err(ModelError::MissingFile { .. }) => Ok(Self::default()),
            other => other,
        }
    }

    /// Tokens that end a turn: this file's, else those of `config`.
    pub(crate) fn end_of_turn(self, config: ModelConfig) -> Vec<u32> {
        if self.eos_token_id.0.is_empty() { config.eos_token_id.0 } else { self.eos_token_id.0 }
    }
}

/// One id, several, or none: exporters write `eos_token_id` each way.
#[derive(Default, Deserialize)]
#[serde(from = "OneOrMany")]
struct TokenIds(Vec<u32>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
    None(()),
}

impl From<OneOrMany> for TokenIds {
    fn from(ids: OneOrMany) -> Self {
        match ids {
            OneOrMany::One(id) => Self(vec![id]),
            OneOrMany::Many(ids) => Self(ids),
            OneOrMany::None(()) => Self(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> ModelConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_generation_config_decides_what_ends_a_turn() {
        let config = || config(r#"{"max_position_embeddings":9,"eos_token_id":3}"#);
        let generation = |json: &str| serde_json::from_str::<GenerationConfig>(json).unwrap();
        assert_eq!(generation(r#"{"eos_token_id":[1,2]}"#).end_of_turn(config()), [1, 2]);
        assert_eq!(generation(r#"{"eos_token_id":null}"#).end_of_turn(config()), [3]);
        assert_eq!(generation("{}").end_of_turn(config()), [3]);
    }

    #[test]
    fn gpt2_has_another_name_for_the_window() {
        let config = config(r#"{"n_positions":128}"#);
        assert_eq!(config.max_position_embeddings, 128);
        assert!(GenerationConfig::default().end_of_turn(config).is_empty());
    }
}
