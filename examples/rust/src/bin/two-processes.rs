//! Two processes hand over a frame through a pipe: `cargo run -p avp-examples --bin two-processes`.

use std::{
    error::Error,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use avp_runtime_ort::{Context, FrameOptions, GenerateOptions, LoadOptions, Model, Runtime, ThinkOptions};

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(question) => answer(&question),
        None => think(),
    }
}

/// Agent A: reads the notes and writes its context to the standard input of agent B.
fn think() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::find()?;
    let model = Model::load(&runtime, "models/facts", &LoadOptions::default())?;
    let notes = "Notes: Rosa lives in Lisbon. Rosa has a parrot.";
    let context = model.think(notes, None, &ThinkOptions::default())?.into_context()?;

    let mut other = Command::new(std::env::current_exe()?)
        .arg("Which pet does Rosa have?")
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut pipe) = other.stdin.take() {
        pipe.write_all(&context.to_frame(&FrameOptions::default())?)?;
    }
    let status = other.wait()?;
    if status.success() { Ok(()) } else { Err(format!("agent B: {status}").into()) }
}

/// Agent B: reads a context from standard input and answers the question.
fn answer(question: &str) -> Result<(), Box<dyn Error>> {
    let mut frame = Vec::new();
    std::io::stdin().read_to_end(&mut frame)?;

    let runtime = Runtime::find()?;
    let model = Model::load(&runtime, "models/facts", &LoadOptions::default())?;
    let context = Context::from_frame(&runtime, &frame)?;
    println!("{}", model.generate(question, Some(&context), &GenerateOptions::default())?.text);
    Ok(())
}
