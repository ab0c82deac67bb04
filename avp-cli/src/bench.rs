//! `avp bench`: measurements of hand-overs on any model folder.

use std::{io::Write, num::NonZeroUsize, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use avp_lab::{
    Handed, Mode,
    bench::{self, Loaded, Paragraphs, Pipeline, Questions},
    embedded_model,
};
use avp_runtime_ort::StepForm;
use clap::{
    Args, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;

use crate::{model::RunArgs, output::Output};

/// Measure hand-overs: how well agents answer after them, and how fast they are
#[derive(Subcommand)]
pub(crate) enum Bench {
    Handoff(Box<Handoff>),
    Speed(Speed),
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Handoff(handoff) => handoff.run(),
            Self::Speed(speed) => speed.run(),
        }
    }
}

/// The model to measure.
#[derive(Args)]
struct ModelArgs {
    /// Folder with config.json, tokenizer.json and model.onnx [default: the embedded model]
    #[arg(value_name = "MODEL_DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

impl ModelArgs {
    fn folder(&self) -> Result<PathBuf> {
        self.folder.clone().map_or_else(embedded_model, Ok)
    }
}

/// Compare hand-over with text and with one agent alone, on a data set
///
/// Without --dataset, the embedded model answers questions generated for it. Decoding is greedy, so a run can be repeated.
#[derive(Args)]
pub(crate) struct Handoff {
    #[command(flatten)]
    model: ModelArgs,
    /// Questions: JSON lines or one JSON array, with the fields of GSM8K or HotpotQA
    #[arg(long, value_name = "FILE")]
    dataset: Option<PathBuf>,
    /// Pipelines to run [default: all that the questions allow]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = pipeline())]
    pipeline: Vec<Pipeline>,
    /// Paragraphs of a question that are read: all, or those that its supporting facts name
    #[arg(long, value_name = "WHICH", default_value = "all", requires = "dataset")]
    paragraphs: ParagraphsName,
    /// Modes to compare
    #[arg(long, value_name = "MODES", value_delimiter = ',', default_value = "nothing,direct,text,latent")]
    mode: Vec<ModeName>,
    /// Latent steps of each agent before the last; each number is a mode of its own
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0")]
    steps: Vec<usize>,
    /// Form of the latent steps, as of `think --form`; named several times, each is a mode of its own
    #[arg(long, value_name = "FORM", default_value = "peer")]
    form: Vec<StepForm>,
    /// Where a context ends: in the assistant's opened turn, or behind the turn that was read; each is a mode of its own
    #[arg(long, value_name = "TURNS", value_delimiter = ',', default_value = "open")]
    turn: Vec<Turn>,
    /// Mode with which the others are compared question by question: its label in the table
    #[arg(long, value_name = "LABEL", default_value = "text")]
    against: String,
    /// Keep each answer in FILE as it comes; answers that it has are not computed again
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Agents before the last in a fan-out
    #[arg(long, value_name = "N", default_value_t = 3)]
    specialists: usize,
    /// Number of questions, drawn with the seed
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Seed of the questions
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Most tokens that an agent writes [default: 256; for generated questions 160 for a summary and 24 for an answer]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Write the report as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<Output>,
    /// Write the report as an HTML page with charts; `-` for standard output
    #[arg(long, value_name = "FILE")]
    html: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeName {
    Nothing,
    Direct,
    Text,
    Latent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ParagraphsName {
    All,
    Gold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Turn {
    Open,
    Closed,
}

impl Handoff {
    fn run(&self) -> Result<()> {
        at_least_one("limit", self.limit)?;
        at_least_one("specialists", self.specialists)?;
        ensure!(self.max_tokens != Some(0), "--max-tokens must be at least 1");
        ensure!(
            [&self.json, &self.html].iter().filter(|output| ***output == Some(Output::Stdout)).count() < 2,
            "only one of --json and --html can go to standard output"
        );
        check_folder(self.json.as_ref())?;
        check_folder(self.html.as_ref())?;
        let folder = self.model.folder()?;
        let questions = match &self.dataset {
            Some(path) => {
                let paragraphs = match self.paragraphs {
                    ParagraphsName::All => Paragraphs::All,
                    ParagraphsName::Gold => Paragraphs::Gold,
                };
                Questions::from_file(path, paragraphs, &self.pipeline, self.limit, self.seed)?
            }
            None => Questions::generate(&folder, &self.pipeline, self.limit, self.seed)?,
        };
        let run = &self.model.run;
        let runtime = run.library.runtime()?;
        let model = run.load(&runtime, &folder)?;
        let loaded = Loaded { runtime: &runtime, model: &model, folder: &folder, threads: run.threads };
        let handoff = bench::Handoff {
            modes: self.modes(),
            specialists: self.specialists,
            max_tokens: self.max_tokens,
            keep: self.keep.clone(),
            against: self.against.clone(),
        };
        let report = handoff.run(&loaded, &questions)?;
        if let Some(html) = &self.html {
            html.write(report.html().as_bytes())?;
        }
        if let Some(json) = &self.json {
            write_json(json, &report)?;
        }
        if self.html == Some(Output::Stdout) {
            return Ok(());
        }
        print_unless_json(self.json.as_ref(), &report)
    }

    fn modes(&self) -> Vec<Mode> {
        let modes = self.mode.iter().flat_map(|mode| match mode {
            ModeName::Direct => vec![Mode::Direct],
            ModeName::Text => vec![Mode::Text],
            ModeName::Nothing => vec![Mode::Nothing],
            ModeName::Latent => self.latent(),
        });
        modes.collect()
    }

    /// Every combination of where a context ends, steps and form; without steps the forms are one.
    fn latent(&self) -> Vec<Mode> {
        let closed = self.turn.iter().map(|turn| *turn == Turn::Closed);
        let modes = closed.flat_map(|closed| {
            self.steps.iter().flat_map(move |&steps| {
                let forms = if steps == 0 { &[StepForm::Peer][..] } else { &self.form };
                forms.iter().map(move |&form| Mode::Latent(Handed { steps, form, closed }))
            })
        });
        modes.collect()
    }
}

/// Measure reading, latent steps, decoding and handing over at growing lengths
///
/// Every figure is a median of repeated runs.
#[derive(Args)]
pub(crate) struct Speed {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of context; those beyond the model's window are left out and named
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "128,512,1024,2048,4096,8192")]
    lengths: Vec<usize>,
    /// Latent steps, and decoded tokens, over which the time of one is averaged
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,
    /// Runs of each measurement
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeats: usize,
    /// Write the report as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<Output>,
}

impl Speed {
    fn run(&self) -> Result<()> {
        let speed = bench::Speed {
            lengths: self
                .lengths
                .iter()
                .map(|&length| at_least_one("lengths", length))
                .collect::<Result<_>>()?,
            steps: at_least_one("steps", self.steps)?,
            repeats: at_least_one("repeats", self.repeats)?,
        };
        check_folder(self.json.as_ref())?;
        let folder = self.model.folder()?;
        let run = &self.model.run;
        let runtime = run.library.runtime()?;
        let model = run.load(&runtime, &folder)?;
        let loaded = Loaded { runtime: &runtime, model: &model, folder: &folder, threads: run.threads };
        let report = speed.run(&loaded)?;
        if let Some(json) = &self.json {
            write_json(json, &report)?;
        }
        print_unless_json(self.json.as_ref(), &report)
    }
}

fn pipeline() -> impl TypedValueParser<Value = Pipeline> {
    PossibleValuesParser::new(Pipeline::ALL.map(Pipeline::name)).try_map(|name| {
        let named = Pipeline::ALL.into_iter().find(|pipeline| pipeline.name() == name);
        named.ok_or("not a pipeline")
    })
}

/// Fails before the measurements if a report could not be written after them.
fn check_folder(output: Option<&Output>) -> Result<()> {
    // Text may go to a terminal, so only a file has anything to check.
    output.filter(|output| matches!(output, Output::File(_))).map_or(Ok(()), Output::check)
}

fn write_json(output: &Output, report: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    output.write(&json)
}

/// Prints the report as text, unless standard output has the JSON.
fn print_unless_json(json: Option<&Output>, report: &impl std::fmt::Display) -> Result<()> {
    if json != Some(&Output::Stdout) {
        write!(std::io::stdout().lock(), "{report}")?;
    }
    Ok(())
}

fn at_least_one(name: &str, value: usize) -> Result<NonZeroUsize> {
    NonZeroUsize::new(value).with_context(|| format!("--{name} must be at least 1"))
}
