//! The messages between the demo and its agents, and how they are framed.

use std::io::{BufRead, Read, Write};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A request to an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Request {
    /// Read the prompt, run latent steps, and return the context as a frame.
    Think { prompt: String, steps: usize },
    /// Generate text, after the context in the frame that follows, if there is one.
    Generate { prompt: String, max_tokens: usize },
}

/// The response of an agent; a context follows as a frame.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Response {
    /// The model is loaded.
    Ready,
    /// Answers `Think`.
    Thought(Thought),
    /// Answers `Generate`.
    Generated(Generated),
    /// The request failed; the agent accepts further ones.
    Failed { message: String },
}

/// The result of `Think`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Thought {
    /// Tokens of the prompt and latent steps.
    pub(crate) tokens: usize,
}

/// The result of `Generate`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Generated {
    pub(crate) text: String,
    /// Tokens of the prompt and of the text.
    pub(crate) tokens: usize,
    /// From the request's last byte to the first token, in milliseconds.
    pub(crate) first_token_ms: f64,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    #[serde(flatten)]
    message: T,
    #[serde(default)]
    frame_bytes: usize,
}

/// The longest possible frame: the length in its header has 32 bits.
const MAX_FRAME: u64 = avp_core::Header::LEN as u64 + u32::MAX as u64;

/// Writes a message and the frame that follows it.
pub(super) fn send<T: Serialize>(mut writer: impl Write, message: T, frame: &[u8]) -> Result<()> {
    let mut line = serde_json::to_vec(&Envelope { message, frame_bytes: frame.len() })?;
    line.push(b'\n');
    writer.write_all(&line)?;
    writer.write_all(frame)?;
    writer.flush()?;
    Ok(())
}

/// Reads a message and the frame that follows it; `None` if the other side has closed the stream.
pub(super) fn receive<T: DeserializeOwned>(mut reader: impl BufRead) -> Result<Option<(T, Vec<u8>)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let Envelope { message, frame_bytes } = serde_json::from_str(&line)?;
    if frame_bytes as u64 > MAX_FRAME {
        bail!("a frame of {frame_bytes} bytes exceeds the limit of {MAX_FRAME}");
    }
    let mut frame = Vec::new();
    let read = reader.take(frame_bytes as u64).read_to_end(&mut frame)?;
    if read < frame_bytes {
        bail!("the stream ended after {read} of {frame_bytes} bytes of a frame");
    }
    Ok(Some((message, frame)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_frames_come_back_as_sent() {
        let mut wire = Vec::new();
        send(&mut wire, Request::Think { prompt: "a\nb".into(), steps: 3 }, &[]).unwrap();
        send(&mut wire, Request::Generate { prompt: "q".into(), max_tokens: 4 }, b"frame\n").unwrap();
        let mut reader = wire.as_slice();
        let (first, frame) = receive::<Request>(&mut reader).unwrap().unwrap();
        assert!(matches!(first, Request::Think { prompt, steps: 3 } if prompt == "a\nb"));
        assert!(frame.is_empty());
        let (second, frame) = receive::<Request>(&mut reader).unwrap().unwrap();
        assert!(matches!(second, Request::Generate { max_tokens: 4, .. }));
        assert_eq!(frame, b"frame\n");
        assert!(receive::<Request>(&mut reader).unwrap().is_none());
    }

    #[test]
    fn a_frame_cut_short_is_an_error() {
        let mut wire = Vec::new();
        send(&mut wire, Request::Think { prompt: String::new(), steps: 0 }, b"frame").unwrap();
        wire.pop();
        assert!(receive::<Request>(wire.as_slice()).is_err());
    }
}
