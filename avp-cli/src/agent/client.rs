//! The demo's side: starts an agent and asks it.

use std::{
    io::{BufReader, BufWriter},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::protocol::{Generated, Request, Response, Thought, receive, send};

/// A running agent; dropping it closes its input, on which it ends.
pub(crate) struct Agent {
    name: &'static str,
    child: Child,
    writer: Option<BufWriter<ChildStdin>>,
    reader: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts this program again as an agent and waits until its model is loaded.
    pub(crate) fn start(name: &'static str, model: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program to start an agent with")?;
        let mut child = Command::new(program)
            .arg("agent")
            .arg(model)
            .args(["--name", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start agent {name}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("agent {name} has no standard streams");
        };
        let (writer, reader) = (Some(BufWriter::new(stdin)), BufReader::new(stdout));
        let mut agent = Self { name, child, writer, reader };
        match agent.response()? {
            (Response::Ready, _) => Ok(agent),
            (other, _) => bail!("agent {name} opened with {other:?}"),
        }
    }

    /// The agent's process id.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Has the agent think, and gives what it took with the frame.
    pub(crate) fn think(&mut self, prompt: String, steps: usize) -> Result<(Thought, Vec<u8>)> {
        match self.ask(Request::Think { prompt, steps }, &[])? {
            (Response::Thought(thought), frame) => Ok((thought, frame)),
            (other, _) => bail!("agent {} answered {other:?}", self.name),
        }
    }

    /// Has the agent generate text, behind the context in `frame` where that is not empty.
    pub(crate) fn generate(&mut self, prompt: String, max_tokens: usize, frame: &[u8]) -> Result<Generated> {
        match self.ask(Request::Generate { prompt, max_tokens }, frame)? {
            (Response::Generated(generated), _) => Ok(generated),
            (other, _) => bail!("agent {} answered {other:?}", self.name),
        }
    }

    fn ask(&mut self, request: Request, frame: &[u8]) -> Result<(Response, Vec<u8>)> {
        if let Some(writer) = &mut self.writer {
            send(writer, request, frame).with_context(|| format!("agent {} does not listen", self.name))?;
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
        // Nothing is left to be done about an agent that does not end well.
        let _ended = self.child.wait();
    }
}
