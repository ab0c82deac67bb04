//! The places of a model's queue.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Deadline;
use crate::RunError;

/// A counting semaphore. A call holds a place while it waits, and releases it when it begins or is stopped.
#[derive(Debug)]
pub(super) struct Places {
    /// Holds one permit per taken place.
    taken: Sender<()>,
    permits: Receiver<()>,
    count: usize,
}

/// One place, released on drop.
pub(super) struct Place(Receiver<()>);

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let (taken, permits) = bounded(count);
        Self { taken, permits, count }
    }

    /// Takes a place without waiting.
    ///
    /// # Errors
    /// [`RunError::Busy`].
    pub(super) fn try_take(&self) -> Result<Place, RunError> {
        self.taken.try_send(()).map_err(|_| RunError::Busy { places: self.count })?;
        Ok(self.place())
    }

    /// Waits for a free place.
    ///
    /// # Errors
    /// [`RunError::TimedOut`] if no place is free before `deadline`.
    pub(super) fn take(&self, deadline: Option<Deadline>) -> Result<Place, RunError> {
        match deadline {
            // The receiver is a field, so the channel is open.
            None => self.taken.send(()).map_err(|_| RunError::Stopped)?,
            Some(deadline) => self.taken.send_deadline((), deadline.at()).map_err(|_| deadline.error())?,
        }
        Ok(self.place())
    }

    fn place(&self) -> Place {
        Place(self.permits.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The channel is a counting semaphore: taking any permit releases ours.
        let _mark = self.0.try_recv();
    }
}
