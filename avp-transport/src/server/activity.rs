//! What happens on a connection, and when it must be closed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    BodyTimeouts,
    sending::{Reading, Sending},
};

/// The requests and responses of a connection, and when it was last active.
pub(super) struct Activity {
    state: Mutex<State>,
    displaced: Notify,
}

struct State {
    /// The number of requests in a handler, which may take any time.
    answering: usize,
    /// Whether there has been a request.
    used: bool,
    /// Whether a request was admitted that needs a token, where the server requires one.
    trusted: bool,
    /// Whether the connection ends in favour of another one.
    displaced: bool,
    last_active: Instant,
    /// When the client must have read the last bytes of the bodies that were sent, which the connection still buffers.
    read_by: Instant,
    /// The bodies that are being sent.
    responses: Vec<Arc<Sending>>,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was idle for too long, or its client reads nothing.
    Late,
    /// It makes room for another one.
    Displaced,
}

/// The limits of time of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// To the end of the first request's head.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// For what the client should read.
    pub(super) body: BodyTimeouts,
}

impl State {
    fn is_idle(&self) -> bool {
        let is_read = self.responses.is_empty() && self.read_by <= Instant::now();
        self.answering == 0 && (is_read || !self.trusted)
    }
}

impl Activity {
    /// The activity of a connection that was accepted at this time.
    pub(super) fn new(accepted: Instant) -> Self {
        let state = State {
            answering: 0,
            used: false,
            trusted: false,
            displaced: false,
            last_active: accepted,
            read_by: accepted,
            responses: Vec::new(),
        };
        Self { state: Mutex::new(state), displaced: Notify::new() }
    }

    pub(super) fn was_used(&self) -> bool {
        self.state().used
    }

    /// Notes that a request was admitted.
    pub(super) fn trust(&self) {
        self.state().trusted = true;
    }

    /// Counts a request until the guard is dropped; `None` on a connection that was displaced.
    pub(super) fn begin(self: &Arc<Self>) -> Option<RequestGuard> {
        let mut state = self.state();
        if state.displaced {
            return None;
        }
        state.answering += 1;
        state.used = true;
        drop(state);
        Some(RequestGuard(self.clone()))
    }

    /// Whether a request on it was admitted, and since when it has been idle; `None` while it is in use. Before a request was admitted,
    /// unread responses do not count as use.
    pub(super) fn idle_since(&self) -> Option<(bool, Instant)> {
        let state = self.state();
        state.is_idle().then_some((state.trusted, state.last_active))
    }

    /// Ends the connection in favour of another one, if it is idle, and returns whether it does.
    pub(super) fn displace_if_idle(&self) -> bool {
        let mut state = self.state();
        state.displaced |= state.is_idle();
        if state.displaced {
            self.displaced.notify_one();
        }
        state.displaced
    }

    /// Adds a body that is being sent.
    pub(super) fn add(&self, response: Arc<Sending>) {
        self.state().responses.push(response);
    }

    /// Removes a body whose last bytes the client must have read by `read_by`.
    pub(super) fn remove(&self, response: &Arc<Sending>, read_by: Instant) {
        let mut state = self.state();
        state.responses.retain(|other| !Arc::ptr_eq(other, response));
        state.last_active = Instant::now();
        state.read_by = state.read_by.max(read_by);
    }

    /// Waits until the connection must be closed.
    pub(super) async fn ended(&self, timeouts: &Timeouts) -> Ending {
        // Bodies are added while this sleeps.
        let longest = (timeouts.body.idle / 2).max(Duration::from_millis(10));
        loop {
            let Some(rest) = self.rest(timeouts) else { return Ending::Late };
            tokio::select! {
                () = sleep(rest.min(longest)) => {}
                () = self.displaced.notified() => return Ending::Displaced,
            }
        }
    }

    /// The time until the connection may have to be closed; `None` where it must be now. Releases what bodies hold that are not
    /// read in time.
    fn rest(&self, timeouts: &Timeouts) -> Option<Duration> {
        let now = Instant::now();
        let (mut late, mut next) = (Vec::new(), Duration::MAX);
        let mut state = self.state();
        // A client that has read none of several bodies reads nothing.
        let (mut is_stuck, mut all_late) = (false, !state.responses.is_empty());
        for response in &state.responses {
            match response.check(now, timeouts.body.idle) {
                Reading::OnTime { left } => {
                    all_late = false;
                    next = next.min(left);
                }
                Reading::Late { released } => {
                    is_stuck |= !state.trusted;
                    late.push(released);
                }
                // What the connection holds of it goes with the connection alone.
                Reading::StillLate => is_stuck = true,
                Reading::Released => {}
            }
        }
        let idle_for = now.saturating_duration_since(state.last_active.max(state.read_by));
        let timeout = if state.used { timeouts.idle } else { timeouts.head };
        let rest = match (state.answering, state.responses.len()) {
            (0, _) if is_stuck || all_late => None,
            (0, 0) => Some(timeout.saturating_sub(idle_for)).filter(|rest| !rest.is_zero()),
            _ => Some(timeout.min(next)),
        };
        if rest.is_none() {
            late.extend(state.responses.drain(..).filter_map(|response| response.release()));
        }
        // A body may take locks of its own when it is dropped.
        drop(state);
        drop(late);
        rest
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::server::{ResponseBody, sending::TrackedBody};

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(3600),
        idle: Duration::from_secs(3600),
        body: BodyTimeouts {
            idle: Duration::from_millis(50),
            min_rate: 1 << 20,
            grace_period: Duration::ZERO,
        },
    };

