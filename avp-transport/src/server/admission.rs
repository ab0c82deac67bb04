//! Admission control: which bodies, and how much memory for them, a caller may occupy.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Caller, ErrorResponse, FairShares, NoRoom, Share, buffer::BufferPool};

/// The permit for receiving one body.
#[derive(Debug)]
pub(super) struct BodyPermit {
    _place: Share,
    /// Bytes that the connection holds for this body before it is read.
    _window: Share,
}

/// What callers may occupy at a time.
#[derive(Debug)]
pub(super) struct Admission {
    bodies: FairShares,
    memory: FairShares,
    buffers: Arc<BufferPool>,
}

impl Admission {
    pub(super) fn new(bodies: usize, memory: FairShares) -> Self {
        let buffers = Arc::new(BufferPool::new(memory.clone()));
        Self { bodies: FairShares::new(bodies as u64), memory, buffers }
    }

    /// The buffers for frames in memory.
    pub(super) const fn buffers(&self) -> &Arc<BufferPool> {
        &self.buffers
    }

    /// The memory for requests.
    pub(super) const fn shares(&self) -> &FairShares {
        &self.memory
    }

    /// A permit for one more body, of which the connection holds up to `window` bytes.
    ///
    /// # Errors
    /// 503 at the caller's part of the limit, and those of [`NoRoom`].
    pub(super) fn admit(&self, caller: &Caller, window: u64) -> Result<BodyPermit, ErrorResponse> {
        let place = self.bodies.take(caller, 1).map_err(|_| {
            ErrorResponse::busy("too_many_bodies", "this caller has reached its limit of concurrent bodies")
        })?;
        let window = self.memory(caller, window)?;
        Ok(BodyPermit { _place: place, _window: window.share })
    }

    /// Memory of this many bytes.
    ///
    /// # Errors
    /// [`NoRoom`] if the caller may not occupy that much now.
    pub(super) fn memory(&self, caller: &Caller, bytes: u64) -> Result<Room, NoRoom> {
        let mut room = Room { share: self.memory.take(caller, 0)?, buffers: self.buffers.clone() };
        room.cover(bytes)?;
        Ok(room)
    }
}

/// Memory of a caller, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    share: Share,
    buffers: Arc<BufferPool>,
}

impl Room {
    /// Whether it could grow to this many bytes now.
    ///
    /// # Errors
    /// As [`cover`](Self::cover).
    pub(super) fn could_cover(&self, bytes: u64) -> Result<(), NoRoom> {
        self.share.could_grow_to(bytes).or_else(|_| {
            self.buffers.clear();
            self.share.could_grow_to(bytes)
        })
    }

    /// Grows to this many bytes. Unused buffers make room.
    ///
    /// # Errors
    /// [`NoRoom`] if the caller may not occupy that much now.
    pub(super) fn cover(&mut self, bytes: u64) -> Result<(), NoRoom> {
        self.share.grow_to(bytes).or_else(|_| {
            self.buffers.clear();
            self.share.grow_to(bytes)
        })
    }
}

/// Memory that belongs to a request until its response begins.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestMemory(Arc<Mutex<Vec<Room>>>);

impl RequestMemory {
    pub(super) fn hold(&self, room: Room) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_released_when_they_are_dropped() {
        let (admission, caller) = (Admission::new(1, FairShares::new(100)), Caller::at(None));
        let code = |window| admission.admit(&caller, window).map_err(|error| error.code().to_owned());
        let permit = code(10);
        assert_eq!(code(0).unwrap_err(), "too_many_bodies");
        drop(permit);
        assert_eq!(code(81).unwrap_err(), "too_large_for_memory");
        assert!(code(80).is_ok());
    }

    #[test]
    fn unused_buffers_make_room() {
        let len = 8 << 20;
        let admission = Admission::new(1, FairShares::new(16 * len));
        let mut buffer = admission.buffers().reserve(len).unwrap();
        assert!(buffer.extend(&vec![1; len as usize]));
        drop(buffer.into_bytes());
        assert_eq!(admission.memory.taken(), len, "it is kept for the next frame");
        let most = admission.memory.most();
        assert!(admission.memory(&Caller::at(None), most).is_ok());
        assert_eq!(admission.memory.taken(), 0);
    }
}
