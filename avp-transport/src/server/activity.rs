//! When a connection is idle.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::ResponseBody;

/// Whether a connection has requests in progress, and when it was last active.
pub(super) struct Activity(Mutex<State>);

struct State {
    /// The number of requests in a handler, which may take any time.
    answering: usize,
    /// Whether there has been a request.
    used: bool,
    last_active: Instant,
}

impl Activity {
    /// The activity of a connection that was accepted at this time.
    pub(super) fn new(accepted: Instant) -> Self {
        Self(Mutex::new(State { answering: 0, used: false, last_active: accepted }))
    }

    pub(super) fn was_used(&self) -> bool {
        self.state().used
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> RequestGuard {
        let mut state = self.state();
        state.answering += 1;
        state.used = true;
        drop(state);
        RequestGuard(self.clone())
    }

    fn touch(&self) {
        self.state().last_active = Instant::now();
    }

    /// Waits until the connection has been idle for `idle_timeout`, or for `head_timeout` before its first request.
    pub(super) async fn idle(&self, head_timeout: Duration, idle_timeout: Duration) {
        loop {
            let rest = {
                let state = self.state();
                let timeout = if state.used { idle_timeout } else { head_timeout };
                match state.answering {
                    0 => timeout.saturating_sub(state.last_active.elapsed()),
                    _ => timeout,
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

/// A request in progress.
pub(super) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.last_active = Instant::now();
    }
}

/// A response body that marks its connection as active whenever it is polled: then the client has read what came before.
pub(super) struct TrackedBody {
    body: ResponseBody,
    activity: Arc<Activity>,
}

impl TrackedBody {
    pub(super) const fn new(body: ResponseBody, activity: Arc<Activity>) -> Self {
        Self { body, activity }
    }
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.activity.touch();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
