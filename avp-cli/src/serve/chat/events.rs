//! A streamed completion as server-sent events.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use avp_runtime_ort::{Canceller, GenerationStream, RunError};
use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::Value;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::reply::Completion;
use crate::serve::{
    error,
    model_handler::{LoadedContext, Permit},
};

/// The number of events buffered for a slow client. The model does not wait for the client.
const BUFFERED_EVENTS: usize = 64;

/// The interval of keep-alive comments: prefilling a long prompt takes longer than the idle timeout of some proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The body of a streamed completion. Dropping it, as when the client disconnects, cancels the run.
pub(super) struct Events {
    events: Receiver<Bytes>,
    keep_alive: Interval,
    canceller: Canceller,
}

impl Events {
    /// Starts to send the events of `stream`. The permit and the context are released when the run ends.
    pub(super) fn start(
        stream: GenerationStream,
        completion: Completion,
        include_usage: bool,
        held: (Permit, Option<LoadedContext>),
    ) -> Self {
        let canceller = stream.canceller();
        let (sender, events) = channel(BUFFERED_EVENTS);
        tokio::task::spawn_blocking(move || {
            // The run is cancelled when the client disconnects.
            let _disconnected = send_events(stream, &completion, include_usage, held.1.is_some(), &sender);
            drop(held);
        });
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { events, keep_alive, canceller }
    }
}

/// The client has disconnected.
struct Disconnected;

fn send_events(
    mut stream: GenerationStream,
    completion: &Completion,
    include_usage: bool,
    has_context: bool,
    sender: &Sender<Bytes>,
) -> Result<(), Disconnected> {
    let send =
        |event: &Value| sender.blocking_send(format!("data: {event}\n\n").into()).map_err(|_| Disconnected);
    send(&completion.opening())?;
    for piece in &mut stream {
        match piece {
            Ok(text) => send(&completion.piece(&text))?,
            // The status has been sent already.
            Err(error) => return send(&error_event(has_context, &error)),
        }
    }
    let generation = stream.into_generation();
    send(&completion.ending(&generation))?;
    if include_usage {
        send(&completion.usage(&generation))?;
    }
    sender.blocking_send(Bytes::from_static(b"data: [DONE]\n\n")).map_err(|_| Disconnected)
}

fn error_event(has_context: bool, error: &RunError) -> Value {
    let reply = error::in_openai_format(&error::of_run_behind(has_context, error));
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
            self.keep_alive.reset();
            return Poll::Ready(event.map(|event| Ok(Frame::data(event))));
        }
        // A comment, which clients ignore.
        self.keep_alive.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b": \n\n")))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.canceller.cancel();
    }
}
