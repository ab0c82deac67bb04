//! The agent side, which `avp agent MODEL_DIR` runs.

use std::{
    io::{BufReader, BufWriter, stdin, stdout},
    time::Instant,
};

use anyhow::Result;
use avp_runtime_ort::{
    Context, FrameOptions, FrameReadOptions, GenerateOptions, Model, Runtime, ThinkOptions,
};
use bytes::Bytes;

use super::protocol::{Generated, Request, Response, Thought, receive, send};

/// Answers requests on standard input until it closes.
///
/// ```no_run
/// use avp_runtime_ort::{LoadOptions, Model, Runtime};
///
/// let runtime = Runtime::find()?;
/// let model = Model::load(&runtime, "models/facts", &LoadOptions::default())?;
/// avp_lab::agent::serve(&runtime, &model, "A")?;
/// # Ok::<(), anyhow::Error>(())
/// ```
///
/// # Errors
/// When a stream fails or a message is malformed. A request that fails is answered with the error.
pub fn serve(runtime: &Runtime, model: &Model, name: &str) -> Result<()> {
    let mut reader = BufReader::new(stdin().lock());
    let mut writer = BufWriter::new(stdout().lock());
    send(&mut writer, Response::Ready, &[])?;
    while let Some((request, frame)) = receive::<Request>(&mut reader)? {
        let (response, frame) = answer(runtime, model, name, request, frame)
            .unwrap_or_else(|error| (Response::Failed { message: format!("{error:#}") }, Bytes::new()));
        send(&mut writer, response, &frame)?;
    }
    Ok(())
}

fn answer(
    runtime: &Runtime,
    model: &Model,
    name: &str,
    request: Request,
    frame: Vec<u8>,
) -> Result<(Response, Bytes)> {
    match request {
        Request::Think { prompt, steps } => {
            let context = model.think(prompt.as_str(), None, &ThinkOptions::steps(steps))?.into_context()?;
            let options = FrameOptions { source_agent_id: name.to_owned(), ..FrameOptions::default() };
            let thought = Thought { tokens: context.seq_len() };
            Ok((Response::Thought(thought), context.to_bytes(&options)?))
        }
        Request::Generate { prompt, max_tokens } => {
            let start = Instant::now();
            let context = if frame.is_empty() {
                None
            } else {
                Some(Context::from_bytes(runtime, frame, &FrameReadOptions::default())?)
            };
            let imported = start.elapsed();
            let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
            let generation = model.generate(prompt.as_str(), context.as_ref(), &options)?;
            let generated = Generated {
                tokens: generation.prompt_tokens + generation.tokens.len(),
                first_token_ms: (imported + generation.first_token_time).as_secs_f64() * 1e3,
                text: generation.text,
            };
            Ok((Response::Generated(generated), Bytes::new()))
        }
    }
}
