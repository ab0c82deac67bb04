//! `avp demo` and `avp agent`, the processes that it starts.

use std::{
    io::{Write, stdout},
    num::NonZeroUsize,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use avp_lab::{agent, demo, embedded_model};
use clap::Args;

use crate::model::{ModelArgs, find_library};

/// Show what a hand-over saves: agent B answers questions about documents that only agent A has read
#[derive(Args)]
pub(crate) struct Demo {
    /// Model folder with a world.json [default: the embedded model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Questions in each mode, half of them in one hop and half in two
    #[arg(long, value_name = "N", default_value_t = 100)]
    questions: usize,
    /// Seed of the documents and questions
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) fn run(&self) -> Result<()> {
        let questions = NonZeroUsize::new(self.questions).context("--questions must be at least 1")?;
        // Otherwise each agent would report a missing library.
        find_library(None)?;
        let program = std::env::current_exe().context("cannot find this program to start its agents")?;
        let model = self.model.clone().map_or_else(embedded_model, Ok)?;
        let demo = demo::Demo::new(program, model, questions, self.seed)?;
        if self.json {
            return Ok(writeln!(stdout(), "{}", serde_json::to_string(&demo.compare()?)?)?);
        }
        demo.show_handover(&mut stdout())?;
        Ok(write!(stdout(), "{}", demo.compare()?)?)
    }
}

/// Answer the demo's requests on standard input
#[derive(Args)]
pub(crate) struct Agent {
    #[command(flatten)]
    model: ModelArgs,
    /// Name to write into frames
    #[arg(long, default_value = "agent")]
    name: String,
}

impl Agent {
    pub(crate) fn run(&self) -> Result<()> {
        let runtime = self.model.runtime()?;
        agent::serve(&runtime, &self.model.load(&runtime)?, &self.name)
    }
}
