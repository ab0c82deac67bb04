//! `config.json` and `generation_config.json`: what a model says of how it is run.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ModelError,
    folder::{read_json, read_text},
};

/// The path and text of what says who the model is: `config.json`. The onnxruntime-genai builder writes none, but says the
/// same in a `genai_config.json` of its own; there the text is that, under the names that Transformers uses.
///
/// # Errors
/// When neither file is there, or the one that is cannot be read or does not hold a decoder's sizes.
pub(crate) fn read(folder: &Path) -> Result<(PathBuf, String), ModelError> {
    let path = folder.join("config.json");
    let missing = match read_text(&path) {
        Ok(text) => return Ok((path, text)),
        Err(ModelError::MissingFile { path }) => ModelError::MissingFile { path },
        Err(error) => return Err(error),
    };
    let path = folder.join("genai_config.json");
    match read_json::<GenaiConfig>(&path) {
        Ok(genai) => Ok((path, genai.model.into_config().to_string())),
        Err(ModelError::MissingFile { .. }) => Err(missing),
        Err(error) => Err(error),
    }
}

/// What onnxruntime-genai keeps for its own runs.
#[derive(Deserialize)]
struct GenaiConfig {
    model: GenaiModel,
}

#[derive(Deserialize)]
struct GenaiModel {
    #[serde(rename = "type")]
    model_type: String,
    context_length: usize,
    vocab_size: usize,
    #[serde(default)]
    bos_token_id: Value,
    #[serde(default)]
    eos_token_id: Value,
    #[serde(default)]
    pad_token_id: Value,
    decoder: GenaiDecoder,
}

#[derive(Deserialize)]
struct GenaiDecoder {
    head_size: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
}

impl GenaiModel {
    fn into_config(self) -> Value {
        json!({
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.decoder.hidden_size,
            "num_hidden_layers": self.decoder.num_hidden_layers,
            "num_attention_heads": self.decoder.num_attention_heads,
            "num_key_value_heads": self.decoder.num_key_value_heads,
            "head_dim": self.decoder.head_size,
            "max_position_embeddings": self.context_length,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
        })
    }
}

/// What running needs of `config.json`; the rest is the model's identity.
#[derive(Deserialize)]
#[serde(try_from = "ConfigFields")]
pub(crate) struct ModelConfig {
    /// Tokens the model can attend to.
    pub(crate) max_position_embeddings: usize,
    eos_token_id: TokenIds,
}

/// The fields as they stand in the file.
#[derive(Deserialize)]
struct ConfigFields {
    max_position_embeddings: Option<usize>,
    /// GPT-2's name for it. Some files have both, which an alias would refuse.
    n_positions: Option<usize>,
    #[serde(default)]
    eos_token_id: TokenIds,
}

impl TryFrom<ConfigFields> for ModelConfig {
    type Error = &'static str;

    fn try_from(fields: ConfigFields) -> Result<Self, Self::Error> {
        let window = fields.max_position_embeddings.or(fields.n_positions);
        let max_position_embeddings = window.ok_or("missing field `max_position_embeddings`")?;
        Ok(Self { max_position_embeddings, eos_token_id: fields.eos_token_id })
    }
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
    fn a_folder_of_the_genai_builder_has_its_sizes_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            matches!(read(folder.path()), Err(ModelError::MissingFile { path }) if path.ends_with("config.json"))
        );
        let genai = r#"{"model":{"type":"qwen2","context_length":9,"vocab_size":5,"eos_token_id":[1,2],"decoder":
            {"head_size":3,"hidden_size":4,"num_attention_heads":2,"num_hidden_layers":1,"num_key_value_heads":1}}}"#;
        std::fs::write(folder.path().join("genai_config.json"), genai).unwrap();
        let (_, text) = read(folder.path()).unwrap();
        let read = config(&text);
        assert_eq!((read.max_position_embeddings, read.eos_token_id.0), (9, vec![1, 2]));
    }

    #[test]
    fn gpt2_has_another_name_for_the_window() {
        let config = config(r#"{"n_positions":128}"#);
        assert_eq!(config.max_position_embeddings, 128);
        assert!(GenerationConfig::default().end_of_turn(config).is_empty());
    }

    #[test]
    fn a_window_under_both_names_is_taken_and_under_none_refused() {
        let both = config(r#"{"n_positions":128,"max_position_embeddings":256}"#);
        assert_eq!(both.max_position_embeddings, 256);
        let none = serde_json::from_str::<ModelConfig>("{}").map(|_| ()).unwrap_err();
        assert!(none.to_string().contains("max_position_embeddings"), "{none}");
    }
}
