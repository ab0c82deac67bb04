//! Partner processes: a line on standard input names the work, a line of JSON has its result.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::runtime::{STEPS, TOKENS};

/// The work of a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The prompt, then latent steps.
    Latent,
    /// The prompt, then tokens.
    Decode,
}

/// The work of bare ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// One step repeated, with all inputs and outputs bound once and memory planned: a lower bound that callers cannot reach.
    Repeated,
    /// Each step after the one before.
    Grown,
}

/// A running partner. Dropping it closes its standard input, which ends the process.
pub(crate) struct Partner {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// A measurement, in seconds and bytes.
pub(crate) struct Found {
    partner: String,
    numbers: HashMap<String, f64>,
}

/// A line of a partner.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Failed { error: String },
    Found(HashMap<String, f64>),
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latent => "latent",
            Self::Decode => "decode",
        }
    }

    /// The steps without the prompt, which only this library supports.
    pub(crate) fn step(self) -> &'static str {
        match self {
            Self::Latent => "latent-step",
            Self::Decode => "decode-step",
        }
    }
}

impl Partner {
    /// Starts `command` and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start or exits; its own message goes to standard error.
    pub(crate) fn start(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        let name = name.into();
        eprintln!("{name}: loading");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{name} has no standard streams");
        };
        let mut partner = Self { name, child, input: Some(input), output: BufReader::new(output) };
        partner.answer()?.number("ready")?;
        Ok(partner)
    }

    /// The Python package at the weights in `folder`.
    pub(crate) fn avp(python: &Path, folder: &Path, threads: usize) -> Result<Self> {
        let mut command = script(python, "avp", folder, threads);
        command.args(["--tokens", &TOKENS.to_string(), "--steps", &STEPS.to_string()]);
        Self::start("avp 0.2.1", &mut command)
    }

    /// ONNX Runtime alone, at `graph` whose weights lie in `folder`.
    pub(crate) fn ort(
        python: &Path,
        graph: &Path,
        folder: &Path,
        threads: usize,
        shared_buffers: bool,
        steps: Steps,
    ) -> Result<Self> {
        let mut command = script(python, "ort", graph, threads);
        // The middle of the steps that are measured here.
        command.arg("--data").arg(folder).args(["--past", &(TOKENS + STEPS / 2).to_string()]);
        if shared_buffers {
            command.arg("--shared");
        }
        let name = match steps {
            Steps::Repeated => "ONNX Runtime, one step over and over",
            Steps::Grown => {
                command.arg("--grow");
                "ONNX Runtime, step behind step"
            }
        };
        Self::start(name, &mut command)
    }

    /// Measures `work`.
    ///
    /// # Errors
    /// When the partner has exited.
    pub(crate) fn ask(&mut self, work: &str) -> Result<Found> {
        eprintln!("{}: {work}", self.name);
        if let Some(input) = &mut self.input {
            writeln!(input, "{work}").with_context(|| format!("{} has closed its input", self.name))?;
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<Found> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("{} ended without an answer: {}", self.name, self.child.wait()?);
        }
        match serde_json::from_str(&line).with_context(|| format!("{} answered {line:?}", self.name))? {
            Answer::Found(numbers) => Ok(Found { partner: self.name.clone(), numbers }),
            Answer::Failed { error } => bail!("{}: {error}", self.name),
        }
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        drop(self.input.take());
        // Nothing is left to be done about a partner that does not end well.
        let _ended = self.child.wait();
    }
}

impl Found {
    /// # Errors
    /// When the result lacks this figure.
    pub(crate) fn number(&self, key: &str) -> Result<f64> {
        self.numbers.get(key).copied().with_context(|| format!("{} gave no {key}", self.partner))
    }
}

fn script(python: &Path, how: &str, model: &Path, threads: usize) -> Command {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peer_runtime.py")).arg(how).arg(model);
    command.args(["--threads", &threads.to_string()]);
    command
}
