//! Admission control: how many bodies, and how many bytes of them, a server receives concurrently.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ErrorResponse, buffer::BufferPool};

/// Bytes are counted in pages, so that the 32 bits of a semaphore's permits cover 16 TiB.
const PAGE: u64 = 4096;

/// The permit for receiving one body.
pub(super) type BodyPermit = OwnedSemaphorePermit;

/// What the server may receive concurrently.
#[derive(Debug)]
pub(super) struct Admission {
    bodies: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    /// The total number of pages.
    max_pages: u64,
    buffers: Arc<BufferPool>,
}

impl Admission {
    pub(super) fn new(bodies: usize, bytes: u64) -> Self {
        let max_pages = (bytes / PAGE).min(Semaphore::MAX_PERMITS as u64).min(u64::from(u32::MAX));
        Self {
            bodies: Arc::new(Semaphore::new(bodies.min(Semaphore::MAX_PERMITS))),
            pages: Arc::new(Semaphore::new(max_pages as usize)),
            max_pages,
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

    /// A permit for this many bytes of memory, or `None` at the limit.
    pub(super) fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let pages = bytes.div_ceil(PAGE);
        let pages = u32::try_from(pages).ok().filter(|_| pages <= self.max_pages)?;
        self.pages.clone().try_acquire_many_owned(pages).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_released_when_they_are_dropped() {
        let admission = Admission::new(1, 3 * PAGE);
        let permit = admission.admit();
        assert!(permit.is_ok() && admission.admit().is_err());
        drop(permit);
        assert!(admission.admit().is_ok());
        let room = admission.reserve(2 * PAGE + 1);
        assert!(room.is_some() && admission.reserve(1).is_none());
        drop(room);
        assert!(admission.reserve(3 * PAGE).is_some());
        assert!(admission.reserve(u64::MAX).is_none());
    }
}
