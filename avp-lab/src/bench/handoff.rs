//! The published pipelines on a model, in text, directly and by hand-over.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use avp_runtime_ort::Model;

use super::{
    Loaded,
    answer::Agents,
    dataset::{Dataset, Generated, Paragraphs},
    distinct,
    journal::{Journal, Key, Subject},
    material,
    plan::{Pipeline, Wording},
    progress::Progress,
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
    /// A file that gets each answer as it comes. Answers that it has are not computed again.
    pub keep: Option<PathBuf>,
    /// The label of the mode with which the others are compared question by question, such as `text` or `latent, 0 steps`.
    pub against: String,
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
    /// The controls (nothing, direct, text), and latent with 0 steps; three specialists.
    fn default() -> Self {
        let modes = vec![Mode::Nothing, Mode::Direct, Mode::Text, Mode::latent(0)];
        Self { modes, specialists: 3, max_tokens: None, keep: None, against: Mode::Text.label() }
    }
}

impl Handoff {
    /// Answers every question in every mode. Standard error gets a progress bar, or a line now and then if it is no terminal.
    ///
    /// # Errors
    /// When the model fails, or answers cannot be kept; a prompt that does not fit the window is not an error, it is counted in the report.
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
        let labels: Vec<String> = modes.iter().map(|mode| mode.label()).collect();
        if !labels.contains(&self.against) && self.against != Mode::Text.label() {
            bail!("no mode is labelled {:?}: expected one of {labels:?}", self.against);
        }
        let count: usize = questions.runs.iter().map(|(_, data)| data.tasks.len() * modes.len()).sum();
        let subject = Subject {
            avp: env!("CARGO_PKG_VERSION").to_owned(),
            model: loaded.model.identity().model_hash.clone(),
            dataset: questions.runs.first().map_or_else(String::new, |(_, data)| data.name.clone()),
            seed: questions.seed,
            specialists: self.specialists,
            max_tokens: [agents.max_note_tokens, agents.max_answer_tokens],
        };
        let mut run = Run {
            journal: self.keep.as_ref().map(|path| Journal::open(path, &subject)).transpose()?,
            progress: Progress::new(count, "answers")?,
        };
        let mut pipelines = Vec::new();
        for (pipeline, data) in &questions.runs {
            run.progress.name(pipeline.name());
            pipelines.push(
                compare(&agents, &questions.wording, *pipeline, data, &modes, self, &mut run)
                    .with_context(|| format!("pipeline {}", pipeline.name()))?,
            );
        }
        run.progress.clear();
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
    pub fn from_file(
        path: &Path,
        paragraphs: Paragraphs,
        pipelines: &[Pipeline],
        limit: usize,
        seed: u64,
    ) -> Result<Self> {
        let named = distinct(pipelines);
        let mut data = Dataset::read(path, paragraphs)?;
        if paragraphs == Paragraphs::Gold {
            data.name += ", gold paragraphs";
        }
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

    /// `limit` questions on built-in notes, for two agents of any model that follows instructions.
    pub fn built_in(limit: usize, seed: u64) -> Self {
        let runs = vec![(Pipeline::TwoAgent, material::questions(limit, seed))];
        Self { wording: Wording::General, seed, runs }
    }

    /// The seed that they were drawn with.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The questions of one pipeline.
    pub(super) fn only(&self, pipeline: Pipeline) -> Result<(&Wording, &Dataset)> {
        let run = self.runs.iter().find(|(named, _)| *named == pipeline);
        let (_, data) = run.with_context(|| format!("there are no questions for {}", pipeline.name()))?;
        Ok((&self.wording, data))
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
    handoff: &Handoff,
    run: &mut Run,
) -> Result<PipelineReport> {
    // A warm-up: the first run loads the pages of the model. Its result does not matter, nor whether the prompt fits.
    if let Some(task) = data.tasks.first() {
        let _warm = agents.answer(&wording.plan(pipeline, task, handoff.specialists), Mode::Direct)?;
    }
    let mut tallies: Vec<Tally> = modes.iter().copied().map(Tally::new).collect();
    for task in &data.tasks {
        let plan = wording.plan(pipeline, task, handoff.specialists);
        for tally in &mut tallies {
            let mode = tally.mode();
            let key = Key { pipeline: pipeline.name().to_owned(), question: task.number, mode: mode.label() };
            let kept = run.journal.as_mut().and_then(|journal| journal.take(&key));
            let outcome = match kept {
                Some(outcome) => outcome,
                None => {
                    let place = || format!("question {} of {}, {}", task.number, data.name, mode.label());
                    let outcome = agents.answer(&plan, mode).with_context(place)?;
                    run.journal.as_mut().map_or(Ok(()), |journal| journal.add(&key, &outcome))?;
                    outcome
                }
            };
            tally.add(task, outcome);
            run.progress.done();
        }
    }
    Ok(PipelineReport::new(pipeline, data.name.clone(), data.tasks.len(), tallies, &handoff.against))
}

/// What a run keeps and shows.
struct Run {
    journal: Option<Journal>,
    progress: Progress,
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
