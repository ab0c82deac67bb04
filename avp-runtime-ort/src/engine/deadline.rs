//! The deadline of a call.

use std::time::{Duration, Instant};

use crate::RunError;

/// The deadline of a call, computed when it begins, so that rendering and tokenizing count.
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

    /// The error of a call that missed its deadline.
    pub(super) fn error(self) -> RunError {
        RunError::TimedOut { after: self.after }
    }
}
