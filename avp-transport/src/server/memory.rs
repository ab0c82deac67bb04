//! Memory for one frame that arrives: of its size, and taken from the system only as bytes come.
//!
//! Large frames that go leave their memory to those that come, and what is new is taken some pages at a time: to be given them
//! one by one, as they are first written to, takes longer than to fill them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// From this size on, in bytes, a frame has pages of its own, which are kept for the next.
const LARGE: usize = 4 << 20;

/// The most bytes that wait for a frame.
const MOST_SPARE: usize = 256 << 20;

/// Bytes taken from the system at a time: so much more than has come may a frame have.
const STEP: usize = 2 << 20;

/// Memory that waits for frames, the one that has waited longest in front.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Pages>>);

impl Spare {
    /// Room for so many bytes, or `None` where there is none.
    pub(super) fn reserve(self: &Arc<Self>, len: u64) -> Option<FrameMemory> {
        let len = usize::try_from(len).ok()?;
        let memory = if len < LARGE {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).ok()?;
            Memory::Small(bytes)
        } else {
            Memory::Large(self.take(len).or_else(|| Pages::new(len))?)
        };
        Some(FrameMemory { memory, len, spare: self.clone() })
    }

    /// Memory that is not much larger than asked for, so that a frame takes no more than its due.
    fn take(&self, len: usize) -> Option<Pages> {
        let mut waiting = self.waiting();
        let fits = |pages: &Pages| pages.size() >= len && pages.size() - len <= len / 16;
        let place = waiting.iter().position(fits)?;
        Some(waiting.remove(place))
    }

    fn give(&self, mut pages: Pages) {
        if pages.size() > MOST_SPARE {
            return;
        }
        pages.len = 0;
        let mut waiting = self.waiting();
        while waiting.iter().map(Pages::size).sum::<usize>() > MOST_SPARE - pages.size() {
            waiting.remove(0);
        }
        waiting.push(pages);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that a frame fills.
pub(super) struct FrameMemory {
    memory: Memory,
    len: usize,
    spare: Arc<Spare>,
}

enum Memory {
    Small(Vec<u8>),
    Large(Pages),
}

impl FrameMemory {
    /// Appends bytes where there is room for them; whether there was.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> bool {
        let filled = match &self.memory {
            Memory::Small(memory) => memory.len(),
            Memory::Large(pages) => pages.len,
        };
        let fits = bytes.len() <= self.len - filled;
        match &mut self.memory {
            _ if !fits => {}
            Memory::Small(memory) => memory.extend_from_slice(bytes),
            Memory::Large(pages) => pages.extend(bytes),
        }
        fits
    }

    /// The bytes, where they lie. When nobody has them any more, their memory waits for the next frame.
    pub(super) fn into_bytes(self) -> Bytes {
        match self.memory {
            Memory::Small(memory) => Bytes::from(memory),
            Memory::Large(pages) => Bytes::from_owner(Lent { pages: Some(pages), spare: self.spare }),
        }
    }
}

/// Pages that nobody else has, filled from the start.
#[derive(Debug)]
struct Pages {
    map: MmapMut,
    /// Bytes that are filled.
    len: usize,
    /// Bytes that the system has given.
    ready: usize,
}

impl Pages {
    fn new(size: usize) -> Option<Self> {
        MmapMut::map_anon(size).ok().map(|map| Self { map, len: 0, ready: 0 })
    }

    fn size(&self) -> usize {
        self.map.len()
    }

    /// Appends bytes that there is room for.
    fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        while self.ready < end {
            self.ready_more();
        }
        self.map[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    fn ready_more(&mut self) {
        let step = STEP.min(self.size() - self.ready);
        // Where the system cannot (Linux can since 5.14), it gives them when they are written to.
        #[cfg(target_os = "linux")]
        let _given = self.map.advise_range(memmap2::Advice::PopulateWrite, self.ready, step);
        self.ready += step;
    }

    fn filled(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

/// Pages on loan until nobody reads them any more.
struct Lent {
    /// `None` once they went back.
    pages: Option<Pages>,
    spare: Arc<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.pages.as_ref().map_or(&[], Pages::filled)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.spare.give(pages);
        }
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
        (0..3).for_each(|times| spare.give(Pages::new(MOST_SPARE / 2 - times).unwrap()));
        let waiting: Vec<usize> = spare.waiting().iter().map(Pages::size).collect();
        assert_eq!(waiting, [MOST_SPARE / 2 - 1, MOST_SPARE / 2 - 2]);
        spare.give(Pages::new(MOST_SPARE + 1).unwrap());
        assert_eq!(spare.waiting().len(), 2);
    }

    #[test]
    fn pages_are_taken_as_bytes_come_and_not_before() {
        let mut memory = Arc::new(Spare::default()).reserve(5 * STEP as u64 + 7).unwrap();
        let ready = |memory: &FrameMemory| match &memory.memory {
            Memory::Large(pages) => pages.ready,
            Memory::Small(_) => panic!("a large frame"),
        };
        assert_eq!(ready(&memory), 0);
        assert!(memory.extend(b"a") && ready(&memory) == STEP);
        assert!(memory.extend(&vec![0; 3 * STEP]) && ready(&memory) == 4 * STEP);
        assert!(memory.extend(&vec![1; 2 * STEP + 6]) && ready(&memory) == 5 * STEP + 7);
        assert_eq!(memory.into_bytes().len(), 5 * STEP + 7);
    }

    #[test]
    fn what_no_machine_has_is_told() {
        assert!(Arc::new(Spare::default()).reserve(u64::MAX).is_none());
    }
}
