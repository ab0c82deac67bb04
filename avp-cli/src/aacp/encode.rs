//! `avp aacp encode`: a packet for an instruction in English.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use aacp::learn::{
    Encoder, Instruction, PatternLog,
    http::{Anthropic, OpenAi},
};
use anyhow::{Context, Result, bail};
use clap::Args;

use super::rules::load;

/// Put an instruction in English into a packet
///
/// Known rules come first, then what the log has, then the model, if one is named. What a model wrote is logged, so that
/// the next time costs nothing.
#[derive(Args)]
pub(crate) struct Encode {
    /// The instruction
    #[arg(value_name = "ENGLISH")]
    english: String,
    /// The domain it belongs to
    #[arg(long, value_name = "DOM")]
    domain: String,
    /// Who receives the answer
    #[arg(long = "return", value_name = "AGENT")]
    return_agent: String,
    /// Rules: a file, a folder or a URL
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// The log of patterns; made where it is not there
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// A model to ask, as `anthropic:NAME` or `openai:NAME`; the key comes from the environment
    #[arg(long, value_name = "SERVICE:NAME")]
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
        encoder = match self.model.as_deref().map(|model| model.split_once(':')) {
            None => encoder,
            Some(Some(("anthropic", name))) => encoder.model(Anthropic::from_env(name)?),
            Some(Some(("openai", name))) => encoder.model(OpenAi::from_env(name)?),
            Some(_) => bail!("--model takes anthropic:NAME or openai:NAME"),
        };
        let instruction = Instruction::new(&self.english, &self.domain, &self.return_agent);
        let encoded = encoder.encode(&instruction)?;
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
