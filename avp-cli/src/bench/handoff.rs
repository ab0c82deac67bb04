//! `avp bench handoff`: the published pipelines on a model, in text, directly and by hand-over.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use avp_runtime_ort::Model;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    EMBEDDED_MODEL,
    answer::{Agents, Way},
    at_least_one, check_folder,
    dataset::{Dataset, Generated},
    distinct, html,
    plan::{Pipeline, Wording},
    print_unless_json,
    report::{ModelFacts, PipelineReport, Report, Tally},
    write_json,
};
use crate::{model::ModelArgs, output::Output, world::World};

/// Compare hand-over with text and with one agent alone, on a data set
///
/// Without --dataset, the embedded model answers questions made for it. Text is greedy, so that a run can be repeated.
#[derive(Args)]
#[command(mut_arg("folder", |folder| folder.required(false).default_value(EMBEDDED_MODEL)))]
pub(crate) struct Handoff {
    #[command(flatten)]
    model: ModelArgs,
    /// Questions: JSON lines or one JSON array, with the fields of GSM8K or HotpotQA
    #[arg(long, value_name = "FILE")]
    dataset: Option<PathBuf>,
    /// Pipelines to run; all that the questions allow where none is named
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pipeline: Vec<Pipeline>,
    /// Modes to compare
    #[arg(long, value_name = "MODES", value_delimiter = ',', default_value = "direct,text,latent")]
    mode: Vec<Mode>,
    /// Latent steps of each agent before the last, one mode for each number
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0,10,20")]
    steps: Vec<usize>,
    /// Agents before the last in a fan-out
    #[arg(long, value_name = "N", default_value_t = 3)]
    specialists: usize,
    /// Questions, drawn with the seed
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Seed of the questions
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Tokens that any agent writes at most [default: 256; on made questions 160 for a summary and 24 for an answer]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Write the report as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<Output>,
    /// Write the report as a page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Direct,
    Text,
    Latent,
}

/// Tokens of a summary of four people, of its answer, and of anything that another model writes.
const SUMMARY_TOKENS: usize = 160;
const SENTENCE_TOKENS: usize = 24;
const TEXT_TOKENS: usize = 256;

impl Handoff {
    pub(crate) fn run(&self) -> Result<()> {
        at_least_one("limit", self.limit)?;
        at_least_one("specialists", self.specialists)?;
        ensure!(self.max_tokens != Some(0), "--max-tokens must be at least 1");
        ensure!(
            [&self.json, &self.html].iter().filter(|output| ***output == Some(Output::Stdout)).count() < 2,
            "only one of --json and --html can go to standard output"
        );
        check_folder(self.json.as_ref())?;
        check_folder(self.html.as_ref())?;
        let questions = self.questions()?;
        let ways = self.ways();

        let runtime = self.model.runtime()?;
        let model = self.model.load(&runtime)?;
        let own = self.dataset.is_none();
        let agents = Agents {
            runtime: &runtime,
            model: &model,
            max_note_tokens: self.max_tokens.unwrap_or(if own { SUMMARY_TOKENS } else { TEXT_TOKENS }),
            max_answer_tokens: self.max_tokens.unwrap_or(if own { SENTENCE_TOKENS } else { TEXT_TOKENS }),
        };
        let count: usize = questions.runs.iter().map(|(_, data)| data.tasks.len() * ways.len()).sum();
        let progress = ProgressBar::new(count as u64)
            .with_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} answers, {eta} left")?);
        let mut pipelines = Vec::new();
        for (pipeline, data) in &questions.runs {
            progress.set_message(pipeline.name());
            pipelines.push(
                compare(&agents, &questions.wording, *pipeline, data, &ways, self.specialists, &progress)
                    .with_context(|| format!("pipeline {}", pipeline.name()))?,
            );
        }
        progress.finish_and_clear();
        let report = Report {
            avp: env!("CARGO_PKG_VERSION"),
            model: facts(&model, &self.model.folder),
            seed: self.seed,
            threads: self.model.how.threads,
            pipelines,
        };
        if let Some(html) = &self.html {
            html.write(html::page(&report).as_bytes())?;
        }
        if let Some(json) = &self.json {
            write_json(json, &report)?;
        }
        if self.html == Some(Output::Stdout) {
            return Ok(());
        }
        print_unless_json(self.json.as_ref(), &report)
    }

    /// The pipelines to run, each with its questions.
    fn questions(&self) -> Result<Questions> {
        let named = distinct(&self.pipeline);
        let Some(path) = &self.dataset else {
            let folder = &self.model.folder;
            if folder.is_dir() && !World::is_in(folder) {
                bail!(
                    "questions are made for the embedded model alone: give {} a --dataset",
                    folder.display()
                );
            }
            let world = World::load(folder)?;
            let generate = |kind| Dataset::generate(&world, self.limit, self.seed, kind);
            let pipelines = if named.is_empty() { Pipeline::ALL.to_vec() } else { named };
            let runs = pipelines
                .into_iter()
                .map(|pipeline| {
                    let kind = match pipeline {
                        Pipeline::Reading => Generated::Reading,
                        _ => Generated::Mixed,
                    };
                    Ok((pipeline, generate(kind)?))
                })
                .collect::<Result<_>>()?;
            return Ok(Questions { wording: Wording::World(Box::new(world)), runs });
        };
        let mut data = Dataset::read(path)?;
        let documents = data.has_documents();
        if named.contains(&Pipeline::Reading) && !documents {
            bail!("{} has questions without a context to read: leave `reading` out", path.display());
        }
        data.draw(self.limit, self.seed);
        let all = Pipeline::ALL.into_iter().filter(|pipeline| documents || *pipeline != Pipeline::Reading);
        let pipelines = if named.is_empty() { all.collect() } else { named };
        let runs = pipelines.into_iter().map(|pipeline| (pipeline, data.clone())).collect();
        Ok(Questions { wording: Wording::General, runs })
    }

    fn ways(&self) -> Vec<Way> {
        let ways = distinct(&self.mode).into_iter().flat_map(|mode| match mode {
            Mode::Direct => vec![Way::Direct],
            Mode::Text => vec![Way::Text],
            Mode::Latent => distinct(&self.steps).into_iter().map(|steps| Way::Latent { steps }).collect(),
        });
        ways.collect()
    }
}

/// What is asked, and how.
struct Questions {
    wording: Wording,
    runs: Vec<(Pipeline, Dataset)>,
}

/// Answers every question in every way. Ways take turns on each question, so that a machine whose speed drifts favours none.
fn compare(
    agents: &Agents<'_>,
    wording: &Wording,
    pipeline: Pipeline,
    data: &Dataset,
    ways: &[Way],
    specialists: usize,
    progress: &ProgressBar,
) -> Result<PipelineReport> {
    // What is slow once, such as the first pages of a model, belongs to no mode; it need not fit, either.
    if let Some(task) = data.tasks.first() {
        let _warm = agents.answer(&wording.plan(pipeline, task, specialists), Way::Direct)?;
    }
    let mut tallies: Vec<Tally> = ways.iter().copied().map(Tally::new).collect();
    for task in &data.tasks {
        let plan = wording.plan(pipeline, task, specialists);
        for tally in &mut tallies {
            let outcome = agents.answer(&plan, tally.way()).with_context(|| {
                format!("question {} of {}, {}", task.number, data.name, tally.way().label())
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
