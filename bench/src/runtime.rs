//! `cargo xtask bench runtime`: latent steps, decoding and handing over, beside the Python peer and beside ONNX Runtime alone.
//!
//! All run with the same weights and number of threads in one run of this program. Partners are processes that take turns, round by
//! round, so that a change of the machine's speed affects all alike.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    runtime_ours,
    runtime_partner::{Partner, Steps, Work},
    table::{Table, percent, rate, time, times},
    timing::median,
};

/// The models and interpreters of the benchmark.
pub(crate) struct Settings {
    /// Folder with `torch`, `onnx` and optionally `int4`, as `tools/shapes` makes them.
    models: PathBuf,
    python: PathBuf,
    threads: usize,
}

/// Tokens of the context before the measured steps.
pub(crate) const TOKENS: usize = 1024;
/// Consecutive latent steps, and decoded tokens.
pub(crate) const STEPS: usize = 20;
/// Rounds in which partners take turns, and rounds of work that does not read the prompt again.
const ROUNDS: usize = 3;
const STEP_ROUNDS: usize = 9;

/// The variables that `cargo xtask bench runtime` sets.
const MODELS: &str = "AVP_BENCH_MODELS";
const PYTHON: &str = "AVP_BENCH_PYTHON";

impl Settings {
    /// # Errors
    /// When a variable that `cargo xtask bench runtime` sets is missing.
    pub(crate) fn from_env() -> Result<Self> {
        let set = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set; run this as `cargo xtask bench runtime`"))
        };
        let threads = std::thread::available_parallelism()?.get();
        Ok(Self { models: set(MODELS)?, python: set(PYTHON)?, threads })
    }
}

/// Measures and prints the tables.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    let full = settings.models.join("onnx");
    ensure!(full.is_dir(), "no model in {}; run this as `cargo xtask bench runtime`", full.display());
    let scratch = tempfile::tempdir().context("cannot make a folder for prepared graphs")?;
    let int4 = Some(settings.models.join("int4")).filter(|folder| folder.is_dir());

    let against_ort = Step::rows(settings, scratch.path(), &full, "fp32")?;
    let mut steps = Table::new(
        format!("One step behind {TOKENS} tokens, against ONNX Runtime's own run of it"),
        &[
            "step",
            "weights",
            "ONNX Runtime's runs",
            "we take",
            "of its speed",
            "of ours, inside ONNX Runtime",
            "one run over and over",
            "of its speed",
        ],
    );
    steps.rows(against_ort.iter().map(Step::row));
    // An export that the runtime cannot load is a finding, not the end of the measuring.
    let mut refused = None;
    if let Some(folder) = &int4 {
        match Step::rows(settings, scratch.path(), folder, "int4") {
            Ok(rows) => steps.rows(rows.iter().map(Step::row)),
            Err(error) => refused = Some(format!("int4: {error:#}")),
        }
    }
    println!("{steps}");

    let int4 = int4.filter(|_| refused.is_none());
    println!("{}", against_avp(settings, scratch.path(), &full, int4.as_deref())?);
    println!("{}", handovers(settings, scratch.path(), &full)?);
    if let Some(refused) = refused {
        println!("Left out: {refused}");
    }
    Ok(())
}

/// One kind of step: this library beside bare runs of ONNX Runtime.
struct Step {
    work: Work,
    weights: &'static str,
    /// Seconds of bare ONNX Runtime, each step after the one before.
    grown: f64,
    /// Seconds of bare ONNX Runtime, repeating one step.
    repeated: f64,
    /// Seconds of a step in this library.
    ours: f64,
    /// The part of them inside ONNX Runtime, in the same process.
    inside: f64,
    /// Medians over the rounds, in each of which all three were measured.
    of_grown: f64,
    of_repeated: f64,
}

impl Step {
    /// Both kinds of step at one export: a latent step of the prepared graph, and a decoded token of the original graph.
    fn rows(settings: &Settings, scratch: &Path, folder: &Path, weights: &'static str) -> Result<Vec<Self>> {
        let cache = scratch.join(weights);
        let mut ours = runtime_ours::start(folder, &cache, settings.threads)?;
        let prepared = scratch.join(format!("{weights}.onnx"));
        runtime_ours::extract_graph(&cache, &prepared)?;
        let export = folder.join("model.onnx");
        [(Work::Latent, prepared), (Work::Decode, export)]
            .into_iter()
            .map(|(work, graph)| {
                let start = |steps| {
                    let shared = weights == "int4";
                    Partner::ort(&settings.python, &graph, folder, settings.threads, shared, steps)
                };
                let (mut grown, mut repeated) = (start(Steps::Grown)?, start(Steps::Repeated)?);
                let mut rounds = Vec::new();
                for _ in 0..STEP_ROUNDS {
                    let grown = grown.ask(work.name())?.number("seconds")?;
                    let step = ours.ask(work.step())?;
                    let (own, inside) = (step.number("seconds")?, step.number("inside")?);
                    rounds.push([grown, own, repeated.ask(work.name())?.number("seconds")?, inside / own]);
                }
                let middle = |of: fn(&[f64; 4]) -> f64| median(rounds.iter().map(of).collect());
                Ok(Self {
                    work,
                    weights,
                    grown: middle(|[grown, ..]| *grown),
                    ours: middle(|[_, own, ..]| *own),
                    inside: middle(|[.., inside]| *inside),
                    repeated: middle(|[_, _, repeated, _]| *repeated),
                    of_grown: middle(|[grown, own, ..]| grown / own),
                    of_repeated: middle(|[_, own, repeated, _]| repeated / own),
                })
            })
            .collect()
    }

