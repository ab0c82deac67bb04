//! An answer as server-sent events, from the model's thread to the connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use avp_runtime_ort::{Canceller, GenerationStream};
use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::Value;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::reply::Completion;
use crate::serve::{model_handler::Permit, refusal};

/// Events that may wait for a slow reader. The model does not wait with them.
const WAITING: usize = 64;

/// How long nothing is sent before a sign of life is: a long prompt is read for longer than some proxies wait.
const SILENCE: Duration = Duration::from_secs(15);

/// The body of a streamed answer. Dropping it, as when the client has gone, stops the model.
pub(super) struct Events {
    events: Receiver<Bytes>,
    signs_of_life: Interval,
    canceller: Canceller,
}

impl Events {
    /// Begins to pass on what the model says. The request keeps its place until the model is done.
    pub(super) fn start(
        stream: GenerationStream,
        completion: Completion,
        include_usage: bool,
        permit: Permit,
    ) -> Self {
        let canceller = stream.canceller();
        let (sender, events) = channel(WAITING);
        tokio::task::spawn_blocking(move || {
            // Nobody listens any more: the model is stopped already.
            let _gone = pass_on(stream, &completion, include_usage, &sender);
            drop(permit);
        });
        let mut signs_of_life = interval_at(Instant::now() + SILENCE, SILENCE);
        signs_of_life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { events, signs_of_life, canceller }
    }
}

/// Nobody listens any more.
struct Gone;

fn pass_on(
    mut stream: GenerationStream,
    completion: &Completion,
    include_usage: bool,
    sender: &Sender<Bytes>,
) -> Result<(), Gone> {
    let send = |event: &Value| sender.blocking_send(format!("data: {event}\n\n").into()).map_err(|_| Gone);
    send(&completion.opening())?;
    for piece in &mut stream {
        match piece {
            Ok(text) => send(&completion.piece(&text))?,
            // The status was sent long ago.
            Err(error) => return send(&error_event(&error)),
        }
    }
    let generation = stream.into_generation();
    send(&completion.ending(&generation))?;
    if include_usage {
        send(&completion.usage(&generation))?;
    }
    sender.blocking_send(Bytes::from_static(b"data: [DONE]\n\n")).map_err(|_| Gone)
}

fn error_event(error: &avp_runtime_ort::RunError) -> Value {
    let reply = refusal::in_openai_shape(&refusal::of_run(error));
    serde_json::json!({ "error": reply.field("error") })
}

impl Body for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(event) = self.events.poll_recv(context) {
            self.signs_of_life.reset();
            return Poll::Ready(event.map(|event| Ok(Frame::data(event))));
        }
        // A comment: readers of events pass over it.
        self.signs_of_life.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b": \n\n")))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.canceller.cancel();
    }
}
