//! What a latent step costs beside ONNX Runtime's own time.
//!
//! `cargo run --release -p avp-runtime-ort --example step_overhead -- FOLDER [TOKENS [STEPS [THREADS [cuda]]]]`
//!
//! Prints the time of a step behind TOKENS tokens (1,024), the part of it that passed inside ONNX Runtime, and the rest,
//! which is this crate's; medians of seven rounds of STEPS (20).

use std::{env, error::Error, time::Duration};

use avp_runtime_ort::{Device, LoadOptions, Model, OutputType, Prompt, Runtime, ThinkOptions};

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
    let model = Model::load(&runtime, &folder, &LoadOptions { threads, device, ..LoadOptions::default() })?;
    let context = model.think(prompt_of(&model, tokens)?, 0, None)?;
    let mut rounds = Vec::new();
    for _ in 0..7 {
        let options = ThinkOptions { output: OutputType::HiddenState, ..ThinkOptions::steps(steps) };
        let thought = model.think_with(Prompt::Raw("a".to_owned()), options, Some(&context))?;
        rounds.push((thought.steps_time.total, thought.steps_time.inside_runtime));
    }
    let (total, inside) = (median(rounds.iter().map(|r| r.0)), median(rounds.iter().map(|r| r.1)));
    let outside = median(rounds.iter().map(|r| r.0.saturating_sub(r.1)));
    let per_step = |time: Duration| time.as_secs_f64() * 1e6 / steps as f64;
    println!("{tokens} tokens, {steps} steps: {:.1} us a step", per_step(total));
    println!("inside ONNX Runtime: {:.1} us", per_step(inside));
    let percent = 100.0 * outside.as_secs_f64() / inside.as_secs_f64();
    println!("outside: {:.1} us, {percent:.2} % of it", per_step(outside));
    Ok(())
}

/// Text of about as many tokens.
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
