//! `avp aacp encode`: makes a packet from an instruction in English.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use aacp::learn::{
    Encoder, Instruction, PatternLog,
    http::{Anthropic, OpenAi},
};
use anyhow::{Context, Error, Result, bail};
use clap::Args;

use super::{onnx::OnnxModel, rules::load};

/// Make a packet from an instruction in English
///
/// Rules are tried first, then the patterns in the log, then the model if one is named. Packets of a model are logged, so that the
/// same instruction needs no model the next time.
#[derive(Args)]
pub(crate) struct Encode {
    /// Instruction in English
    #[arg(value_name = "ENGLISH")]
    english: String,
    /// Domain of the packet
    #[arg(long, value_name = "DOM")]
    domain: String,
    /// Agent that receives the answer
    #[arg(long = "return", value_name = "AGENT")]
    return_agent: String,
    /// Rules: a file, a folder or a URL
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// Log of patterns; created if it does not exist
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Model to ask: `anthropic:NAME` or `openai:NAME`, with the key from the environment, or `onnx:MODEL_DIR`
    #[arg(long, value_name = "KIND:NAME")]
    model: Option<String>,
    /// Print one JSON object: `packet`, `tier`, `loss_note`
    #[arg(long)]
    json: bool,
}

impl Encode {
    pub(crate) fn run(&self) -> Result<()> {
        let mut encoder = Encoder::new();
        if let Some(rules) = &self.rules {
            encoder = encoder.rules(load(rules)?);
        }
        if let Some(log) = &self.log {
            encoder = encoder.log(PatternLog::open(log).with_context(|| log.display().to_string())?);
        }
        let mut last_error = None;
        encoder = match self.model.as_deref().map(|model| model.split_once(':')) {
            None => encoder,
            Some(Some(("anthropic", name))) => encoder.model(Anthropic::from_env(name)?),
            Some(Some(("openai", name))) => encoder.model(OpenAi::from_env(name)?),
            Some(Some(("onnx", folder))) => {
                let model = OnnxModel::load(folder)?;
                last_error = Some(model.last_error());
                encoder.model(model)
            }
            Some(_) => bail!("--model takes anthropic:NAME, openai:NAME or onnx:MODEL_DIR"),
        };
        let instruction = Instruction::new(&self.english, &self.domain, &self.return_agent);
        let encoded = encoder.encode(&instruction).map_err(|error| {
            match last_error.and_then(|error| error.take()) {
                Some(cause) => Error::new(cause).context("the model failed"),
                None => Error::new(error),
            }
        })?;
        if self.json {
            let line = serde_json::json!({
                "packet": encoded.packet,
                "tier": encoded.tier.as_str(),
                "loss_note": encoded.loss_note,
            });
            writeln!(stdout(), "{line}")?;
        } else {
            writeln!(stdout(), "{}", encoded.packet)?;
        }
        Ok(())
    }
}
