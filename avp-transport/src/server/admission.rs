//! Admission control: how many bodies, and how many bytes of them, a server receives concurrently.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ByteSemaphore, ErrorResponse, buffer::BufferPool};

/// The permit for receiving one body.
pub(super) type BodyPermit = OwnedSemaphorePermit;

/// What the server may receive concurrently.
#[derive(Debug)]
pub(super) struct Admission {
    bodies: Arc<Semaphore>,
    buffered: ByteSemaphore,
    buffers: Arc<BufferPool>,
}

impl Admission {
    pub(super) fn new(bodies: usize, buffered: u64) -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(bodies.min(Semaphore::MAX_PERMITS))),
            buffered: ByteSemaphore::new(buffered),
            buffers: Arc::default(),
        }
    }

    /// The buffers for frames in memory.
    pub(super) const fn buffers(&self) -> &Arc<BufferPool> {
        &self.buffers
    }

    /// A permit for one more body.
    ///
    /// # Errors
    /// 503 at the limit.
    pub(super) fn admit(&self) -> Result<BodyPermit, ErrorResponse> {
        let full = |_| {
            ErrorResponse::busy("too_many_bodies", "the server has reached its limit of concurrent bodies")
        };
        self.bodies.clone().try_acquire_owned().map_err(full)
    }

    /// The memory for frames that are being received.
    pub(super) const fn buffered(&self) -> &ByteSemaphore {
        &self.buffered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_released_when_they_are_dropped() {
        let admission = Admission::new(1, 0);
        let permit = admission.admit();
        assert!(permit.is_ok() && admission.admit().is_err());
        drop(permit);
        assert!(admission.admit().is_ok());
    }
}
