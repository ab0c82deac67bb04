//! The same questions in every mode, answered by two agents in processes of their own.

use std::{path::Path, time::Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::report::{Mode, Outcome, Way};
use crate::{
    agent::Agent,
    world::{Task, World},
};

/// A summary of four people takes about a hundred tokens.
const MAX_SUMMARY_TOKENS: usize = 160;
const MAX_ANSWER_TOKENS: usize = 24;

/// The ways compared, in the order of the table.
const WAYS: [Way; 4] = [Way::Direct, Way::Text, Way::Latent { steps: 0 }, Way::Latent { steps: 8 }];

/// Answers every task in every way. Ways take turns on each task, so that a machine whose speed drifts favours none.
pub(super) fn compare(model: &Path, world: &World, tasks: &[Task]) -> Result<Vec<Mode>> {
    let mut a = Agent::start("A", model)?;
    let mut b = Agent::start("B", model)?;
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} questions")?;
    let agents = format!("agent A is process {}, B is {}", a.process_id(), b.process_id());
    let progress = ProgressBar::new(tasks.len() as u64).with_style(style).with_message(agents);
    let mut modes = WAYS.map(Mode::new);
    // What is slow once, such as the first pages of a model, belongs to no mode.
    for way in WAYS {
        answer(&mut a, &mut b, world, &tasks[0], way)?;
    }
    for task in tasks {
        for mode in &mut modes {
            let outcome = answer(&mut a, &mut b, world, task, mode.way)?;
            mode.add(task, outcome);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(modes.into())
}

fn answer(a: &mut Agent, b: &mut Agent, world: &World, task: &Task, way: Way) -> Result<Outcome> {
    let start = Instant::now();
    let (tokens_a, handover_bytes, generated) = match way {
        Way::Direct => (0, 0, b.generate(world.direct_prompt(task), MAX_ANSWER_TOKENS, &[])?),
        Way::Text => {
            let summary = a.generate(world.summarise_prompt(task), MAX_SUMMARY_TOKENS, &[])?;
            let prompt = world.summary_prompt(task, &summary.text);
            let generated = b.generate(prompt, MAX_ANSWER_TOKENS, &[])?;
            (summary.tokens, summary.text.len(), generated)
        }
        Way::Latent { steps } => {
            let (thought, frame) = a.think(world.think_prompt(task), steps)?;
            let generated = b.generate(world.context_prompt(task), MAX_ANSWER_TOKENS, &frame)?;
            (thought.tokens, frame.len(), generated)
        }
    };
    Ok(Outcome {
        right: generated.text.trim() == task.answer,
        tokens_a,
        tokens_b: generated.tokens,
        handover_bytes,
        first_token_ms: generated.first_token_ms,
        total_ms: start.elapsed().as_secs_f64() * 1e3,
    })
}