    /// A body of two chunks that tells when it is dropped.
    fn body(held: &Arc<()>) -> ResponseBody {
        let held = held.clone();
        ResponseBody::from_stream(stream::iter([b"one", b"two"]).map(move |chunk| {
            let _held = &held;
            Ok::<_, Infallible>(Bytes::from_static(chunk))
        }))
    }

    #[tokio::test]
    async fn a_body_that_is_not_read_is_released_and_its_connection_closed() {
        let (activity, held) = (Arc::new(Activity::new(Instant::now())), Arc::new(()));
        activity.trust();
        let mut response = TrackedBody::new(body(&held), activity.clone(), TIMEOUTS.body);
        assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        assert_eq!(activity.idle_since(), None);
        activity.ended(&TIMEOUTS).await;
        assert_eq!(Arc::strong_count(&held), 1, "nothing holds it");
        assert!(response.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_body_that_waits_for_its_own_source_is_not_late() {
        let activity = Arc::new(Activity::new(Instant::now()));
        let source = ResponseBody::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let mut response = TrackedBody::new(source, activity.clone(), TIMEOUTS.body);
        let never = tokio::time::timeout(Duration::from_millis(200), async {
            tokio::join!(response.frame(), activity.ended(&TIMEOUTS))
        });
        assert!(never.await.is_err());
    }

    #[tokio::test]
    async fn one_body_that_is_not_read_is_released_and_then_ends_the_connection() {
        let (activity, held) = (Arc::new(Activity::new(Instant::now())), Arc::new(()));
        activity.trust();
        let body_timeouts = BodyTimeouts { idle: Duration::from_millis(200), ..TIMEOUTS.body };
        let timeouts = Timeouts { body: body_timeouts, ..TIMEOUTS };
        let stuck = TrackedBody::new(body(&held), activity.clone(), body_timeouts);
        let source = ResponseBody::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let mut other = TrackedBody::new(source, activity.clone(), body_timeouts);
        let released = async {
            while Arc::strong_count(&held) > 1 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = other.frame() => panic!("it has nothing to give"),
            _ = activity.ended(&timeouts) => panic!("the other one goes on for a while"),
            () = released => {}
        }
        tokio::select! {
            _ = other.frame() => panic!("it has nothing to give"),
            ending = activity.ended(&timeouts) => assert_eq!(ending, Ending::Late),
        }
        drop((stuck, other));
    }

    #[tokio::test]
    async fn a_displaced_connection_ends_at_once() {
        let activity = Activity::new(Instant::now());
        assert!(activity.displace_if_idle());
        assert_eq!(activity.ended(&TIMEOUTS).await, Ending::Displaced);
        assert!(Arc::new(activity).begin().is_none(), "no request begins on it");
    }

    #[tokio::test]
    async fn a_stranger_that_reads_nothing_is_idle_and_its_connection_ends_by_one_late_body() {
        let stranger = Arc::new(Activity::new(Instant::now()));
        let held = Arc::new(());
        let late = TrackedBody::new(body(&held), stranger.clone(), TIMEOUTS.body);
        assert!(stranger.idle_since().is_some());
        let source = ResponseBody::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let mut fresh = TrackedBody::new(source, stranger.clone(), TIMEOUTS.body);
        tokio::select! {
            _ = fresh.frame() => panic!("it has nothing to give"),
            ending = stranger.ended(&TIMEOUTS) => assert_eq!(ending, Ending::Late),
        }
        drop(late);
    }

    #[tokio::test]
    async fn a_connection_is_in_use_until_its_client_can_have_read_the_last_bytes() {
        let activity = Arc::new(Activity::new(Instant::now()));
        activity.trust();
        let timeouts = BodyTimeouts { min_rate: 100, ..TIMEOUTS.body };
        let mut response = TrackedBody::new(ResponseBody::from(vec![0; 20]), activity.clone(), timeouts);
        while response.frame().await.is_some() {}
        drop(response);
        assert_eq!(activity.idle_since(), None, "20 bytes take 200 ms");
        sleep(Duration::from_millis(250)).await;
        assert!(activity.idle_since().is_some());
    }
}
