//! The time by which a call has to be answered.

use std::time::{Duration, Instant};

use crate::RunError;

/// The end of a call's time, taken at the beginning of the call, so that rendering and tokenizing count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// `timeout` from now. A timeout that overflows `Instant` means no deadline.
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

    /// The error of a call that is not done in time.
    pub(super) fn error(self) -> RunError {
        RunError::TimedOut { after: self.after }
    }
}
