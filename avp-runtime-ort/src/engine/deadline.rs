//! When a call has to be answered.

use std::time::{Duration, Instant};

use crate::RunError;

/// The end of a call's time. Taken at the very beginning of a call, it counts all that the call does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// `timeout` from now; `None` where there is none. A time so far away that it has no name never comes.
    pub(crate) fn new(timeout: Option<Duration>) -> Option<Self> {
        let after = timeout?;
        Some(Self { at: Instant::now().checked_add(after)?, after })
    }

    pub(super) fn at(self) -> Instant {
        self.at
    }

    pub(super) fn has_passed(self) -> bool {
        self.at <= Instant::now()
    }

    /// What a call gets that is not done by then.
    pub(super) fn error(self) -> RunError {
        RunError::TimedOut { after: self.after }
    }
}
