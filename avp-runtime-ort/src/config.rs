//! `config.json` and `generation_config.json`: the settings for running a model.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ModelError,
    folder::{read_json, read_text},
};

/// The path and text of `config.json`. The onnxruntime-genai builder writes a `genai_config.json` instead; its values are
/// returned under the names of Transformers.
///
/// # Errors
/// When neither file exists, or the existing one cannot be read or lacks a size of the decoder.
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

/// The `genai_config.json` of onnxruntime-genai.
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

/// The fields of `config.json` that runs use. The other fields are the model's identity.
#[derive(Deserialize)]
#[serde(try_from = "ConfigFields")]
pub(crate) struct ModelConfig {
    /// Tokens the model can attend to.
    pub(crate) max_position_embeddings: usize,
    eos_token_id: TokenIds,
}

/// The fields in the file.
#[derive(Deserialize)]
struct ConfigFields {
    max_position_embeddings: Option<usize>,
    /// The name in GPT-2. Some files have both, which a serde alias would refuse.
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

/// The fields of `generation_config.json`, which may be absent.
#[derive(Default, Deserialize)]
pub(crate) struct GenerationConfig {
    #[serde(default)]
    eos_token_id: TokenIds,
}

impl GenerationConfig {
    /// # Errors
    /// When the file exists and is not valid JSON.
    pub(crate) fn load(folder: &Path) -> Result<Self, ModelError> {
        match read_json(&folder.join("generation_config.json")) {
            Err(ModelError::MissingFile { .. }) => Ok(Self::default()),
            other => other,
        }
    }

    /// Tokens that end a turn: from this file, else from `config`.
    pub(crate) fn end_of_turn(self, config: ModelConfig) -> Vec<u32> {
        if self.eos_token_id.0.is_empty() { config.eos_token_id.0 } else { self.eos_token_id.0 }
    }
}

/// An `eos_token_id`: a number, a list or null, depending on the exporter.
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
    fn eos_tokens_come_from_the_generation_config_first() {
        let config = || config(r#"{"max_position_embeddings":9,"eos_token_id":3}"#);
        let generation = |json: &str| serde_json::from_str::<GenerationConfig>(json).unwrap();
        assert_eq!(generation(r#"{"eos_token_id":[1,2]}"#).end_of_turn(config()), [1, 2]);
        assert_eq!(generation(r#"{"eos_token_id":null}"#).end_of_turn(config()), [3]);
        assert_eq!(generation("{}").end_of_turn(config()), [3]);
    }

    #[test]
    fn sizes_are_read_from_genai_config_without_a_config() {
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
    fn the_window_is_read_from_n_positions() {
        let config = config(r#"{"n_positions":128}"#);
        assert_eq!(config.max_position_embeddings, 128);
        assert!(GenerationConfig::default().end_of_turn(config).is_empty());
    }

    #[test]
    fn a_window_with_both_names_is_read_and_without_any_refused() {
        let both = config(r#"{"n_positions":128,"max_position_embeddings":256}"#);
        assert_eq!(both.max_position_embeddings, 256);
        let none = serde_json::from_str::<ModelConfig>("{}").map(|_| ()).unwrap_err();
        assert!(none.to_string().contains("max_position_embeddings"), "{none}");
    }
}
