//! Memory for one frame that arrives: of its size, and taken from the system only as bytes come.
//!
//! Large frames that go leave their memory to those that come: asking the system for pages takes longer than to fill them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// From this size on, in bytes, memory is kept for the next frame.
const LARGE: usize = 4 << 20;

/// The most bytes that wait for a frame.
const MOST_SPARE: usize = 256 << 20;

/// Memory that waits for frames, the one that has waited longest in front.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// Room for so many bytes, or `None` where there is none.
    pub(super) fn reserve(self: &Arc<Self>, len: u64) -> Option<FrameMemory> {
        let len = usize::try_from(len).ok()?;
        let mut bytes = self.take(len).unwrap_or_default();
        bytes.try_reserve_exact(len).ok()?;
        Some(FrameMemory { bytes, len, spare: self.clone() })
    }

    /// Memory that is not much larger than asked for, so that a frame takes no more than its due.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        let mut waiting = self.waiting();
        let fits = |bytes: &Vec<u8>| bytes.capacity() >= len && bytes.capacity() - len <= len / 16;
        let place = waiting.iter().position(fits)?;
        Some(waiting.remove(place))
    }

    fn give(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() > MOST_SPARE {
            return;
        }
        bytes.clear();
        let mut waiting = self.waiting();
        while waiting.iter().map(Vec::capacity).sum::<usize>() > MOST_SPARE - bytes.capacity() {
            waiting.remove(0);
        }
        waiting.push(bytes);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that a frame fills.
pub(super) struct FrameMemory {
    bytes: Vec<u8>,
    len: usize,
    spare: Arc<Spare>,
}

impl FrameMemory {
    /// Appends bytes where there is room for them; whether there was.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.len - self.bytes.len();
        if fits {
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    /// The bytes, where they lie. When nobody has them any more, their memory waits for the next frame.
    pub(super) fn into_bytes(self) -> Bytes {
        if self.bytes.capacity() < LARGE { Bytes::from(self.bytes) } else { Bytes::from_owner(Lent(self)) }
    }
}

struct Lent(FrameMemory);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.spare.give(std::mem::take(&mut self.0.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(spare: &Arc<Spare>, len: usize, byte: u8) -> Bytes {
        let mut memory = spare.reserve(len as u64).unwrap();
        assert!(vec![byte; len].chunks(100_000).all(|piece| memory.extend(piece)));
        assert!(!memory.extend(b"!"), "there is room for {len} bytes and no more");
        memory.into_bytes()
    }

    #[test]
    fn a_frame_takes_over_memory_of_about_its_size_and_nothing_that_was_in_it() {
        let spare = Arc::new(Spare::default());
        for len in [0, 10, LARGE - 1] {
            assert_eq!(filled(&spare, len, 1), vec![1; len]);
            assert!(spare.waiting().is_empty());
        }
        let first = filled(&spare, LARGE + 100, 1);
        let (place, held) = (first.as_ptr(), first.slice(5..10));
        drop(first);
        assert!(spare.waiting().is_empty(), "somebody still reads it");
        drop(held);
        let second = filled(&spare, LARGE, 2);
        assert_eq!((second.as_ptr(), second.len()), (place, LARGE));
        assert!(second.iter().all(|byte| *byte == 2));
        drop(second);
        assert_ne!(filled(&spare, 2 * LARGE, 3).as_ptr(), place, "too small for it");
        assert_eq!(spare.waiting().len(), 2);
    }

    #[test]
    fn what_waits_has_a_limit_and_what_waited_longest_goes() {
        let spare = Arc::new(Spare::default());
        (0..3).for_each(|times| spare.give(Vec::with_capacity(MOST_SPARE / 2 - times)));
        let waiting: Vec<usize> = spare.waiting().iter().map(Vec::capacity).collect();
        assert_eq!(waiting, [MOST_SPARE / 2 - 1, MOST_SPARE / 2 - 2]);
        spare.give(Vec::with_capacity(MOST_SPARE + 1));
        assert_eq!(spare.waiting().len(), 2);
    }

    #[test]
    fn what_no_machine_has_is_told() {
        assert!(Arc::new(Spare::default()).reserve(u64::MAX).is_none());
    }
}
