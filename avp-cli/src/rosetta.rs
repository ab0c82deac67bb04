//! `avp rosetta`: projection maps from the hidden states of one model to the input space of another.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use avp_core::Mode;
use avp_rosetta::{AvpMap, CalibrateOptions, MapFolder, MapModel, Method, Rosetta, ValidateOptions};
use avp_runtime_ort::{Dtype, GenerateOptions, LoadOptions, Model, ThinkOptions};
use clap::{Args, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser};
use serde_json::json;

use crate::{
    exit_code,
    model::LibraryArgs,
    output::{Input, Output},
};

/// Hand over from one model to another, through a projection map
///
/// Maps are saved in AVP_MAP_DIR, else in `maps` of the cache folder. For a pair without a saved map, one is made through the
/// tokens that both models have.
#[derive(Subcommand)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) enum RosettaCommand {
    /// Make a map, save it, and print its path
    Calibrate(Calibrate),
    /// Measure a map on a few texts; the exit code is 1 if text is the better choice
    Validate(Validate),
    /// Print the metadata of a map
    Show(Show),
    /// Read a prompt with one model and answer with another
    Generate(Generate),
}

impl RosettaCommand {
    pub(crate) fn run(&self) -> ExitCode {
        exit_code(match self {
            Self::Calibrate(calibrate) => calibrate.run().map(|()| true),
            Self::Validate(validate) => validate.run(),
            Self::Show(show) => show.run().map(|()| true),
            Self::Generate(generate) => generate.run().map(|()| true),
        })
    }
}

/// The two models.
#[derive(Args)]
struct Pair {
    /// Folder of the model that reads the prompt
    #[arg(value_name = "SOURCE_DIR")]
    source: PathBuf,
    /// Folder of the model that answers
    #[arg(value_name = "TARGET_DIR")]
    target: PathBuf,
    /// Variant of the source, if its folder holds several
    #[arg(long, value_name = "DTYPE")]
    source_dtype: Option<Dtype>,
    /// Variant of the target, if its folder holds several
    #[arg(long, value_name = "DTYPE")]
    target_dtype: Option<Dtype>,
    #[command(flatten)]
    library: LibraryArgs,
    /// Threads of one run, at most one for each core; 0 uses all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

impl Pair {
    fn load(&self) -> Result<(Model, Model)> {
        let runtime = self.library.runtime()?;
        let load = |folder: &Path, dtype| {
            let options = LoadOptions { threads: self.threads, dtype, ..LoadOptions::default() };
            Model::load(&runtime, folder, &options).with_context(|| folder.display().to_string())
        };
        Ok((load(&self.source, self.source_dtype)?, load(&self.target, self.target_dtype)?))
    }

