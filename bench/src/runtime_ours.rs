//! This library's side of the runtime benchmark, in a process of its own like every partner.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ffi::OsString,
    fs,
    hint::black_box,
    io::{Write, stdin, stdout},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use avp_runtime_ort::{
    Context, FrameOptions, FrameReadOptions, GenerateOptions, LoadOptions, Model, Prompt, Runtime, StepsTime,
    ThinkOptions,
};

use crate::{
    runtime::{STEPS, TOKENS},
    runtime_partner::{Found, Partner},
    timing::{median_seconds, memcpy_seconds},
};

/// The arguments by which this program starts itself.
pub(crate) const SERVE: &str = "serve";
pub(crate) const MEMORY: &str = "memory";

/// Starts this program as a partner with the model in `folder`, whose prepared graph goes to `cache`.
pub(crate) fn start(folder: &Path, cache: &Path, threads: usize) -> Result<Partner> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SERVE).arg(folder).arg(threads.to_string()).env("AVP_CACHE_DIR", cache);
    Partner::start(format!("avp-runtime-ort, {}", folder.display()), &mut command)
}

/// The peak memory of handing the frame at `path` over, in a fresh process.
pub(crate) fn memory(path: &Path) -> Result<Found> {
    let mut command = Command::new(std::env::current_exe()?);
    Partner::start("memory", command.arg(MEMORY).arg(path))?.ask("memory")
}

/// Takes the one graph out of a cache of prepared graphs, so that ONNX Runtime can run it alone.
///
/// A file there is a digest of 32 bytes, a line of JSON, and the graph.
pub(crate) fn extract_graph(cache: &Path, target: &Path) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(cache.join("prepared"))? {
        files.push(entry?.path());
    }
    // Other things may be kept beside the graph.
    files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    let [file] = &files[..] else { bail!("{} holds {} graphs, not one", cache.display(), files.len()) };
    let bytes = fs::read(file)?;
    let content = bytes.get(32..).context("a prepared graph is cut short")?;
    let line = content.iter().position(|&byte| byte == b'\n').context("a prepared graph has no report")?;
    fs::write(target, &content[line + 1..])?;
    Ok(())
}

/// Answers requests on standard input: `latent` and `decode` with the prompt, `latent-step` and `decode-step` after it,
/// `handover`, or `frame PATH`. Errors are answered too.
pub(crate) fn serve(arguments: &[OsString]) -> Result<()> {
    try_serve(arguments).or_else(|error| {
        println!("{}", serde_json::json!({"error": format!("{error:#}")}));
        Ok(())
    })
}

fn try_serve(arguments: &[OsString]) -> Result<()> {
    let [folder, threads] = arguments else { bail!("{SERVE} takes a model folder and a number of threads") };
    let threads =
        threads.to_str().and_then(|text| text.parse().ok()).context("expected a number of threads")?;
    let runtime = Runtime::find()?;
    let model = Model::load(&runtime, folder, &LoadOptions { threads, ..LoadOptions::default() })?;
    model.think("warm up", None, &ThinkOptions::steps(1))?;
    let mut bench = Bench { prompt: prompt_of(&model, TOKENS)?, runtime, model, kept: None };
    say(&[("ready", 1.0)])?;
    for line in stdin().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("latent", _) => bench.latent()?,
            ("decode", _) => bench.decode()?,
            ("latent-step", _) => bench.latent_step()?,
            ("decode-step", _) => bench.decode_step()?,
            ("handover", _) => bench.handover()?,
            ("frame", path) => {
                fs::write(path, bench.kept()?.to_frame(&FrameOptions::default())?)?;
                say(&[])?;
            }
            (other, _) => bail!("asked for {other}"),
        }
    }
    Ok(())
}

/// Answers `memory`: the peak memory of exporting and importing the frame in a file, beside the context itself.
pub(crate) fn serve_memory(arguments: &[OsString]) -> Result<()> {
    let [path] = arguments else { bail!("{MEMORY} takes a frame") };
    let runtime = Runtime::find()?;
    let frame = fs::read(path)?;
    let context = Context::from_frame(&runtime, &frame)?;
    drop(frame);
    say(&[("ready", 1.0)])?;
    for _asked in stdin().lines() {
        // 5 sets the high-water mark back to what is resident now: proc(5).
        fs::write("/proc/self/clear_refs", "5").context("this system does not report peak memory")?;
        let before = status("VmRSS:")?;
        let frame = context.to_bytes(&FrameOptions::default())?;
        let received = Context::from_bytes(&runtime, frame.clone(), &FrameReadOptions::default())?;
        let peak = status("VmHWM:")? - before;
        black_box((frame, received));
        let layout = context.cache_layout();
        let elements = 2 * layout.num_layers * layout.num_kv_heads * context.seq_len() * layout.head_dim;
        say(&[("peak", peak), ("cache", (elements * layout.dtype.size()) as f64)])?;
    }
    Ok(())
}

