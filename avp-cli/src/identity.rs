//! `avp hash`, `avp identity` and `avp handshake`: identities of models, and how two of them communicate.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use avp_core::{Evidence, OwnedModelIdentity, hash, resolve};
use avp_rosetta::MapFolder;
use avp_runtime_ort::{read_identity, tokenizer_hash};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Print a hash that handshakes compare
#[derive(Subcommand)]
pub(crate) enum Hash {
    /// SHA-256 of a config.json, in the canonical form of the Python package
    Model {
        /// The config.json
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// SHA-256 of the vocabulary of a tokenizer
    Tokenizer {
        /// A tokenizer.json, or a JSON object from token to id
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

impl Hash {
    pub(crate) fn run(&self) -> Result<()> {
        let hash = match self {
            Self::Model { file } => {
                hash::model_hash(&read(file)?).with_context(|| file.display().to_string())?
            }
            Self::Tokenizer { file } => tokenizer_hash(file)?,
        };
        writeln!(stdout(), "{hash}")?;
        Ok(())
    }
}

/// Print the identity of a model, as a handshake sends it
#[derive(Args)]
pub(crate) struct Identity {
    /// A model folder, or a config.json
    #[arg(value_name = "MODEL_DIR|CONFIG")]
    path: PathBuf,
}

impl Identity {
    pub(crate) fn run(&self) -> Result<()> {
        writeln!(stdout(), "{}", serde_json::to_string(&read_identity(&self.path)?)?)?;
        Ok(())
    }
}

/// Resolve the mode in which two models communicate, and print the rule that decided
#[derive(Args)]
pub(crate) struct Handshake {
    /// Local identity, as `avp identity` prints it, or a hello message that holds one
    #[arg(value_name = "LOCAL.json")]
    local: PathBuf,
    /// Remote identity
    #[arg(value_name = "REMOTE.json")]
    remote: PathBuf,
    /// Number of tokens that the two vocabularies share, if known
    #[arg(long, value_name = "N")]
    shared_tokens: Option<u64>,
    /// A projection map between the models exists [default: looked up where `avp rosetta` saves maps]
    #[arg(long)]
    stored_map: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Handshake {
    pub(crate) fn run(&self) -> Result<()> {
        let (local, remote) = (identity_in(&self.local)?, identity_in(&self.remote)?);
        let kept = |folder: MapFolder| folder.find(&local.model_hash, &remote.model_hash).is_some();
        let evidence = Evidence {
            has_stored_map: self.stored_map || MapFolder::from_env().is_ok_and(kept),
            shared_tokens: self.shared_tokens,
        };
        let resolution = resolve(&local, &remote, evidence);
        let differences: Vec<_> = local.differences(&remote).collect();
        if self.json {
            let differences: Vec<Value> = differences
                .iter()
                .map(|found| json!({ "field": found.field, "local": found.local, "remote": found.remote }))
                .collect();
            let answer = json!({
                "mode": resolution.mode,
                "avp_map_id": resolution.map_id.to_string(),
                "resolution_path": resolution.rule,
                "differences": differences,
            });
            writeln!(stdout(), "{answer}")?;
            return Ok(());
        }
        writeln!(stdout(), "mode       {}", resolution.mode)?;
        writeln!(stdout(), "by rule    {}", resolution.rule)?;
        let map = resolution.map_id.to_string();
        if !map.is_empty() {
            writeln!(stdout(), "with map   {map}")?;
        }
        for difference in differences {
            writeln!(stdout(), "differs    {difference}")?;
        }
        Ok(())
    }
}

/// Reads an identity, a hello that holds one, or a config.
fn identity_in(path: &Path) -> Result<OwnedModelIdentity> {
    let mut value: Value = serde_json::from_str(&read(path)?).with_context(|| path.display().to_string())?;
    if value.get("model_type").is_some() {
        return Ok(read_identity(path)?);
    }
    if let Some(identity) = value.get_mut("identity") {
        value = identity.take();
    }
    let names_a_model = ["model_hash", "model_family", "model_id"].iter().any(|key| value.get(key).is_some());
    ensure!(names_a_model, "{}: not a model identity; `avp identity` prints one", path.display());
    serde_json::from_value(value).with_context(|| format!("{}: not a model identity", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
