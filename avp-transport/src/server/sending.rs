//! A response body on its way to the client, which is released when the client does not read it in time.
//!
//! hyper polls a body only when it can send more, so the body itself would never notice a client that takes nothing. The connection's
//! [`Activity`] looks at all of its bodies instead.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{BodyTimeouts, ResponseBody, activity::Activity};

/// A body that is being sent, as its connection sees it.
pub(super) struct Sending(Mutex<State>);

struct State {
    /// `None` when the client has not read it in time.
    body: Option<ResponseBody>,
    /// When the client must have read what it was given; `None` while the body has nothing to give.
    due: Option<Instant>,
    /// The lengths of the last two chunks: the connection may still hold them.
    last: [usize; 2],
}

/// How a client reads a body.
pub(super) enum Reading {
    /// It has time until it must have read what it was given, or for ever.
    OnTime { left: Duration },
    /// It is late for the first time.
    Late { released: ResponseBody },
    /// The body was released before, and the client has time to read what the connection holds of it.
    Released,
    /// It has not read that either.
    StillLate,
}

impl Sending {
    /// Releases the body if the client is late. Then it has `patience` more for what the connection holds.
    pub(super) fn check(&self, now: Instant, patience: Duration) -> Reading {
        let mut state = self.state();
        let left = state.due.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
        match state.body.take() {
            None if left.is_zero() => Reading::StillLate,
            None => Reading::Released,
            Some(released) if left.is_zero() => {
                state.due = now.checked_add(patience);
                Reading::Late { released }
            }
            body => {
                state.body = body;
                Reading::OnTime { left }
            }
        }
    }

    /// The body, if it was not released before.
    pub(super) fn release(&self) -> Option<ResponseBody> {
        self.state().body.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response body of a connection.
pub(super) struct TrackedBody {
    sending: Arc<Sending>,
    activity: Arc<Activity>,
    timeouts: BodyTimeouts,
}

impl TrackedBody {
    pub(super) fn new(body: ResponseBody, activity: Arc<Activity>, timeouts: BodyTimeouts) -> Self {
        let state = State { body: Some(body), due: due(&timeouts, 0), last: [0; 2] };
        let sending = Arc::new(Sending(Mutex::new(state)));
        activity.add(sending.clone());
        Self { sending, activity, timeouts }
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        let (now, tail) = (Instant::now(), self.sending.state().last.iter().sum());
        let read_by = now.checked_add(reading_time(&self.timeouts, tail)).unwrap_or(now);
        self.activity.remove(&self.sending, read_by);
    }
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let mut state = self.sending.state();
        let Some(body) = &mut state.body else {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        };
        let polled = Pin::new(body).poll_frame(context);
        state.due = None;
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let len = frame.data_ref().map_or(0, Bytes::len);
            state.last = [state.last[1], len];
            state.due = due(&self.timeouts, len);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.sending.state().body.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let state = self.sending.state();
        state.body.as_ref().map_or_else(http_body::SizeHint::default, http_body::Body::size_hint)
    }
}

/// When a client must have read `len` bytes; `None` for never.
fn due(timeouts: &BodyTimeouts, len: usize) -> Option<Instant> {
    Instant::now().checked_add(timeouts.idle.checked_add(reading_time(timeouts, len))?)
}

/// How long a client may take for `len` bytes beside the idle timeout.
fn reading_time(timeouts: &BodyTimeouts, len: usize) -> Duration {
    timeouts.time_at_min_rate(len as u64).unwrap_or_default()
}
