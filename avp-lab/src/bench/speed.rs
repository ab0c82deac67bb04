//! What reading, latent steps, decoding and handing over take, at growing lengths.

use std::{
    fmt,
    hint::black_box,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use anyhow::Result;
use avp_runtime_ort::{
    Context, FrameOptions, FrameReadOptions, GenerateOptions, Model, Prompt, Runtime, ThinkOptions,
};
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Loaded, distinct, memory::Peak};
use crate::{
    statistics::{median, rounded},
    table::{bytes, write_table},
};

/// Measures reading, latent steps, decoding and handing over at growing lengths; every figure is a median.
///
/// ```no_run
/// use avp_lab::bench::{Loaded, Speed};
/// use avp_runtime_ort::{LoadOptions, Model, Runtime};
///
/// let folder = std::path::Path::new("models/facts");
/// let runtime = Runtime::find()?;
/// let model = Model::load(&runtime, folder, &LoadOptions::default())?;
/// let loaded = Loaded { runtime: &runtime, model: &model, folder, threads: 0 };
/// let speed = Speed { lengths: vec![128_usize.try_into()?, 512_usize.try_into()?], steps: 8_usize.try_into()?, repeats: 3_usize.try_into()? };
/// println!("{}", speed.run(&loaded)?);
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Speed {
    /// Lengths of the context in tokens; those beyond the model's window are left out and named in the report.
    pub lengths: Vec<NonZeroUsize>,
    /// Latent steps, and decoded tokens, over which the time of one is averaged.
    pub steps: NonZeroUsize,
    /// Runs of each measurement.
    pub repeats: NonZeroUsize,
}

/// The figures of [`Speed`]: `Display` prints a table, `Serialize` every figure.
#[derive(Serialize)]
pub struct Report {
    avp: &'static str,
    model: String,
    threads: usize,
    window: usize,
    repeats: usize,
    lengths: Vec<Length>,
    skipped: Vec<Skipped>,
}

/// The figures at one length.
#[derive(Serialize)]
struct Length {
    /// Requested tokens.
    length: usize,
    /// Tokens of the prompt, which has whole words only.
    tokens: usize,
    prefill_ms: f64,
    latent_step_ms: f64,
    /// `None` if the model ended its turn before a second token.
    decode_token_ms: Option<f64>,
    frame_bytes: usize,
    export_ms: f64,
    import_ms: f64,
    /// Copying the same number of bytes once, into allocated memory.
    memcpy_ms: f64,
    /// Copying the same number of bytes once, into newly allocated memory, as export and import need it.
    memcpy_new_ms: f64,
    /// Time to the first token of an answer after the received context, import included.
    received_first_token_ms: f64,
    /// The same after reading the text instead.
    prefilled_first_token_ms: f64,
    /// Peak memory of export and import together beside the context, divided by the size of its cache; `None` if the system does
    /// not report it, or the cache is too small to measure.
    peak_memory: Option<f64>,
}

#[derive(Serialize)]
struct Skipped {
    length: usize,
    reason: String,
}

/// The question after a context.
const TAIL: &str = " and";
/// The word that a context repeats.
const WORD: &str = " the";

impl Speed {
    /// Runs the measurements. A progress bar goes to standard error if that is a terminal.
    ///
    /// # Errors
    /// When the model fails.
    pub fn run(&self, loaded: &Loaded<'_>) -> Result<Report> {
        let model = loaded.model;
        let (steps, repeats) = (self.steps.get(), self.repeats.get());
        let lengths = distinct(&self.lengths);
        let progress = ProgressBar::new(lengths.len() as u64)
            .with_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} lengths")?);
        let mut report = Report {
            avp: env!("CARGO_PKG_VERSION"),
            model: loaded.folder.display().to_string(),
            threads: loaded.threads,
            window: model.window(),
            repeats,
            lengths: Vec::new(),
            skipped: Vec::new(),
        };
        let bench = Measured { runtime: loaded.runtime, model, repeats, steps };
        // A warm-up for the pages of the model and the first allocations of ONNX Runtime.
        model.think(raw(WORD), None, &ThinkOptions::steps(1))?;
        let tail = model.tokenize(&raw(TAIL))?.len();
        for length in lengths.into_iter().map(NonZeroUsize::get) {
            progress.set_message(format!("{length} tokens"));
            let needed = length.saturating_add(tail).saturating_add(steps);
            if needed > model.window() {
                let reason = format!("takes {needed} tokens; the window is {}", model.window());
                report.skipped.push(Skipped { length, reason });
            } else {
                report.lengths.push(bench.at(length)?);
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(report)
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
        let think = |steps, context: Option<&Context>, text: &str| {
            self.model.think(raw(text), context, &ThinkOptions::steps(steps))?.into_context()
        };
        let context = think(0, None, &text)?;
        let prefill_ms = self.median(|| timed(|| think(0, None, &text)))?;
        // The same call with and without the steps: the difference is the time of the steps.
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
        /// For a smaller cache, memory that the allocator has kept from earlier runs would hide most of the peak.
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

/// A text of at most `length` tokens, as close as whole words allow.
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
                // Export and import make one copy each.
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
            "\nof memcpy: two copies of the bytes of the frame, into allocated and into new memory, relative to export and \
             import;\npeak memory: of export and import beside the context, relative to its cache, unknown below 64 MiB;\n\
             decode: none if the model ended its turn at once"
        )
    }
}
