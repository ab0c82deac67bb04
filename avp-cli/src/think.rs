//! `avp think`: reads a prompt, takes latent steps, writes the KV-cache as a frame.

use anyhow::Result;
use avp_core::Rule;
use avp_runtime_ort::{Context, FrameOptions, Model, Runtime};
use clap::Args;

use crate::{
    ModelArgs,
    output::{Input, Output},
};

/// Read a prompt, take latent steps, and write what the model then knows as a frame
#[derive(Args)]
pub(crate) struct Think {
    #[command(flatten)]
    model: ModelArgs,
    /// What to read; the model's chat template makes a user's message of it
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Latent steps after the prompt
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,
    /// A frame to continue from; `-` for standard input
    #[arg(long, value_name = "FRAME")]
    context: Option<Input>,
    /// Where the frame goes; `-` for standard output
    #[arg(short, long, value_name = "FRAME")]
    output: Output,
    /// Session id to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    session_id: String,
    /// Name of this agent, to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    source_agent_id: String,
    /// Name of the agent that the frame is for, to write into the frame
    #[arg(long, value_name = "ID", default_value = "")]
    target_agent_id: String,
}

impl Think {
    pub(crate) fn run(&self) -> Result<()> {
        self.output.check()?;
        let runtime = self.model.runtime()?;
        let context = self.context.as_ref().map(|input| read_context(&runtime, input)).transpose()?;
        let model = self.model.load(&runtime)?;
        report_structural_match(&model, context.as_ref())?;
        let context = model.think(self.prompt.as_str(), self.steps, context.as_ref())?;
        let frame = context.to_frame(&FrameOptions {
            session_id: self.session_id.clone(),
            source_agent_id: self.source_agent_id.clone(),
            target_agent_id: self.target_agent_id.clone(),
            ..FrameOptions::default()
        })?;
        self.output.write(&frame)
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

/// Reads a frame and takes the context out of it.
pub(crate) fn read_context(runtime: &Runtime, input: &Input) -> Result<Context> {
    use anyhow::Context as _;
    Context::from_frame(runtime, &input.read()?).with_context(|| input.to_string())
}