    /// Both models with the map in `file`, else with their saved map, else with a new one.
    fn with_map(&self, file: Option<&Input>) -> Result<Rosetta> {
        let (source, target) = self.load()?;
        Ok(match file {
            Some(file) => Rosetta::with_map(&source, &target, read_map(file)?)?,
            None => Rosetta::between(&source, &target)?,
        })
    }
}

#[derive(Args)]
pub(crate) struct Calibrate {
    #[command(flatten)]
    pair: Pair,
    /// Method [default: through the tokens that both models have]; ridge and procrustes learn from texts
    #[arg(long, value_name = "METHOD", value_parser = method_parser())]
    method: Option<Method>,
    /// Texts to learn from, one per line [default: 100 short sentences]
    #[arg(long, value_name = "FILE")]
    anchors: Option<Input>,
    /// Regularisation of the ridge regression
    #[arg(long, value_name = "X", default_value_t = CalibrateOptions::default().lambda)]
    lambda: f64,
    /// File to write instead of saving in the map folder; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<Output>,
}

impl Calibrate {
    fn run(&self) -> Result<()> {
        if let Some(output) = &self.output {
            output.check()?;
        }
        let mut options =
            CalibrateOptions { method: self.method, lambda: self.lambda, ..CalibrateOptions::default() };
        if let Some(anchors) = &self.anchors {
            options.anchors = read_lines(anchors)?;
        }
        let (source, target) = self.pair.load()?;
        let rosetta = Rosetta::calibrate(&source, &target, &options)?;
        match &self.output {
            Some(output) => output.write(&rosetta.map().to_bytes()?)?,
            None => writeln!(stdout(), "{}", MapFolder::from_env()?.save(rosetta.map())?.display())?,
        }
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    pair: Pair,
    /// Map to measure
    #[arg(long, value_name = "FILE")]
    map: Option<Input>,
    /// Texts to measure on, one per line [default: 5 short texts]
    #[arg(long, value_name = "FILE")]
    texts: Option<Input>,
    /// Mean cosine similarity below which text is the better choice
    #[arg(long, value_name = "X", default_value_t = ValidateOptions::default().cosine_threshold)]
    cosine: f32,
    /// Perplexity above which text is the better choice
    #[arg(long, value_name = "X", default_value_t = ValidateOptions::default().max_perplexity)]
    perplexity: f32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Validate {
    fn run(&self) -> Result<bool> {
        let mut options = ValidateOptions {
            cosine_threshold: self.cosine,
            max_perplexity: self.perplexity,
            ..ValidateOptions::default()
        };
        if let Some(texts) = &self.texts {
            options.texts = read_lines(texts)?;
        }
        let found = self.pair.with_map(self.map.as_ref())?.validate(&options)?;
        if self.json {
            let object = json!({
                "cosine_similarity": found.cosine_similarity,
                "perplexity": found.perplexity,
                "recommended_mode": found.recommended_mode.as_str(),
                "detail": found.detail,
            });
            writeln!(stdout(), "{object}")?;
        } else {
            writeln!(stdout(), "{}", found.detail)?;
        }
        Ok(found.recommended_mode == Mode::Latent)
    }
}

#[derive(Args)]
pub(crate) struct Show {
    /// Map; `-` for standard input
    #[arg(value_name = "FILE")]
    map: Input,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(&self) -> Result<()> {
        let map = read_map(&self.map)?;
        let mut out = stdout().lock();
        if self.json {
            let end = |model: &MapModel| {
                json!({
                    "model_id": model.model_id,
                    "model_hash": model.model_hash,
                    "tokenizer_hash": model.tokenizer_hash,
                    "hidden_dim": model.hidden_dim,
                })
            };
            let object = json!({
                "avp_map_id": map.id().to_string(),
                "method": map.method().as_str(),
                "source": end(&map.source),
                "target": end(&map.target),
                "target_norm": map.target_norm,
                "anchor_count": map.anchor_count,
                "validation_score": map.validation_score,
                "overlap_count": map.overlap_count(),
            });
            writeln!(out, "{object}")?;
            return Ok(());
        }
        writeln!(out, "{}, {}", map.id(), map.method())?;
        for (end, model) in [("source", &map.source), ("target", &map.target)] {
            let name = if model.model_id.is_empty() { &model.model_hash } else { &model.model_id };
            writeln!(out, "{end}: {name}, width {}", model.hidden_dim)?;
        }
        match map.method() {
            Method::VocabMediated => writeln!(out, "through the vocabulary of both")?,
            Method::VocabOverlap => writeln!(
                out,
                "through {} tokens of both, {:.1} % of the smaller vocabulary",
                map.overlap_count(),
                map.validation_score * 100.
            )?,
            Method::Ridge | Method::Procrustes => writeln!(
                out,
                "learned from {} texts, cosine similarity {:.3} on held-out texts",
                map.anchor_count, map.validation_score
            )?,
        }
        writeln!(out, "scaled to norm {}", map.target_norm)?;
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pair: Pair,
    /// Text of a user message for the source
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Text of a user message for the target [default: the prompt]
    #[arg(long, value_name = "TEXT")]
    question: Option<String>,
    /// Latent steps of the source
    #[arg(long, value_name = "N", default_value_t = 0)]
    steps: usize,
    /// Map to use
    #[arg(long, value_name = "FILE")]
    map: Option<Input>,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_tokens: usize,
    /// 0 takes the most likely token; above 0 samples, and higher values flatten the distribution
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Seed of the sampling
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl Generate {
    fn run(&self) -> Result<()> {
        let rosetta = self.pair.with_map(self.map.as_ref())?;
        let options = ThinkOptions::steps(self.steps);
        let thought = rosetta.source().think(self.prompt.as_str(), None, &options)?.into_context()?;
        let transfer = rosetta.transfer(&thought)?;
        if !transfer.quality.recommend_latent {
            eprintln!("avp: text may be the better choice: {}", transfer.quality.reason);
        }
        let options = GenerateOptions {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            seed: self.seed,
            ..GenerateOptions::default()
        };
        let question = self.question.as_deref().unwrap_or(&self.prompt);
        let mut out = stdout().lock();
        for piece in rosetta.target().start_generate(question, Some(&transfer.context), &options)? {
            out.write_all(piece?.as_bytes())?;
            out.flush()?;
        }
        Ok(writeln!(out)?)
    }
}

fn method_parser() -> impl TypedValueParser<Value = Method> {
    PossibleValuesParser::new(["vocab_mediated", "vocab_overlap", "ridge", "procrustes"])
        .try_map(|name| Method::from_name(&name).ok_or("not a method"))
}

fn read_map(file: &Input) -> Result<AvpMap> {
    AvpMap::from_bytes(&file.read()?).with_context(|| file.name())
}

/// The lines of a file that are not blank.
fn read_lines(file: &Input) -> Result<Vec<String>> {
    let text = String::from_utf8(file.read()?).with_context(|| file.name())?;
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        bail!("{}: the file has no text", file.name());
    }
    Ok(lines)
}
