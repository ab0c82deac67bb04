//! A semaphore of bytes, for limits of memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pages, so that the 32 bits of a semaphore's permits cover 16 TiB.
const PAGE: u64 = 4096;

/// A number of bytes that all requests together may occupy.
///
/// ```
/// use avp_transport::server::ByteSemaphore;
///
/// let memory = ByteSemaphore::new(1 << 20);
/// let permit = memory.try_acquire(1_000_000);
/// assert!(permit.is_some() && memory.try_acquire(1_000_000).is_none());
/// ```
#[derive(Debug, Clone)]
pub struct ByteSemaphore {
    pages: Arc<Semaphore>,
    /// The total number of pages.
    max_pages: u64,
}

impl ByteSemaphore {
    /// A semaphore of this many bytes, in whole pages of 4 KiB.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let max_pages = (bytes / PAGE).min(Semaphore::MAX_PERMITS as u64).min(u64::from(u32::MAX));
        Self { pages: Arc::new(Semaphore::new(max_pages as usize)), max_pages }
    }

    /// A permit for this many bytes until it is dropped, or `None` while the others leave fewer.
    #[must_use]
    pub fn try_acquire(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let pages = bytes.div_ceil(PAGE);
        let pages = u32::try_from(pages).ok().filter(|_| pages <= self.max_pages)?;
        self.pages.clone().try_acquire_many_owned(pages).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_released_when_their_permit_is_dropped() {
        let memory = ByteSemaphore::new(3 * PAGE);
        let permit = memory.try_acquire(2 * PAGE + 1);
        assert!(permit.is_some() && memory.try_acquire(1).is_none());
        drop(permit);
        assert!(memory.try_acquire(3 * PAGE).is_some());
        assert!(memory.try_acquire(u64::MAX).is_none());
    }
}
