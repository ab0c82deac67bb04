//! `avp send`: sends a frame to a server.

use std::{
    io::{IsTerminal as _, Write as _, stdin, stdout},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use avp_core::{Mode, messages::JsonMessage};
use avp_transport::client::{FrameBody, Receipt, Sent, blocking::Client};
use clap::Args;
use serde_json::json;

use super::{progress::Progress, remote::RemoteArgs};
use crate::output::{Input, must_exist};

/// Send a frame to a server, and print the id of the stored context
#[derive(Args)]
pub(crate) struct Send {
    /// The frame; `-` for standard input, which is sent as it is read
    #[arg(value_name = "FILE")]
    frame: Input,
    /// The server's URL, such as `https://agent-b.example:8790`
    #[arg(value_name = "URL")]
    url: String,
    /// Perform a handshake and send within its session; fail if the server's model cannot use the frame. Needed to resend
    /// after a broken connection: only the handshake shows whether the server stores a repeated frame once
    #[arg(long, requires = "model")]
    session: bool,
    /// Model of the frame, for the handshake
    #[arg(long, value_name = "MODEL_DIR", requires = "session")]
    model: Option<PathBuf>,
    /// Print the server's response, with `seconds`, as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Send {
    pub(crate) fn run(&self) -> Result<()> {
        let client = self.remote.client(self.url.as_str().into(), self.model.as_deref())?;
        let progress = Progress::new()?;
        let frame = self.body()?.on_progress(progress.observer());
        let start = Instant::now();
        let sent = if self.session { in_session(&client, frame) } else { Ok(client.transmit(frame)?) };
        let seconds = start.elapsed().as_secs_f64();
        drop(progress);
        let receipt = sent?;
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", receipt.reply().clone().with("seconds", json!(seconds)))?;
        } else if let Some(id) = receipt.context_id() {
            writeln!(out, "{}", crate::output::printable(id))?;
        } else {
            bail!(
                "the server accepted the frame without a context id, so it cannot be fetched; --json prints its response"
            );
        }
        Ok(())
    }

    fn body(&self) -> Result<FrameBody<'static>> {
        match &self.frame {
            Input::File(path) => {
                must_exist(path)?;
                Ok(FrameBody::file(path))
            }
            Input::Stdin => {
                ensure!(!stdin().is_terminal(), "standard input is a terminal; pipe a frame into it");
                Ok(FrameBody::reader(stdin()))
            }
        }
    }
}

/// Sends a frame as the result of the handshake allows.
fn in_session(client: &Client, frame: FrameBody<'_>) -> Result<Receipt> {
    let session = client.handshake().context("handshake")?;
    if session.mode == Mode::Json {
        bail!(
            "the server's model cannot use this model's frames: the handshake resolved to text ({})",
            session.rule
        );
    }
    // There is no text for the frame, so a session without latent mode is an error.
    match client.send(frame, |_| JsonMessage::default())? {
        Sent::Latent(receipt) => Ok(receipt),
        Sent::Text(_) => bail!("the session now accepts text only"),
    }
}
