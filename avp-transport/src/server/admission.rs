//! How much a server receives at a time: so many bodies, so many bytes of memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Refusal, memory::Spare};

/// Bytes are counted in pages, so that a semaphore's 32 bits say 16 TiB.
const PAGE: u64 = 4096;

/// The place of one body that is being received.
pub(super) type BodyPlace = OwnedSemaphorePermit;

/// What may be received at the same time.
#[derive(Debug)]
pub(super) struct Admission {
    bodies: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    /// Pages in all: what needs more never fits.
    most: u64,
    spare: Arc<Spare>,
}

impl Admission {
    pub(super) fn new(bodies: usize, bytes: u64) -> Self {
        let most = (bytes / PAGE).min(Semaphore::MAX_PERMITS as u64).min(u64::from(u32::MAX));
        Self {
            bodies: Arc::new(Semaphore::new(bodies.min(Semaphore::MAX_PERMITS))),
            pages: Arc::new(Semaphore::new(most as usize)),
            most,
            spare: Arc::default(),
        }
    }

    /// Memory for the bytes that there is room for.
    pub(super) const fn spare(&self) -> &Arc<Spare> {
        &self.spare
    }

    /// A place for one more body.
    ///
    /// # Errors
    /// 503 where all are taken.
    pub(super) fn admit(&self) -> Result<BodyPlace, Refusal> {
        let full = |_| Refusal::busy("too_many_bodies", "the server is receiving as many bodies as it can");
        self.bodies.clone().try_acquire_owned().map_err(full)
    }

    /// Room in memory for so many bytes, or `None` where there is none now.
    pub(super) fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let pages = bytes.div_ceil(PAGE);
        let pages = u32::try_from(pages).ok().filter(|_| pages <= self.most)?;
        self.pages.clone().try_acquire_many_owned(pages).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes_come_back_when_they_are_dropped() {
        let admission = Admission::new(1, 3 * PAGE);
        let place = admission.admit();
        assert!(place.is_ok() && admission.admit().is_err());
        drop(place);
        assert!(admission.admit().is_ok());
        let room = admission.reserve(2 * PAGE + 1);
        assert!(room.is_some() && admission.reserve(1).is_none());
        drop(room);
        assert!(admission.reserve(3 * PAGE).is_some());
        assert!(admission.reserve(u64::MAX).is_none());
    }
}