struct Bench {
    runtime: Runtime,
    model: Model,
    /// A user message that the chat template renders to [`TOKENS`] tokens.
    prompt: String,
    /// The prompt, read once for all work after it.
    kept: Option<Context>,
}

/// The prompt after the context.
fn tail() -> Prompt {
    Prompt::Raw("?".into())
}

impl Bench {
    fn context(&self) -> Result<Context> {
        Ok(self.model.think(self.prompt.as_str(), None, &ThinkOptions::steps(0))?.into_context()?)
    }

    fn kept(&mut self) -> Result<Context> {
        if let Some(context) = &self.kept {
            return Ok(context.clone());
        }
        let context = self.context()?;
        self.kept = Some(context.clone());
        Ok(context)
    }

    fn latent(&self) -> Result<()> {
        let (context, prefill) = timed(|| self.context())?;
        let rest = self.steps_behind(&context)?.total.as_secs_f64();
        say(&[("prefill", prefill), ("rest", rest), ("tokens", context.seq_len() as f64)])
    }

    fn latent_step(&mut self) -> Result<()> {
        let context = self.kept()?;
        say_step(self.steps_behind(&context)?)
    }

    fn steps_behind(&self, context: &Context) -> Result<StepsTime> {
        Ok(self.model.think(tail(), Some(context), &ThinkOptions::steps(STEPS))?.steps_time)
    }

    fn decode(&self) -> Result<()> {
        say(&[("rest", self.decoded(self.prompt.as_str().into(), None)?.total.as_secs_f64())])
    }

    fn decode_step(&mut self) -> Result<()> {
        let context = self.kept()?;
        say_step(self.decoded(tail(), Some(&context))?)
    }

    /// The tokens after the first one, which is part of reading the prompt.
    fn decoded(&self, prompt: Prompt, context: Option<&Context>) -> Result<StepsTime> {
        let options = GenerateOptions { max_tokens: STEPS + 1, ..GenerateOptions::default() };
        let generation = self.model.generate(prompt, context, &options)?;
        ensure!(generation.tokens.len() == STEPS + 1, "the model ended its turn; choose another seed");
        Ok(generation.steps_time)
    }

    fn handover(&mut self) -> Result<()> {
        let context = self.kept()?;
        let options = FrameOptions::default();
        let frame = context.to_bytes(&options)?;
        let receive = || Context::from_bytes(&self.runtime, frame.clone(), &FrameReadOptions::default());
        let export = median_seconds(|| context.to_bytes(&options))?;
        let import = median_seconds(receive)?;
        let memcpy_new = median_seconds(|| Ok::<_, Infallible>(frame.to_vec()))?;
        let memcpy = memcpy_seconds(&frame, &mut frame.to_vec())?;

        let one = GenerateOptions { max_tokens: 1, ..GenerateOptions::default() };
        let question = "Where?";
        let received = median_seconds(|| {
            let received = receive()?;
            self.model.generate(question, Some(&received), &one).map_err(anyhow::Error::from)
        })?;
        let whole = format!("{}{question}", self.prompt);
        let prefilled = median_seconds(|| self.model.generate(whole.as_str(), None, &one))?;
        say(&[
            ("bytes", frame.len() as f64),
            ("export", export),
            ("import", import),
            ("memcpy", memcpy),
            ("memcpy_new", memcpy_new),
            ("received", received),
            ("prefilled", prefilled),
        ])
    }
}

/// The time of one step, and its part inside ONNX Runtime.
fn say_step(steps: StepsTime) -> Result<()> {
    let one = |time: Duration| time.as_secs_f64() / STEPS as f64;
    say(&[("seconds", one(steps.total)), ("inside", one(steps.inside_runtime))])
}

/// A text that the chat template renders to `tokens` tokens, if each of its characters is one token.
fn prompt_of(model: &Model, tokens: usize) -> Result<String> {
    let count = |text: &str| Ok::<_, anyhow::Error>(model.tokenize(&Prompt::from(text))?.len());
    let room = tokens.checked_sub(count("")?).context("the chat template alone is longer")?;
    let text: String = "the ".chars().cycle().take(room).collect();
    let got = count(&text)?;
    ensure!(
        got == tokens,
        "the prompt has {got} tokens, not {tokens}: the benchmark needs a tokenizer of bytes"
    );
    Ok(text)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed().as_secs_f64()))
}

/// Answers the process that asked.
pub(crate) fn say(numbers: &[(&str, f64)]) -> Result<()> {
    let numbers: BTreeMap<&str, f64> = numbers.iter().copied().collect();
    let mut out = stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&numbers)?)?;
    Ok(out.flush()?)
}

/// A field of this process's status, in bytes.
pub(crate) fn status(name: &str) -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024.0)
}
