//! `avp demo`: one hand-over in detail, then the same questions answered in every mode.

mod compare;
mod handover;
mod report;

use std::{io::Write, path::PathBuf};

use anyhow::{Result, ensure};
use rand::{SeedableRng, rngs::ChaCha8Rng};

use compare::compare;

use crate::world::{Hops, Task, World};

/// Shows what a hand-over saves: agent B answers questions about facts that only agent A has read.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Folder of the embedded model
    #[arg(long, value_name = "DIR", default_value = "models/facts")]
    model: PathBuf,
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
        ensure!(self.questions > 0, "--questions must be at least 1");
        let world = World::load(&self.model)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let hops = |index| if index % 2 == 0 { Hops::One } else { Hops::Two };
        let tasks: Vec<Task> =
            (0..self.questions).map(|index| world.task(&mut rng, hops(index))).collect::<Result<_>>()?;

        if !self.json {
            handover::show(&self.model, &world, &tasks[0])?;
        }
        let modes = compare(&self.model, &world, &tasks)?;
        let report = report::Report { questions: self.questions, seed: self.seed, modes };
        let mut out = std::io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            write!(out, "{report}")?;
        }
        Ok(())
    }
}
