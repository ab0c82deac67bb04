//! A streamed completion as server-sent events.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use avp_runtime_ort::{Canceller, Generation, GenerationStream, RunError};
use avp_transport::server::Share;
use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::reply::Completion;
use crate::serve::{error, model_handler::Running};

/// The interval of keep-alive comments: prefilling a long prompt takes longer than the idle timeout of some proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The body of a streamed completion. Dropping it, as when the client disconnects, cancels the run.
pub(super) struct Events {
    events: UnboundedReceiver<Event>,
    /// The memory for events that the client has not read; their number is limited by the options of the run.
    _memory: Share,
    render: Render,
    keep_alive: Interval,
    canceller: Canceller,
}

impl Events {
    /// Starts to send the events of `stream`. The model does not wait for the client: `running` is released when the run ends, and
    /// `memory` when the client has read the events or is gone.
    pub(super) fn start(
        stream: GenerationStream,
        completion: Completion,
        include_usage: bool,
        running: Running,
        memory: Share,
    ) -> Self {
        let canceller = stream.canceller();
        let (sender, events) = unbounded_channel();
        let render = Render { completion, include_usage, has_context: running.has_context() };
        tokio::task::spawn_blocking(move || {
            // The run is cancelled when the client disconnects.
            let _disconnected = send_events(stream, &sender);
            drop(running);
        });
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { events, _memory: memory, render, keep_alive, canceller }
    }
}

/// The client has disconnected.
struct Disconnected;

/// What a run tells, in the form that takes the least memory.
enum Event {
    Opening,
    Piece(String),
    /// The run ended with an error. The status has been sent already.
    Failed(RunError),
    Ended(Box<Generation>),
}

fn send_events(mut stream: GenerationStream, sender: &UnboundedSender<Event>) -> Result<(), Disconnected> {
    let send = |event| sender.send(event).map_err(|_| Disconnected);
    send(Event::Opening)?;
    for piece in &mut stream {
        match piece {
            Ok(text) => send(Event::Piece(text))?,
            Err(error) => return send(Event::Failed(error)),
        }
    }
    send(Event::Ended(Box::new(stream.into_generation())))
}

/// Writes events as the client reads them.
struct Render {
    completion: Completion,
    include_usage: bool,
    has_context: bool,
}

impl Render {
    fn event(&self, event: &Event) -> Bytes {
        let line = |value: &Value| format!("data: {value}\n\n");
        match event {
            Event::Opening => line(&self.completion.opening()),
            Event::Piece(text) => line(&self.completion.piece(text)),
            Event::Failed(error) => line(&error_event(self.has_context, error)),
            Event::Ended(generation) => {
                let usage = self.include_usage.then(|| line(&self.completion.usage(generation)));
                let ending = line(&self.completion.ending(generation));
                format!("{ending}{}data: [DONE]\n\n", usage.unwrap_or_default())
            }
        }
        .into()
    }
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
            return Poll::Ready(event.map(|event| Ok(Frame::data(self.render.event(&event)))));
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
