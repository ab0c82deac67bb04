//! `avp generate`: answers a prompt, behind the context in a frame where one is given.

use std::{
    io::{Write, stdout},
    ops::ControlFlow,
};

use anyhow::Result;
use avp_runtime_ort::GenerateOptions;
use clap::Args;

use crate::{
    ModelArgs,
    output::Input,
    think::{read_context, report_structural_match},
};

/// Answer a prompt, continuing from a received KV-cache where one is given
///
/// The answer alone goes to standard output.
#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    /// What to answer; the model's chat template makes a user's message of it
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// A frame with the KV-cache to continue from; `-` for standard input
    #[arg(long, value_name = "FRAME")]
    context: Option<Input>,
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// 0 takes the likeliest token each time; more draws, the flatter the higher
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Seed of the draw
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl Generate {
    pub(crate) fn run(&self) -> Result<()> {
        let runtime = self.model.runtime()?;
        let context = self.context.as_ref().map(|input| read_context(&runtime, input)).transpose()?;
        let model = self.model.load(&runtime)?;
        report_structural_match(&model, context.as_ref())?;
        let options = GenerateOptions {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            ..GenerateOptions::default()
        };
        let mut out = stdout().lock();
        let mut failed = None;
        model.generate_streaming(self.prompt.as_str(), context.as_ref(), &options, |piece| {
            match out.write_all(piece.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or_else(|| writeln!(out), Err)?;
        Ok(())
    }
}
