//! One hand-over in detail: two commands, joined by a frame in a file.

use std::{
    ffi::OsStr,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use avp_core::Frame;
use console::style;

use crate::world::{Task, World};

/// Runs `avp think` and `avp generate` on one task and writes their results.
pub(super) fn show(
    program: &Path,
    model: &Path,
    world: &World,
    task: &Task,
    out: &mut impl Write,
) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder for the frame")?;
    let frame = folder.path().join("handover.avp");
    writeln!(out, "{}", style("The document, which only agent A reads:").bold())?;
    writeln!(out, "  {}\n", task.document)?;
    writeln!(out, "{}", style("Agent A thinks, in one process:").bold())?;
    writeln!(out, "  avp think {} --prompt … -o handover.avp", model.display())?;
    let prompt = world.think_prompt(task);
    let think = [
        "think".as_ref(),
        model.as_os_str(),
        "--prompt".as_ref(),
        prompt.as_ref(),
        "-o".as_ref(),
        frame.as_os_str(),
    ];
    let (_, elapsed) = run(program, &think)?;
    writeln!(out, "  {}\n  {elapsed:.0} ms, model loading included\n", describe(&frame)?)?;

    writeln!(out, "{}", style("Agent B answers, in another:").bold())?;
    let question = world.context_prompt(task);
    writeln!(out, "  avp generate {} --context handover.avp --prompt {question:?}", model.display())?;
    let generate = [
        "generate".as_ref(),
        model.as_os_str(),
        "--context".as_ref(),
        frame.as_os_str(),
        "--prompt".as_ref(),
        question.as_ref(),
    ];
    let (answer, elapsed) = run(program, &generate)?;
    let answer = answer.trim();
    let verdict = if answer == task.answer {
        style("right".to_owned()).green()
    } else {
        style(format!("wrong, expected {}", task.answer)).red()
    };
    writeln!(out, "  {} ({verdict})\n  {elapsed:.0} ms, model loading included\n", style(answer).bold())?;
    Ok(())
}

/// Runs the program; returns its output and the milliseconds it took.
fn run(program: &Path, arguments: &[&OsStr]) -> Result<(String, f64)> {
    let start = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(output.status.success(), "avp {} failed", arguments[0].to_string_lossy());
    Ok((String::from_utf8(output.stdout)?, start.elapsed().as_secs_f64() * 1e3))
}

fn describe(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)?;
    let frame = Frame::decode(&bytes)?;
    let cache = frame.kv_cache(frame.payload()?)?;
    let shape = cache.header();
    Ok(format!(
        "a frame of {} bytes: the KV-cache of {} tokens, {} layers of {} KV heads, {} wide",
        bytes.len(),
        shape.seq_len,
        shape.num_layers,
        shape.num_kv_heads,
        shape.head_dim,
    ))
}
