//! `avp bench speed`: what reading, thinking, writing and handing over take, at growing lengths.

use std::{
    fmt,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use avp_runtime_ort::{Context, FrameOptions, FrameReadOptions, GenerateOptions, Model, Prompt, Runtime};
use clap::Args;
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    EMBEDDED_MODEL, at_least_one, check_folder, distinct, median,
    memory::Peak,
    print_unless_json,
    report::{bytes, write_table},
    write_json,
};
use crate::{model::ModelArgs, output::Output};

/// Measure reading, thinking, writing and handing over at growing lengths
///
/// Every figure is a median of repeated runs.
#[derive(Args)]
#[command(mut_arg("folder", |folder| folder.required(false).default_value(EMBEDDED_MODEL)))]
pub(crate) struct Speed {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of context; those beyond the model's window are left out, and named
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "128,512,1024,2048,4096,8192")]
    lengths: Vec<usize>,
    /// Latent steps, and decoded tokens, that a step's time is taken over
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,
    /// Runs of each measurement
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeats: usize,
    /// Write the report as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<Output>,
}

#[derive(Serialize)]
struct Report {
    avp: &'static str,
    model: String,
    threads: usize,
    window: usize,
    repeats: usize,
    lengths: Vec<Length>,
    skipped: Vec<Skipped>,
}

/// One length, in milliseconds and bytes.
#[derive(Serialize)]
struct Length {
    /// Tokens asked for.
    length: usize,
    /// Tokens the prompt really has: text comes in whole words.
    tokens: usize,
    prefill_ms: f64,
    latent_step_ms: f64,
    /// `None` where the model ended its turn before a second token.
    decode_token_ms: Option<f64>,
    frame_bytes: usize,
    export_ms: f64,
    import_ms: f64,
    /// Copying as many bytes once, into memory that is there.
    memcpy_ms: f64,
    /// Copying as many bytes once, into memory that the system gives anew, as an export and what is received need it.
    memcpy_new_ms: f64,
    /// Time to the first token of an answer behind the received context, import included.
    received_first_token_ms: f64,
    /// The same where the text is read instead.
    prefilled_first_token_ms: f64,
    /// Most memory that export and import together held beside the context, over the size of its cache; `None` where the
    /// system keeps no account, or the cache is smaller than what allocators keep for later.
    peak_memory: Option<f64>,
}

#[derive(Serialize)]
struct Skipped {
    length: usize,
    reason: String,
}

/// What the question behind a context is.
const TAIL: &str = " and";
/// What the context is made of.
const WORD: &str = " the";

impl Speed {
    pub(crate) fn run(&self) -> Result<()> {
        at_least_one("repeats", self.repeats)?;
        at_least_one("steps", self.steps)?;
        ensure!(!self.lengths.contains(&0), "--lengths must be at least 1");
        check_folder(self.json.as_ref())?;
        let runtime = self.model.runtime()?;
        let model = self.model.load(&runtime)?;
        let lengths = distinct(&self.lengths);
        let progress = ProgressBar::new(lengths.len() as u64)
            .with_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} lengths")?);
        let mut report = Report {
            avp: env!("CARGO_PKG_VERSION"),
            model: self.model.folder.display().to_string(),
            threads: self.model.how.threads,
            window: model.window(),
            repeats: self.repeats,
            lengths: Vec::new(),
            skipped: Vec::new(),
        };
        let bench = Measured { runtime: &runtime, model: &model, repeats: self.repeats, steps: self.steps };
        // The model's pages, and ONNX Runtime's first allocations.
        model.think(raw(WORD), 1, None)?;
        let tail = model.tokenize(&raw(TAIL))?.len();
        for length in lengths {
            progress.set_message(format!("{length} tokens"));
            let needed = length + tail + self.steps;
            if needed > model.window() {
                let reason = format!("takes {needed} tokens; the window is {}", model.window());
                report.skipped.push(Skipped { length, reason });
            } else {
                report.lengths.push(bench.at(length)?);
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        if let Some(json) = &self.json {
            write_json(json, &report)?;
        }
        print_unless_json(self.json.as_ref(), &report)
    }
}

struct Measured<'m> {
    runtime: &'m Runtime,
    model: &'m Model,
    repeats: usize,
    steps: usize,
}

