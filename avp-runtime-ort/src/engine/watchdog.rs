//! The watchdog: one thread per process that stops calls at their deadlines.

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

/// Stops `call` with [`RunError::TimedOut`](crate::RunError::TimedOut) at `deadline`, unless it was dropped before.
pub(super) fn watch(call: Weak<dyn Stop>, deadline: Deadline) {
    static WATCHDOG: OnceLock<Option<Sender<Watched>>> = OnceLock::new();
    let watched = Watched { deadline, call };
    // An expired call does not begin.
    if deadline.has_passed() {
        return watched.stop();
    }
    let watchdog = WATCHDOG.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("avp-watchdog".to_owned()).spawn(move || guard(&receiver));
        thread.ok().map(|_| sender)
    });
    // Without the thread no deadline can be enforced, so the call ends before it begins.
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
    let mut watched = Calls::default();
    loop {
        let next = match watched.by_deadline.peek() {
            None => calls.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Reverse(first)) => {
                calls.recv_timeout(first.deadline.at().saturating_duration_since(Instant::now()))
            }
        };
        match next {
            Ok(call) => watched.push(call),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(Reverse(first)) = watched.by_deadline.pop() {
                    first.stop();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The watched calls, earliest deadline on top.
#[derive(Default)]
struct Calls {
    by_deadline: BinaryHeap<Reverse<Watched>>,
    /// Number of calls after the last sweep.
    swept: usize,
}

impl Calls {
    /// Adds a call. Sweeps answered calls when the number has doubled since the last sweep: a busy model answers many calls
    /// before their deadlines.
    fn push(&mut self, call: Watched) {
        self.by_deadline.push(Reverse(call));
        if self.by_deadline.len() > 2 * self.swept.max(32) {
            self.by_deadline.retain(|Reverse(watched)| watched.call.strong_count() > 0);
            self.swept = self.by_deadline.len();
        }
    }
}

// The heap compares deadlines only.

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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::RunError;

    struct Nothing;

    impl Stop for Nothing {
        fn stop(&self, _reason: RunError) {}
    }

    #[test]
    fn only_answered_calls_are_removed_before_their_deadline() {
        let mut calls = Calls::default();
        let mut add = |call: &Arc<dyn Stop>| {
            if let Some(deadline) = Deadline::new(Some(Duration::from_secs(3600))) {
                calls.push(Watched { deadline, call: Arc::downgrade(call) });
            }
            calls.by_deadline.len()
        };
        let waiting: Vec<Arc<dyn Stop>> = (0..100).map(|_| -> Arc<dyn Stop> { Arc::new(Nothing) }).collect();
        for call in &waiting {
            add(call);
            for _ in 0..100 {
                let answered: Arc<dyn Stop> = Arc::new(Nothing);
                assert!(add(&answered) <= 2 * waiting.len());
            }
        }
        let kept = calls.by_deadline.iter().filter(|Reverse(watched)| watched.call.strong_count() > 0);
        assert_eq!(kept.count(), waiting.len());
    }
}
