//! `avp think`: reads a prompt, runs latent steps, and writes the KV-cache as a frame or a context file.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use avp_core::{Dialect, Rule};
use avp_runtime_ort::{
    Context, ContextError, FrameOptions, FrameReadOptions, Model, Prompt, Runtime, StepForm, Steps,
    ThinkOptions,
};
use clap::Args;
use serde::Serialize;

use crate::{
    encode::parse_dialect,
    model::ModelArgs,
    output::{Input, Output},
    prompt::PromptArgs,
};

/// Read a prompt, run latent steps, and write the KV-cache as a frame
#[derive(Args)]
pub(crate) struct Think {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    /// End the context behind the turn of the prompt, and do not open the assistant's turn
    #[arg(long, conflicts_with = "raw")]
    closed: bool,
    /// Latent steps after the prompt; `auto` takes what `avp calibrate` found for the model
    #[arg(long, value_name = "N|auto", default_value = "0")]
    steps: Steps,
    /// Form of the steps: peer, hidden, token, soft or mixed, with options as in soft:temperature=0.3,top_k=8,rescale
    /// [default: peer]
    #[arg(long, value_name = "FORM")]
    form: Option<StepForm>,
    /// Frame to continue from; `-` for standard input
    #[arg(long, value_name = "FRAME")]
    context: Option<Input>,
    /// Read the prompt from its first token instead of after the context, and take the common prefix from the context
    #[arg(long, requires = "context")]
    reuse: bool,
    /// Frame to write; `-` for standard output
    #[arg(short, long, value_name = "FRAME", required_unless_present = "save")]
    output: Option<Output>,
    /// Context file to write, with the token ids and the fingerprint of the model
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Dialect of the frame
    #[arg(long, value_name = "0.2|0.3", default_value = "0.3", value_parser = parse_dialect)]
    dialect: Dialect,
    /// Model hash to write into the frame, for a receiver that accepts only its own (from its handshake)
    #[arg(long, value_name = "HEX", value_parser = model_hash)]
    model_hash: Option<String>,
    /// Session id to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    session_id: String,
    /// Id of this agent to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    source_agent_id: String,
    /// Id of the receiving agent to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    target_agent_id: String,
    /// Fail after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Write times, and the norm of the hidden state at each step, as JSON; `-` for standard output
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
        let mut prompt = self.prompt.read(self.context.as_ref())?;
        if let Prompt::Chat(chat) = &mut prompt {
            chat.add_generation_prompt = !self.closed;
        }
        let runtime = self.model.runtime()?;
        let context = self.context.as_ref().map(|input| read_context(&runtime, input)).transpose()?;
        let model = self.model.load(&runtime)?;
        report_structural_match(&model, context.as_ref())?;
        let options = ThinkOptions {
            timeout: self.timeout,
            reuse_prefix: self.reuse,
            diagnostics: self.metrics.is_some(),
            ..options_of(self.steps, self.form, &model)?
        };
        let thought = model.think(prompt, context.as_ref(), &options)?;
        if let Some(why) = thought.departure {
            eprintln!("avp: latent steps ended after {} of {}: {why}", thought.num_steps, options.steps);
        }
        if self.reuse {
            eprintln!("avp: {} of {} prompt tokens reused", thought.reused_tokens, thought.prompt_tokens);
        }
        self.metrics.as_ref().map_or(Ok(()), |file| write_metrics(file, &thought.metrics))?;
        // With diagnostics the library reports this in the metrics only; a context like this must not be written.
        ensure!(
            thought.last_hidden_state.iter().all(|value| value.is_finite()),
            "the hidden state at step {} holds NaN or infinities",
            thought.num_steps
        );
        let context = thought.into_context()?;
        let options = FrameOptions {
            session_id: self.session_id.clone(),
            source_agent_id: self.source_agent_id.clone(),
            target_agent_id: self.target_agent_id.clone(),
            dialect: self.dialect,
            model_hash: self.model_hash.clone(),
            ..FrameOptions::default()
        };
        if let Some(path) = &self.save {
            // The file is read by this crate: it gets the dialect that has a checksum.
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

/// The options of `steps` in `form`. Standard error gets what is known to speak against them.
///
/// # Errors
/// When the calibration is missing, cannot be used, or names another form.
pub(crate) fn options_of(steps: Steps, form: Option<StepForm>, model: &Model) -> Result<ThinkOptions> {
    let options = steps.options(model, form)?;
    if let (Steps::Number(steps @ 1..), form) = (steps, options.form) {
        match model.calibration()? {
            None => eprintln!(
                "avp: {steps} latent steps on a model that is not calibrated may destroy its context; `avp calibrate` \
                 measures whether they do"
            ),
            Some(found) => {
                let mut of_form = found.measured.iter().filter(|measured| measured.form == form);
                let near = of_form.rfind(|measured| (1..=steps).contains(&measured.steps));
                if let (Some(near), Some(none)) = (near, found.measured.first()) {
                    eprintln!(
                        "avp: on this model, {} steps of form {form} answered {} of {} questions, and no steps {}",
                        near.steps, near.right, near.questions, none.right
                    );
                }
            }
        }
    }
    Ok(options)
}

/// Prints a line if a context is accepted by its structure alone.
///
/// # Errors
/// When the model does not accept the context.
pub(crate) fn report_structural_match(model: &Model, context: Option<&Context>) -> Result<()> {
    if let Some(context) = context
        && model.accepts(context)? == Rule::StructuralMatch
    {
        eprintln!("avp: the context's model hash differs; accepted, because family and shape are equal");
    }
    Ok(())
}

/// Reads the context in a frame; a file is memory-mapped.
pub(crate) fn read_context(runtime: &Runtime, input: &Input) -> Result<Context> {
    let options = FrameReadOptions::default();
    let context = match input {
        Input::File(path) if path.is_file() => Context::load(runtime, path, &options),
        _ => Context::from_bytes(runtime, input.read()?, &options),
    };
    context.map_err(|error| match error {
        // This error names the file already.
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

/// A model hash: a SHA-256 in hexadecimal digits.
fn model_hash(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("expected 64 hexadecimal digits".to_owned())
}
