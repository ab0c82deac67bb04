//! The same questions in every mode, answered by two agents in processes of their own.

use std::{path::Path, time::Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::report::{ModeReport, Outcome};
use crate::{
    agent::Agent,
    mode::{Handed, Mode},
    world::{Task, World},
};

/// A summary of four people takes about a hundred tokens.
const MAX_SUMMARY_TOKENS: usize = 160;
const MAX_ANSWER_TOKENS: usize = 24;

/// The modes compared, in the order of the table.
const MODES: [Mode; 4] = [Mode::Nothing, Mode::Direct, Mode::Text, Mode::latent(0)];

/// Answers every task in every mode. Modes take turns on each task, so that a change of the machine's speed affects all alike.
pub(super) fn compare(
    program: &Path,
    model: &Path,
    world: &World,
    tasks: &[Task],
) -> Result<Vec<ModeReport>> {
    let mut a = Agent::start(program, "A", model)?;
    let mut b = Agent::start(program, "B", model)?;
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} questions")?;
    let agents = format!("agent A is process {}, B is {}", a.process_id(), b.process_id());
    let progress = ProgressBar::new(tasks.len() as u64).with_style(style).with_message(agents);
    let mut reports = MODES.map(ModeReport::new);
    // A warm-up: the first run in each mode loads the pages of the model.
    for mode in MODES {
        answer(&mut a, &mut b, world, &tasks[0], mode)?;
    }
    for task in tasks {
        for report in &mut reports {
            let outcome = answer(&mut a, &mut b, world, task, report.mode)?;
            report.add(task, outcome);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(reports.into())
}

fn answer(a: &mut Agent, b: &mut Agent, world: &World, task: &Task, mode: Mode) -> Result<Outcome> {
    let start = Instant::now();
    let (tokens_a, handover_bytes, generated) = match mode {
        Mode::Direct => (0, 0, b.generate(world.direct_prompt(task), MAX_ANSWER_TOKENS, &[])?),
        Mode::Text => {
            let summary = a.generate(world.summarise_prompt(task), MAX_SUMMARY_TOKENS, &[])?;
            let prompt = world.summary_prompt(task, &summary.text);
            let generated = b.generate(prompt, MAX_ANSWER_TOKENS, &[])?;
            (summary.tokens, summary.text.len(), generated)
        }
        Mode::Nothing => (0, 0, b.generate(world.context_prompt(task), MAX_ANSWER_TOKENS, &[])?),
        Mode::Latent(Handed { steps, .. }) => {
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