    fn row(&self) -> Vec<String> {
        let work = match self.work {
            Work::Latent => "latent step",
            Work::Decode => "decoded token",
        };
        vec![
            work.to_owned(),
            self.weights.to_owned(),
            time(self.grown),
            time(self.ours),
            percent(self.of_grown),
            format!("{:.2} %", 100.0 * self.inside),
            time(self.repeated),
            percent(self.of_repeated),
        ]
    }
}

/// Prefill, latent steps and decoding beside the Python package, in float32, and with our int4 export.
fn against_avp(settings: &Settings, scratch: &Path, full: &Path, int4: Option<&Path>) -> Result<Table> {
    let mut table = Table::new(
        format!("Against avp 0.2.1's HuggingFace connector: fp32 on {} threads", settings.threads),
        &["work", "avp takes", "our weights", "we take", "ratio"],
    );
    let mut avp = Partner::avp(&settings.python, &settings.models.join("torch"), settings.threads)?;
    let mut ours = vec![("fp32", runtime_ours::start(full, &scratch.join("fp32"), settings.threads)?)];
    if let Some(folder) = int4 {
        ours.push(("int4", runtime_ours::start(folder, &scratch.join("int4"), settings.threads)?));
    }
    let mut theirs = Times::default();
    let mut own: Vec<Times> = ours.iter().map(|_| Times::default()).collect();
    for _ in 0..ROUNDS {
        theirs.take(&mut avp)?;
        for (partner, times) in ours.iter_mut().map(|(_, partner)| partner).zip(&mut own) {
            times.take(partner)?;
        }
    }
    let works =
        [format!("read {TOKENS} tokens"), format!("{STEPS} latent steps"), format!("{STEPS} decoded tokens")];
    for (index, work) in works.iter().enumerate() {
        let theirs = median(theirs.0[index].clone());
        for ((weights, _), own) in ours.iter().zip(&own) {
            let own = median(own.0[index].clone());
            table.row([work.clone(), time(theirs), (*weights).to_owned(), time(own), times(theirs / own)]);
        }
    }
    Ok(table)
}

/// One partner's rounds, in seconds: reading, latent steps, decoding.
#[derive(Default)]
struct Times([Vec<f64>; 3]);

impl Times {
    fn take(&mut self, partner: &mut Partner) -> Result<()> {
        let latent = partner.ask(Work::Latent.name())?;
        let tokens = latent.number("tokens")?;
        ensure!(tokens == TOKENS as f64, "expected a prompt of {TOKENS} tokens, got {tokens}");
        let decode = partner.ask(Work::Decode.name())?;
        let found = [latent.number("prefill")?, latent.number("rest")?, decode.number("rest")?];
        for (times, found) in self.0.iter_mut().zip(found) {
            times.push(found);
        }
        Ok(())
    }
}

/// The costs and savings of handing the context over.
fn handovers(settings: &Settings, scratch: &Path, full: &Path) -> Result<Table> {
    let mut ours = runtime_ours::start(full, &scratch.join("fp32"), settings.threads)?;
    let found = ours.ask("handover")?;
    let frame = scratch.join("context.avp");
    ours.ask(&format!("frame {}", frame.display()))?;
    drop(ours);
    let memory = runtime_ours::memory(&frame)?;

    let bytes = found.number("bytes")? as usize;
    let mut table = Table::new(
        format!("Handing {TOKENS} tokens over: a frame of {:.1} MB, fp32", bytes as f64 / 1e6),
        &["work", "takes", "yardstick", "yardstick takes", "ratio"],
    );
    let (received, prefilled) = (found.number("received")?, found.number("prefilled")?);
    table.row([
        "first token behind a received context".to_owned(),
        time(received),
        "reading the same text".to_owned(),
        time(prefilled),
        times(prefilled / received),
    ]);
    let both = found.number("export")? + found.number("import")?;
    for (yardstick, key) in
        [("two memcpys into memory that is there", "memcpy"), ("two memcpys into new memory", "memcpy_new")]
    {
        let copies = 2.0 * found.number(key)?;
        table.row([
            format!("export and import, {} together", rate(2 * bytes, both)),
            time(both),
            yardstick.to_owned(),
            time(copies),
            percent(copies / both),
        ]);
    }
    for (work, key) in [("export", "export"), ("import", "import")] {
        let takes = found.number(key)?;
        let copy = found.number("memcpy_new")?;
        table.row([
            work.to_owned(),
            time(takes),
            "one memcpy into new memory".to_owned(),
            time(copy),
            percent(copy / takes),
        ]);
    }
    let (peak, cache) = (memory.number("peak")?, memory.number("cache")?);
    table.row([
        "most memory held beside the context".to_owned(),
        format!("{:.1} MB", peak / 1e6),
        "its KV-cache".to_owned(),
        format!("{:.1} MB", cache / 1e6),
        format!("{:.2}x", peak / cache),
    ]);
    Ok(table)
}
