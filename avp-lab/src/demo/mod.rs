//! The demo: one hand-over in detail, then the same questions answered in every mode.

mod compare;
mod handover;
mod report;

use std::{io::Write, num::NonZeroUsize, path::PathBuf};

use anyhow::Result;
use rand::{SeedableRng, rngs::ChaCha8Rng};

pub use report::Report;

use crate::world::{Hops, Task, World};

/// Questions about documents that only agent A has read, to be answered by agent B.
///
/// ```no_run
/// use avp_lab::{demo::Demo, embedded_model};
///
/// let questions = 100_usize.try_into()?;
/// let demo = Demo::new("avp", embedded_model()?, questions, 1)?;
/// println!("{}", demo.compare()?);
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Demo {
    program: PathBuf,
    model: PathBuf,
    seed: u64,
    world: World,
    tasks: Vec<Task>,
}

impl Demo {
    /// Generates questions, half of them in one hop and half in two, from the `world.json` in the folder `model`.
    ///
    /// `program` is the `avp` program; its commands `think`, `generate` and `agent` are started.
    ///
    /// # Errors
    /// When the folder has no usable `world.json`.
    pub fn new(
        program: impl Into<PathBuf>,
        model: impl Into<PathBuf>,
        questions: NonZeroUsize,
        seed: u64,
    ) -> Result<Self> {
        let model = model.into();
        let world = World::load(&model)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let hops = |index| if index % 2 == 0 { Hops::One } else { Hops::Two };
        let tasks =
            (0..questions.get()).map(|index| world.task(&mut rng, hops(index))).collect::<Result<_>>()?;
        Ok(Self { program: program.into(), model, seed, world, tasks })
    }

    /// Hands the first question's document from one process to another and writes each step to `out`.
    ///
    /// # Errors
    /// When a process fails or `out` cannot be written.
    pub fn show_handover(&self, out: &mut impl Write) -> Result<()> {
        handover::show(&self.program, &self.model, &self.world, &self.tasks[0], out)
    }

    /// Answers every question in every mode. A progress bar goes to standard error if that is a terminal.
    ///
    /// # Errors
    /// When an agent cannot be started or fails.
    pub fn compare(&self) -> Result<Report> {
        let modes = compare::compare(&self.program, &self.model, &self.world, &self.tasks)?;
        Ok(Report { questions: self.tasks.len(), seed: self.seed, modes })
    }
}
