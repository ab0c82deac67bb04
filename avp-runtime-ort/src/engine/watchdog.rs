//! The one thread of a process that stops calls whose time is up.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        OnceLock, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::call::Stop;
use crate::RunError;

/// Stops `call` with [`RunError::TimedOut`] when `after` has passed, unless it is gone by then.
pub(super) fn watch(call: Weak<dyn Stop>, after: Duration) {
    static WATCHDOG: OnceLock<Option<Sender<Watched>>> = OnceLock::new();
    // A time so far away that it has no name never comes.
    let Some(deadline) = Instant::now().checked_add(after) else { return };
    let watchdog = WATCHDOG.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("avp-watchdog".to_owned()).spawn(move || guard(&receiver));
        thread.ok().map(|_| sender)
    });
    let watched = Watched { deadline, after, call };
    // Without the thread there is no keeping the time: the call ends before it begins, rather than never.
    let refused = match watchdog {
        Some(watchdog) => watchdog.send(watched).err().map(|refused| refused.0),
        None => Some(watched),
    };
    if let Some(watched) = refused {
        watched.stop();
    }
}

struct Watched {
    deadline: Instant,
    after: Duration,
    call: Weak<dyn Stop>,
}

impl Watched {
    fn stop(&self) {
        if let Some(call) = self.call.upgrade() {
            call.stop(RunError::TimedOut { after: self.after });
        }
    }
}

fn guard(calls: &Receiver<Watched>) {
    let mut watched: BinaryHeap<Reverse<Watched>> = BinaryHeap::new();
    loop {
        let next = match watched.peek() {
            None => calls.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Reverse(first)) => {
                calls.recv_timeout(first.deadline.saturating_duration_since(Instant::now()))
            }
        };
        match next {
            Ok(call) => watched.push(Reverse(call)),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(Reverse(first)) = watched.pop() {
                    first.stop();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

// In a heap, only the time counts.

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Watched {}

impl PartialOrd for Watched {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Watched {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.deadline.cmp(&other.deadline)
    }
}
