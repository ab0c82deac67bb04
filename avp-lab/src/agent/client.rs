//! The client side: starts an agent and sends requests to it.

use std::{
    io::{BufReader, BufWriter},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::protocol::{Generated, Request, Response, Thought, receive, send};

/// A running agent. Dropping it closes its standard input, which ends the process.
pub(crate) struct Agent {
    name: &'static str,
    child: Child,
    writer: Option<BufWriter<ChildStdin>>,
    reader: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts `program agent` and waits until its model is loaded.
    pub(crate) fn start(program: &Path, name: &'static str, model: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("agent")
            .arg(model)
            .args(["--name", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start agent {name} ({})", program.display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("agent {name} has no standard streams");
        };
        let (writer, reader) = (Some(BufWriter::new(stdin)), BufReader::new(stdout));
        let mut agent = Self { name, child, writer, reader };
        match agent.response()? {
            (Response::Ready, _) => Ok(agent),
            (other, _) => bail!("agent {name}: expected Ready, got {other:?}"),
        }
    }

    /// The agent's process id.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Runs latent steps after `prompt`; returns the KV-cache as a frame.
    pub(crate) fn think(&mut self, prompt: String, steps: usize) -> Result<(Thought, Vec<u8>)> {
        match self.ask(Request::Think { prompt, steps }, &[])? {
            (Response::Thought(thought), frame) => Ok((thought, frame)),
            (other, _) => bail!("agent {}: unexpected response {other:?}", self.name),
        }
    }

    /// Answers `prompt`, after the context in `frame` unless that is empty.
    pub(crate) fn generate(&mut self, prompt: String, max_tokens: usize, frame: &[u8]) -> Result<Generated> {
        match self.ask(Request::Generate { prompt, max_tokens }, frame)? {
            (Response::Generated(generated), _) => Ok(generated),
            (other, _) => bail!("agent {}: unexpected response {other:?}", self.name),
        }
    }

    fn ask(&mut self, request: Request, frame: &[u8]) -> Result<(Response, Vec<u8>)> {
        if let Some(writer) = &mut self.writer {
            send(writer, request, frame)
                .with_context(|| format!("agent {} has closed its input", self.name))?;
        }
        match self.response()? {
            (Response::Failed { message }, _) => bail!("agent {}: {message}", self.name),
            answer => Ok(answer),
        }
    }

    fn response(&mut self) -> Result<(Response, Vec<u8>)> {
        match receive(&mut self.reader).with_context(|| format!("agent {}", self.name))? {
            Some(answer) => Ok(answer),
            None => bail!("agent {} ended without an answer: {}", self.name, self.child.wait()?),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.writer.take());
        // The exit status of an agent that is no longer needed does not matter.
        let _ended = self.child.wait();
    }
}
