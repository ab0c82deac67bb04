//! `avp think`: reads a prompt, takes latent steps, writes the KV-cache as a frame or keeps it in a file.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use avp_core::{Dialect, Rule};
use avp_runtime_ort::{
    Context, ContextError, DebugConfig, FrameOptions, FrameReadOptions, Model, Runtime, ThinkOptions,
};
use clap::Args;
use serde::Serialize;

use crate::{
    encode::parse_dialect,
    model::ModelArgs,
    output::{Input, Output},
    prompt::PromptArgs,
};

/// Read a prompt, take latent steps, and write what the model then knows as a frame
#[derive(Args)]
pub(crate) struct Think {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Latent steps after the prompt
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,
    /// What the logits are divided by in a latent step: below 1 it comes nearer to the likeliest token (tied embeddings only)
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// A frame to continue from; `-` for standard input
    #[arg(long, value_name = "FRAME")]
    context: Option<Input>,
    /// Read the prompt from its first token on, taking from the context what both begin with, instead of behind it
    #[arg(long, requires = "context")]
    reuse: bool,
    /// Where the frame goes; `-` for standard output
    #[arg(short, long, value_name = "FRAME", required_unless_present = "save")]
    output: Option<Output>,
    /// Keep the context in this file, with the tokens it was computed from and the fingerprint of the model
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Dialect of the frame
    #[arg(long, value_name = "0.2|0.3", default_value = "0.3", value_parser = parse_dialect)]
    dialect: Dialect,
    /// Model hash to write into the frame: the receiver's own, from its handshake, where it takes no other
    #[arg(long, value_name = "HEX")]
    model_hash: Option<String>,
    /// Session id to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    session_id: String,
    /// Name of this agent, to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    source_agent_id: String,
    /// Name of the agent that the frame is for, to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    target_agent_id: String,
    /// Give up after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Write how long it took, and the norm of the hidden state at each step, as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    metrics: Option<Output>,
}

impl Think {
    pub(crate) fn run(&self) -> Result<()> {
        let saved = self.save.clone().map(Output::File);
        self.output.iter().chain(&saved).try_for_each(Output::check)?;
        ensure!(
            (&self.output, &self.metrics) != (&Some(Output::Stdout), &Some(Output::Stdout)),
            "frame and metrics cannot both go to standard output"
        );
        let prompt = self.prompt.read(self.context.as_ref())?;
        let runtime = self.model.runtime()?;
        let context = self.context.as_ref().map(|input| read_context(&runtime, input)).transpose()?;
        let model = self.model.load(&runtime)?;
        report_structural_match(&model, context.as_ref())?;
        let options = ThinkOptions {
            temperature: self.temperature,
            timeout: self.timeout,
            reuse_prefix: self.reuse,
            ..ThinkOptions::steps(self.steps)
        };
        let debug = self.metrics.is_some().then(DebugConfig::default);
        let (thought, metrics) = model.think_measured(prompt, options, context.as_ref(), debug)?;
        if self.reuse {
            eprintln!("avp: {} of {} prompt tokens reused", thought.reused_tokens, thought.prompt_tokens);
        }
        self.metrics.as_ref().map_or(Ok(()), |file| write_metrics(file, &metrics))?;
        // Measured, it is no error of the library's; for whoever would go on from it, it is.
        ensure!(
            thought.last_hidden_state.iter().all(|value| value.is_finite()),
            "the model gave no finite numbers at step {}",
            thought.num_steps
        );
        let context = thought.context.context("thinking kept no KV-cache")?;
        let options = FrameOptions {
            session_id: self.session_id.clone(),
            source_agent_id: self.source_agent_id.clone(),
            target_agent_id: self.target_agent_id.clone(),
            dialect: self.dialect,
            model_hash: self.model_hash.clone(),
            ..FrameOptions::default()
        };
        if let Some(path) = &self.save {
            // A file is for ourselves: in the dialect that has a checksum.
            context.save_with(
                path,
                &FrameOptions { dialect: Dialect::V0_3, model_hash: None, ..options.clone() },
            )?;
        }
        if let Some(output) = &self.output {
            output.write(&context.to_bytes(&options)?)?;
        }
        Ok(())
    }
}

/// Says so where a context is taken by its structure alone.
///
/// # Errors
/// When it does not fit the model at all.
pub(crate) fn report_structural_match(model: &Model, context: Option<&Context>) -> Result<()> {
    if let Some(context) = context
        && model.accepts(context)? == Rule::StructuralMatch
    {
        eprintln!("avp: the context's model hash differs; taken, since family and shape are equal");
    }
    Ok(())
}

/// Takes the context out of a frame; one in a file is used where the system has it in memory.
pub(crate) fn read_context(runtime: &Runtime, input: &Input) -> Result<Context> {
    let options = FrameReadOptions::default();
    let context = match input {
        Input::File(path) if path.is_file() => Context::load(runtime, path, &options),
        _ => Context::from_bytes(runtime, input.read()?, &options),
    };
    context.map_err(|error| match error {
        // It names the file itself.
        ContextError::File { .. } => anyhow::Error::new(error),
        _ => anyhow::Error::new(error).context(input.to_string()),
    })
}

/// Writes metrics as a line of JSON.
pub(crate) fn write_metrics(file: &Output, metrics: &impl Serialize) -> Result<()> {
    file.write(format!("{}\n", serde_json::to_string(metrics)?).as_bytes())
}

/// A number of seconds on the command line, such as `0.5`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "expected a number of seconds, not below 0".to_owned())
}
