//! Measures the overhead of a latent step over ONNX Runtime, and its copies between host and device.
//!
//! `cargo run --release -p avp-runtime-ort --example step_overhead -- FOLDER [TOKENS [STEPS [THREADS [cuda]]]]`
//!
//! Prints the time of a step after TOKENS tokens (1,024), the part inside ONNX Runtime, and the rest, which is the overhead of
//! this crate: medians of seven rounds of STEPS (20). Then, from ONNX Runtime's profiles of two calls that differ by STEPS
//! steps, the number of operators per step, and of those that copy to or from the host.

use std::{collections::BTreeMap, env, error::Error, fs, path::Path, time::Duration};

use avp_runtime_ort::{Context, Device, LoadOptions, Model, Prompt, Runtime, StepsTime, ThinkOptions};
use serde::Deserialize;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().ok_or("expected a model folder")?;
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let (tokens, steps, threads) = (number(1024)?, number(20)?, number(0)?);

    let device = match arguments.next().as_deref() {
        None | Some("cpu") => Device::Cpu,
        Some("cuda") => Device::Cuda { id: 0, memory_limit: None },
        Some(other) => return Err(format!("expected cpu or cuda, got {other}").into()),
    };

    let runtime = Runtime::find()?;
    let options = LoadOptions { threads, device, ..LoadOptions::default() };
    let model = Model::load(&runtime, &folder, &options)?;
    let context = model.think(prompt_of(&model, tokens)?, None, &ThinkOptions::steps(0))?.into_context()?;
    let rounds: Vec<StepsTime> = (0..7).map(|_| think(&model, &context, steps)).collect::<Result<_, _>>()?;
    let (total, inside) =
        (median(rounds.iter().map(|r| r.total)), median(rounds.iter().map(|r| r.inside_runtime)));
    let outside = median(rounds.iter().map(|r| r.total.saturating_sub(r.inside_runtime)));
    let per_step = |time: Duration| time.as_secs_f64() * 1e6 / steps as f64;
    println!("{tokens} tokens, {steps} steps: {:.1} us a step", per_step(total));
    println!("inside ONNX Runtime: {:.1} us", per_step(inside));
    let percent = 100.0 * outside.as_secs_f64() / inside.as_secs_f64();
    println!("outside: {:.1} us, {percent:.2} % of it", per_step(outside));
    drop((model, context));

    let profile = |steps| operators(&runtime, &folder, &options, tokens, steps);
    let (few, many) = (profile(0)?, profile(steps)?);
    let more = |count: &dyn Fn(&BTreeMap<String, usize>) -> usize| count(&many).saturating_sub(count(&few));
    let all = more(&|found| found.values().sum());
    let copies = more(&|found| {
        let copies = found.iter().filter(|(operator, _)| operator.starts_with("Memcpy"));
        copies.map(|(_, count)| count).sum()
    });
    let per_step = |count: usize| count as f64 / steps.max(1) as f64;
    println!(
        "operators: {:.1} a step, of which {:.1} copy between host and device",
        per_step(all),
        per_step(copies)
    );
    Ok(())
}

/// Takes `steps` steps after `context` without keeping the cache.
fn think(model: &Model, context: &Context, steps: usize) -> Result<StepsTime, Box<dyn Error>> {
    let options = ThinkOptions { keep_context: false, ..ThinkOptions::steps(steps) };
    Ok(model.think(Prompt::Raw("a".to_owned()), Some(context), &options)?.steps_time)
}

/// The number of runs of each operator in a new session that reads the prompt and takes `steps` steps.
fn operators(
    runtime: &Runtime,
    folder: &str,
    options: &LoadOptions,
    tokens: usize,
    steps: usize,
) -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let options = LoadOptions { profile: Some(scratch.path().join("profile")), ..options.clone() };
    let model = Model::load(runtime, folder, &options)?;
    let context = model.think(prompt_of(&model, tokens)?, None, &ThinkOptions::steps(0))?.into_context()?;
    think(&model, &context, steps)?;
    drop((model, context));
    read_profile(scratch.path())
}

/// One line of ONNX Runtime's profile.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

fn read_profile(folder: &Path) -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
    let file = fs::read_dir(folder)?.next().ok_or("ONNX Runtime wrote no profile")??.path();
    let events: Vec<Event> = serde_json::from_slice(&fs::read(file)?)?;
    let mut counts = BTreeMap::new();
    for event in events {
        // A node is told of before and behind its kernel too.
        if event.cat == "Node"
            && event.name.ends_with("_kernel_time")
            && let Some(operator) = event.args.get("op_name").and_then(|name| name.as_str())
        {
            *counts.entry(operator.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// A text of about this number of tokens.
fn prompt_of(model: &Model, tokens: usize) -> Result<Prompt, Box<dyn Error>> {
    let text = |words: usize| Prompt::Raw("word ".repeat(words));
    let per_hundred = model.tokenize(&text(100))?.len();
    Ok(text(tokens * 100 / per_hundred.max(1)))
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}
