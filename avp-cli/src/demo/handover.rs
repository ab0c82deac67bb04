//! One hand-over in detail: two commands, joined by a frame in a file.

use std::{
    ffi::OsStr,
    io::{Write, stdout},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use avp_core::Frame;
use console::style;

use crate::world::{Task, World};

const STEPS: &str = "8";

/// Runs `avp think` and `avp generate` on one task and says what each did.
pub(super) fn show(model: &Path, world: &World, task: &Task) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder for the frame")?;
    let frame = folder.path().join("handover.avp");
    let heading = |text: &str| writeln!(stdout(), "{}", style(text).bold());

    heading("The document, which only agent A reads:")?;
    writeln!(stdout(), "  {}\n", task.document)?;
    heading("Agent A thinks, in one process:")?;
    writeln!(stdout(), "  avp think {} --prompt … --steps {STEPS} -o handover.avp", model.display())?;
    let prompt = world.think_prompt(task);
    let think = [
        "think".as_ref(),
        model.as_os_str(),
        "--prompt".as_ref(),
        prompt.as_ref(),
        "--steps".as_ref(),
        STEPS.as_ref(),
        "-o".as_ref(),
        frame.as_os_str(),
    ];
    let (_, elapsed) = run(&think)?;
    writeln!(stdout(), "  {}\n  {elapsed:.0} ms, model loading included\n", describe(&frame)?)?;

    heading("Agent B answers, in another:")?;
    let question = world.context_prompt(task);
    writeln!(stdout(), "  avp generate {} --context handover.avp --prompt {question:?}", model.display())?;
    let generate = [
        "generate".as_ref(),
        model.as_os_str(),
        "--context".as_ref(),
        frame.as_os_str(),
        "--prompt".as_ref(),
        question.as_ref(),
    ];
    let (answer, elapsed) = run(&generate)?;
    let answer = answer.trim();
    let verdict = if answer == task.answer {
        style("right".to_owned()).green()
    } else {
        style(format!("wrong, expected {}", task.answer)).red()
    };
    writeln!(
        stdout(),
        "  {} ({verdict})\n  {elapsed:.0} ms, model loading included\n",
        style(answer).bold()
    )?;
    Ok(())
}

/// Runs this program again; gives its output and the milliseconds it took.
fn run(arguments: &[&OsStr]) -> Result<(String, f64)> {
    let program = std::env::current_exe().context("cannot find this program to start it again")?;
    let start = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start this program again")?;
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