impl Measured<'_> {
    fn at(&self, length: usize) -> Result<Length> {
        let text = text_of(self.model, length)?;
        let tokens = self.model.tokenize(&raw(&text))?.len();
        let think =
            |steps, context: Option<&Context>, text: &str| self.model.think(raw(text), steps, context);
        let context = think(0, None, &text)?;
        let prefill_ms = self.median(|| timed(|| think(0, None, &text)))?;
        // The same call with and without the steps: what is left is the steps alone.
        let latent_step_ms = self.median(|| {
            let with = timed(|| think(self.steps, Some(&context), TAIL))?;
            let without = timed(|| think(0, Some(&context), TAIL))?;
            Ok(with.saturating_sub(without) / self.steps as u32)
        })?;
        let options = GenerateOptions { max_tokens: self.steps + 1, ..GenerateOptions::default() };
        let mut decoded = Vec::new();
        for _ in 0..self.repeats {
            let answer = self.model.generate(raw(TAIL), Some(&context), &options)?;
            if let Some(steps @ 1..) = answer.tokens.len().checked_sub(1) {
                let time = answer.total_time.saturating_sub(answer.first_token_time);
                decoded.push(time.as_secs_f64() * 1e3 / steps as f64);
            }
        }

        let frame = context.to_bytes(&FrameOptions::default())?;
        let receive = || Context::from_bytes(self.runtime, frame.clone(), &FrameReadOptions::default());
        let export_ms = self.median(|| timed(|| context.to_bytes(&FrameOptions::default())))?;
        let import_ms = self.median(|| timed(receive))?;
        let mut copy = frame.to_vec();
        let memcpy_ms = self.median(|| {
            let start = Instant::now();
            copy.copy_from_slice(black_box(&frame));
            black_box(&mut copy);
            Ok(start.elapsed())
        })?;
        drop(copy);
        let memcpy_new_ms = self.median(|| timed(|| Ok::<_, anyhow::Error>(black_box(&frame).to_vec())))?;

        let one = GenerateOptions { max_tokens: 1, ..GenerateOptions::default() };
        let received_first_token_ms = self.median(|| {
            let start = Instant::now();
            let received = receive()?;
            let imported = start.elapsed();
            Ok(imported + self.model.generate(raw(TAIL), Some(&received), &one)?.first_token_time)
        })?;
        let whole = format!("{text}{TAIL}");
        let prefilled_first_token_ms =
            self.median(|| Ok(self.model.generate(raw(&whole), None, &one)?.first_token_time))?;
        let frame_bytes = frame.len();
        drop(frame);
        let layout = context.cache_layout();
        let elements = 2 * layout.num_layers * layout.num_kv_heads * context.seq_len() * layout.head_dim;
        let cache = elements * layout.dtype.size();
        Ok(Length {
            length,
            tokens,
            prefill_ms,
            latent_step_ms,
            decode_token_ms: median(decoded).map(rounded),
            frame_bytes,
            export_ms,
            import_ms,
            memcpy_ms,
            memcpy_new_ms,
            received_first_token_ms,
            prefilled_first_token_ms,
            peak_memory: self.peak(&context, cache)?.map(|peak| rounded(peak as f64 / cache as f64)),
        })
    }

    /// The median in milliseconds.
    fn median(&self, mut work: impl FnMut() -> Result<Duration>) -> Result<f64> {
        let times = (0..self.repeats).map(|_| Ok(work()?.as_secs_f64() * 1e3)).collect::<Result<Vec<_>>>()?;
        Ok(rounded(median(times).unwrap_or(0.0)))
    }

    fn peak(&self, context: &Context, cache: usize) -> Result<Option<u64>> {
        /// Below it, memory that earlier runs have freed and the allocator has kept would hide most of it.
        const SMALLEST: usize = 64 << 20;
        if cache < SMALLEST {
            return Ok(None);
        }
        let Some(watch) = Peak::watch() else { return Ok(None) };
        let frame = context.to_bytes(&FrameOptions::default())?;
        let received = Context::from_bytes(self.runtime, frame.clone(), &FrameReadOptions::default())?;
        let peak = watch.bytes();
        drop(black_box((frame, received)));
        Ok(peak)
    }
}

/// A text of at most `length` tokens, and as few less as whole words allow.
fn text_of(model: &Model, length: usize) -> Result<String> {
    let count = |words: usize| Ok::<_, anyhow::Error>(model.tokenize(&raw(&WORD.repeat(words)))?.len());
    // One word is at least one token, so the answer lies between one word and as many words as tokens.
    let (mut fits, mut over) = (1, length + 1);
    while over - fits > 1 {
        let middle = fits.midpoint(over);
        if count(middle)? <= length { fits = middle } else { over = middle }
    }
    Ok(WORD.repeat(fits))
}

fn timed<T, E: Into<anyhow::Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<Duration> {
    let start = Instant::now();
    black_box(work().map_err(Into::into)?);
    Ok(start.elapsed())
}

fn raw(text: &str) -> Prompt {
    Prompt::Raw(text.to_owned())
}

/// Microseconds are as fine as these clocks are worth.
fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

const HEADER: [&str; 12] = [
    "tokens",
    "prefill",
    "latent step",
    "decode",
    "frame",
    "export",
    "import",
    "of memcpy",
    "into new memory",
    "first token, received",
    "first token, prefilled",
    "peak memory",
];

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = format!("{}, medians of {}", self.model, self.repeats);
        writeln!(formatter, "{}\n", style(heading).bold())?;
        let ms = |value: f64| format!("{value:.2} ms");
        let rows: Vec<[String; 12]> = self
            .lengths
            .iter()
            .map(|length| {
                // Two copies are made, out of the cache and into one.
                let both = length.export_ms + length.import_ms;
                let share = |copy: f64| format!("{:.0} %", 200.0 * copy / both);
                [
                    length.tokens.to_string(),
                    ms(length.prefill_ms),
                    ms(length.latent_step_ms),
                    length.decode_token_ms.map_or_else(|| "none".to_owned(), ms),
                    bytes(length.frame_bytes as f64),
                    ms(length.export_ms),
                    ms(length.import_ms),
                    share(length.memcpy_ms),
                    share(length.memcpy_new_ms),
                    ms(length.received_first_token_ms),
                    ms(length.prefilled_first_token_ms),
                    length.peak_memory.map_or_else(|| "unknown".to_owned(), |peak| format!("{peak:.2}x")),
                ]
            })
            .collect();
        write_table(formatter, &HEADER, &rows)?;
        for Skipped { length, reason } in &self.skipped {
            writeln!(formatter, "{length} tokens: left out, {reason}")?;
        }
        writeln!(
            formatter,
            "\nof memcpy: two copies of the frame's bytes, into memory that is there and into new memory, against export \
             and import;\npeak memory: what export and import held beside the context, over its cache's size, unknown \
             below 64 MiB; decode:\nnone where the model ended its turn at once"
        )
    }
}
