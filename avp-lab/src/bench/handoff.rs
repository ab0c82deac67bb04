//! The published pipelines on a model, in text, directly and by hand-over.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use avp_runtime_ort::Model;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Loaded,
    answer::Agents,
    dataset::{Dataset, Generated},
    distinct,
    plan::{Pipeline, Wording},
    report::{ModelFacts, PipelineReport, Report, Tally},
};
use crate::{mode::Mode, world::World};

/// Compares hand-over with text and with one agent alone.
///
/// Decoding is greedy, so a run can be repeated.
#[derive(Debug, Clone)]
pub struct Handoff {
    /// Modes to compare.
    pub modes: Vec<Mode>,
    /// Agents before the last in a fan-out.
    pub specialists: usize,
    /// Most tokens that an agent writes; by default 256, or 160 for a summary and 24 for an answer to a generated question.
    pub max_tokens: Option<usize>,
}

/// Pipelines to run, and the questions of each.
pub struct Questions {
    wording: Wording,
    seed: u64,
    runs: Vec<(Pipeline, Dataset)>,
}

/// Tokens of a summary of four people, of its answer, and of anything that another model writes.
const SUMMARY_TOKENS: usize = 160;
const SENTENCE_TOKENS: usize = 24;
const TEXT_TOKENS: usize = 256;

impl Default for Handoff {
    /// Direct, text, and latent with 0, 10 and 20 steps; three specialists.
    fn default() -> Self {
        let modes = vec![
            Mode::Direct,
            Mode::Text,
            Mode::Latent { steps: 0 },
            Mode::Latent { steps: 10 },
            Mode::Latent { steps: 20 },
        ];
        Self { modes, specialists: 3, max_tokens: None }
    }
}

impl Handoff {
    /// Answers every question in every mode. A progress bar goes to standard error if that is a terminal.
    ///
    /// # Errors
    /// When the model fails; a prompt that does not fit the window is not an error, it is counted in the report.
    pub fn run(&self, loaded: &Loaded<'_>, questions: &Questions) -> Result<Report> {
        let generated = matches!(questions.wording, Wording::World(_));
        let agents = Agents {
            runtime: loaded.runtime,
            model: loaded.model,
            max_note_tokens: self.max_tokens.unwrap_or(if generated { SUMMARY_TOKENS } else { TEXT_TOKENS }),
            max_answer_tokens: self.max_tokens.unwrap_or(if generated {
                SENTENCE_TOKENS
            } else {
                TEXT_TOKENS
            }),
        };
        let modes = distinct(&self.modes);
        let count: usize = questions.runs.iter().map(|(_, data)| data.tasks.len() * modes.len()).sum();
        let progress = ProgressBar::new(count as u64)
            .with_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} answers, {eta} left")?);
        let mut pipelines = Vec::new();
        for (pipeline, data) in &questions.runs {
            progress.set_message(pipeline.name());
            pipelines.push(
                compare(&agents, &questions.wording, *pipeline, data, &modes, self.specialists, &progress)
                    .with_context(|| format!("pipeline {}", pipeline.name()))?,
            );
        }
        progress.finish_and_clear();
        Ok(Report {
            avp: env!("CARGO_PKG_VERSION"),
            model: facts(loaded.model, loaded.folder),
            seed: questions.seed,
            threads: loaded.threads,
            pipelines,
        })
    }
}

impl Questions {
    /// Draws `limit` questions from a file with the fields of GSM8K or HotpotQA: JSON lines or one JSON array.
    ///
    /// Without `pipelines`, all that the questions allow.
    ///
    /// # Errors
    /// When the file cannot be read or a record is malformed, or a named pipeline needs a context that the questions lack.
    pub fn from_file(path: &Path, pipelines: &[Pipeline], limit: usize, seed: u64) -> Result<Self> {
        let named = distinct(pipelines);
        let mut data = Dataset::read(path)?;
        let documents = data.has_documents();
        if named.contains(&Pipeline::Reading) && !documents {
            bail!("{} has questions without a context to read: leave `reading` out", path.display());
        }
        data.draw(limit, seed);
        let all = Pipeline::ALL.into_iter().filter(|pipeline| documents || *pipeline != Pipeline::Reading);
        let pipelines = if named.is_empty() { all.collect() } else { named };
        let runs = pipelines.into_iter().map(|pipeline| (pipeline, data.clone())).collect();
        Ok(Self { wording: Wording::General, seed, runs })
    }

    /// Generates `limit` questions for each pipeline from the `world.json` in the folder of the embedded model.
    ///
    /// Without `pipelines`, all of them.
    ///
    /// # Errors
    /// When the folder has no usable `world.json`.
    pub fn generate(model: &Path, pipelines: &[Pipeline], limit: usize, seed: u64) -> Result<Self> {
        if model.is_dir() && !World::is_in(model) {
            bail!(
                "questions can be generated for the embedded model only: name a --dataset for {}",
                model.display()
            );
        }
        let world = World::load(model)?;
        let named = distinct(pipelines);
        let pipelines = if named.is_empty() { Pipeline::ALL.to_vec() } else { named };
        let runs = pipelines
            .into_iter()
            .map(|pipeline| {
                let kind = match pipeline {
                    Pipeline::Reading => Generated::Reading,
                    _ => Generated::Mixed,
                };
                Ok((pipeline, Dataset::generate(&world, limit, seed, kind)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { wording: Wording::World(Box::new(world)), seed, runs })
    }
}

/// Answers every question in every mode. Modes take turns on each question, so that a change of the machine's speed affects
/// all alike.
fn compare(
    agents: &Agents<'_>,
    wording: &Wording,
    pipeline: Pipeline,
    data: &Dataset,
    modes: &[Mode],
    specialists: usize,
    progress: &ProgressBar,
) -> Result<PipelineReport> {
    // A warm-up: the first run loads the pages of the model. Its result does not matter, nor whether the prompt fits.
    if let Some(task) = data.tasks.first() {
        let _warm = agents.answer(&wording.plan(pipeline, task, specialists), Mode::Direct)?;
    }
    let mut tallies: Vec<Tally> = modes.iter().copied().map(Tally::new).collect();
    for task in &data.tasks {
        let plan = wording.plan(pipeline, task, specialists);
        for tally in &mut tallies {
            let outcome = agents.answer(&plan, tally.mode()).with_context(|| {
                format!("question {} of {}, {}", task.number, data.name, tally.mode().label())
            })?;
            tally.add(task, outcome);
            progress.inc(1);
        }
    }
    Ok(PipelineReport::new(pipeline, data.name.clone(), data.tasks.len(), tallies))
}

fn facts(model: &Model, folder: &Path) -> ModelFacts {
    let layout = model.cache_layout();
    ModelFacts {
        folder: folder.display().to_string(),
        family: model.identity().model_family.clone(),
        hash: model.identity().model_hash.clone(),
        num_layers: layout.num_layers,
        num_kv_heads: layout.num_kv_heads,
        head_dim: layout.head_dim,
        kv_dtype: layout.dtype.to_string(),
        window: model.window(),
    }
}
