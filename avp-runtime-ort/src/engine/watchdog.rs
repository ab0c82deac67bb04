//! The one thread of a process that stops calls whose time is up.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        OnceLock, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Instant,
};

use super::{Deadline, call::Stop};

/// Stops `call` with [`RunError::TimedOut`](crate::RunError::TimedOut) at `deadline`, unless it is gone by then.
pub(super) fn watch(call: Weak<dyn Stop>, deadline: Deadline) {
    static WATCHDOG: OnceLock<Option<Sender<Watched>>> = OnceLock::new();
    let watched = Watched { deadline, call };
    // Whoever has no time left does not begin.
    if deadline.has_passed() {
        return watched.stop();
    }
    let watchdog = WATCHDOG.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("avp-watchdog".to_owned()).spawn(move || guard(&receiver));
        thread.ok().map(|_| sender)
    });
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
    deadline: Deadline,
    call: Weak<dyn Stop>,
}

impl Watched {
    fn stop(&self) {
        if let Some(call) = self.call.upgrade() {
            call.stop(self.deadline.error());
        }
    }
}

fn guard(calls: &Receiver<Watched>) {
    let mut watched: BinaryHeap<Reverse<Watched>> = BinaryHeap::new();
    loop {
        let next = match watched.peek() {
            None => calls.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Reverse(first)) => {
                calls.recv_timeout(first.deadline.at().saturating_duration_since(Instant::now()))
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
        self.deadline.at() == other.deadline.at()
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
        self.deadline.at().cmp(&other.deadline.at())
    }
}
