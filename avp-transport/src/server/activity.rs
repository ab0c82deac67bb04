//! What goes on in a connection, and how long nothing does.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::Answer;

/// What a connection is doing: whether a request is being answered, and when something moved last.
pub(super) struct Activity(Mutex<State>);

struct State {
    /// Requests that a handler is at work on. How long that takes is the handler's affair.
    answering: usize,
    /// Whether there has been any request.
    used: bool,
    moved: Instant,
}

impl Activity {
    /// That of a connection which was taken at this time.
    pub(super) fn new(accepted: Instant) -> Self {
        Self(Mutex::new(State { answering: 0, used: false, moved: accepted }))
    }

    pub(super) fn was_used(&self) -> bool {
        self.state().used
    }

    /// One more request is being answered, until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.answering += 1;
        state.used = true;
        drop(state);
        Busy(self.clone())
    }

    fn moved(&self) {
        self.state().moved = Instant::now();
    }

    /// Waits until no request was at work and nothing moved for `idle_time`, or for `head_time` before the first request.
    pub(super) async fn idle(&self, head_time: Duration, idle_time: Duration) {
        loop {
            let rest = {
                let state = self.state();
                let patience = if state.used { idle_time } else { head_time };
                match state.answering {
                    0 => patience.saturating_sub(state.moved.elapsed()),
                    _ => patience,
                }
            };
            if rest.is_zero() {
                return;
            }
            sleep(rest).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.moved = Instant::now();
    }
}

/// An answer whose every piece is a sign of life: it is asked for when the client has taken those before.
pub(super) struct Watched {
    body: Answer,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) const fn new(body: Answer, activity: Arc<Activity>) -> Self {
        Self { body, activity }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, io::Error>>> {
        self.activity.moved();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
