//! The identity of a model for handshakes and frames.

use std::{collections::HashMap, path::Path};

use avp_core::{OwnedModelIdentity, hash};

use crate::{ModelError, config, folder::read_text, prepare::PrepareReport, tokens::Tokens};

/// Reads the identity of a model without loading it, from a model folder with `config.json` (or `genai_config.json`) and an
/// optional `tokenizer.json`, or from a config file alone.
///
/// ```
/// use avp_runtime_ort::{ModelError, read_identity};
///
/// let identity = read_identity("../models/facts")?;
/// assert_eq!(identity.model_hash.len(), 64);
/// # Ok::<(), ModelError>(())
/// ```
///
/// # Errors
/// When a file is missing, unreadable or invalid.
pub fn read_identity(path: impl AsRef<Path>) -> Result<OwnedModelIdentity, ModelError> {
    let path = path.as_ref();
    if !path.is_dir() {
        return from_config(path, &read_text(path)?);
    }
    let (config, text) = config::read(path)?;
    let identity = from_config(&config, &text)?;
    match Tokens::load(path) {
        Ok(tokens) => Ok(OwnedModelIdentity { tokenizer_hash: tokens.hash(), ..identity }),
        Err(ModelError::MissingFile { .. }) => Ok(identity),
        Err(error) => Err(error),
    }
}

/// SHA-256 of a vocabulary in hex, as the Python package computes it. The file is a `tokenizer.json`, or a JSON object from
/// token to id.
///
/// # Errors
/// When the file cannot be read or has another format.
pub fn tokenizer_hash(path: impl AsRef<Path>) -> Result<String, ModelError> {
    let path = path.as_ref();
    let text = read_text(path)?;
    // A vocabulary maps every key to a number; a tokenizer.json has objects and strings.
    match serde_json::from_str::<HashMap<String, u32>>(&text) {
        Ok(vocab) => Ok(hash::tokenizer_hash_of(vocab.iter().map(|(token, &id)| (token.as_str(), id)))),
        Err(_) => Ok(Tokens::parse(path, &text)?.hash()),
    }
}

/// The identity of the model whose `config.json`, at `path`, has this text.
///
/// # Errors
/// When the text is not a valid config.
pub(crate) fn identify(path: &Path, config: &str, tokens: &Tokens) -> Result<OwnedModelIdentity, ModelError> {
    Ok(OwnedModelIdentity { tokenizer_hash: tokens.hash(), ..from_config(path, config)? })
}

/// Checks that the sizes in config and graph match: a peer could not read frames with wrong sizes.
///
/// # Errors
/// When a size in the config differs from the graph's. The error names it.
pub(crate) fn check(identity: &OwnedModelIdentity, graph: &PrepareReport) -> Result<(), ModelError> {
    let fields = [
        ("hidden_size", identity.hidden_dim, graph.hidden_size),
        ("num_hidden_layers", identity.num_layers, graph.cache.num_layers),
        ("num_key_value_heads", identity.num_kv_heads, graph.cache.num_kv_heads),
        ("head_dim", identity.head_dim, graph.cache.head_dim),
    ];
    match fields.into_iter().find(|&(_, config, graph)| config as usize != graph) {
        Some((field, config, graph)) => Err(ModelError::ConfigMismatch { field, config, graph }),
        None => Ok(()),
    }
}

/// The size of one head in the config, for graphs in which it is symbolic.
pub(crate) fn head_dim(identity: &OwnedModelIdentity) -> Option<usize> {
    usize::try_from(identity.head_dim).ok().filter(|&size| size > 0)
}

pub(crate) fn from_config(path: &Path, config: &str) -> Result<OwnedModelIdentity, ModelError> {
    OwnedModelIdentity::from_config(config)
        .map_err(|error| ModelError::Json { path: path.to_owned(), message: error.to_string() })
}
