//! The places of a model's queue.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Deadline;
use crate::RunError;

/// So many places. A call holds one while it waits, and gives it back when it waits no longer, for whatever reason.
#[derive(Debug)]
pub(super) struct Places {
    /// Holds a mark for each place that is taken.
    taken: Sender<()>,
    marks: Receiver<()>,
    count: usize,
}

/// One place; free again when it is dropped.
pub(super) struct Place(Receiver<()>);

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let (taken, marks) = bounded(count);
        Self { taken, marks, count }
    }

    /// A place that is free now.
    ///
    /// # Errors
    /// [`RunError::Busy`].
    pub(super) fn try_take(&self) -> Result<Place, RunError> {
        self.taken.try_send(()).map_err(|_| RunError::Busy { places: self.count })?;
        Ok(self.place())
    }

    /// A place as soon as one is free.
    ///
    /// # Errors
    /// [`RunError::TimedOut`] where none is before `deadline`.
    pub(super) fn take(&self, deadline: Option<Deadline>) -> Result<Place, RunError> {
        match deadline {
            // The other end is here, so it is there.
            None => self.taken.send(()).map_err(|_| RunError::Stopped)?,
            Some(deadline) => self.taken.send_deadline((), deadline.at()).map_err(|_| deadline.error())?,
        }
        Ok(self.place())
    }

    fn place(&self) -> Place {
        Place(self.marks.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // All marks are alike, and its own is among them.
        let _mark = self.0.try_recv();
    }
}
