//! Buffers for frames that are being received: of the frame's size, with pages allocated only as bytes arrive.
//!
//! The buffers of large frames are reused: unused ones take what requests leave of the memory, and give it back when a request needs
//! it. New ones are populated 2 MiB at a time: a page fault for each page takes longer than filling it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

use super::{Caller, FairShares, Share};

/// The smallest frame with an anonymous mapping of its own, in bytes. Mappings are reused.
const LARGE: usize = 4 << 20;

/// The maximum number of bytes in unused buffers, which are also at most this part of the memory.
pub(super) const MAX_POOLED: usize = 256 << 20;

const PART_OF_MEMORY: u64 = 16;

/// The number of bytes that are populated at a time: a frame holds at most this much more than has arrived.
const STEP: usize = 2 << 20;

/// A small frame occupies whole pieces of this many bytes.
const PIECE: usize = 64 << 10;

/// Unused buffers, oldest first, each with its share of the memory.
#[derive(Debug)]
pub(super) struct BufferPool {
    unused: Mutex<Vec<(Pages, Share)>>,
    memory: FairShares,
}

impl BufferPool {
    /// Buffers within this memory.
    pub(super) fn new(memory: FairShares) -> Self {
        Self { unused: Mutex::default(), memory }
    }

    /// A buffer for this many bytes, or `None` where the system has no memory for it.
    pub(super) fn reserve(self: &Arc<Self>, len: u64) -> Option<FrameBuffer> {
        let len = usize::try_from(len).ok()?;
        let memory = if len < LARGE {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).ok()?;
            Memory::Small(bytes)
        } else {
            Memory::Large(self.take(len).or_else(|| Pages::new(len))?)
        };
        Some(FrameBuffer { memory, len, pool: self.clone() })
    }

    /// An unused buffer that is at most a sixteenth larger than needed.
    fn take(&self, len: usize) -> Option<Pages> {
        let mut unused = self.unused();
        let fits = |pages: &Pages| pages.size() >= len && pages.size() - len <= len / 16;
        let index = unused.iter().position(|(pages, _)| fits(pages))?;
        Some(unused.remove(index).0)
    }

    fn put(&self, mut pages: Pages) {
        let most =
            MAX_POOLED.min(usize::try_from(self.memory.limit() / PART_OF_MEMORY).unwrap_or(usize::MAX));
        if pages.size() > most {
            return;
        }
        pages.len = 0;
        let mut unused = self.unused();
        while unused.iter().map(|(pages, _)| pages.size()).sum::<usize>() > most - pages.size() {
            drop(unused.remove(0));
        }
        if let Ok(share) = self.memory.take(&Caller::Server, pages.populated as u64) {
            unused.push((pages, share));
        }
    }

    /// Gives the memory of the unused buffers back.
    pub(super) fn clear(&self) {
        self.unused().clear();
    }

    fn unused(&self) -> std::sync::MutexGuard<'_, Vec<(Pages, Share)>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buffer of a frame, filled from the start.
pub(super) struct FrameBuffer {
    memory: Memory,
    len: usize,
    pool: Arc<BufferPool>,
}

enum Memory {
    Small(Vec<u8>),
    Large(Pages),
}

impl FrameBuffer {
    /// The number of bytes of memory that the buffer occupies once it has `more` bytes.
    pub(super) fn occupied_with(&self, more: usize) -> u64 {
        let occupied = match &self.memory {
            Memory::Small(memory) => (memory.len() + more)
                .checked_next_multiple_of(PIECE)
                .map_or(self.len, |len| len.min(self.len)),
            Memory::Large(pages) => {
                let end = (pages.len + more).checked_next_multiple_of(STEP);
                end.map_or(pages.size(), |end| end.min(pages.size())).max(pages.populated)
            }
        };
        occupied as u64
    }

    /// Appends bytes if they fit, and returns whether they did.
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

    /// The bytes, in place. Dropping the last reference returns a large buffer to the pool.
    pub(super) fn into_bytes(self) -> Bytes {
        match self.memory {
            Memory::Small(memory) => Bytes::from(memory),
            Memory::Large(pages) => Bytes::from_owner(PooledPages { pages: Some(pages), pool: self.pool }),
        }
    }
}

/// An anonymous mapping, filled from the start.
#[derive(Debug)]
struct Pages {
    map: MmapMut,
    /// The number of bytes that are filled.
    len: usize,
    /// The number of bytes that are populated.
    populated: usize,
}

impl Pages {
    fn new(size: usize) -> Option<Self> {
        MmapMut::map_anon(size).ok().map(|map| Self { map, len: 0, populated: 0 })
    }

    fn size(&self) -> usize {
        self.map.len()
    }

    /// Appends bytes, which fit.
    fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        while self.populated < end {
            self.populate();
        }
        self.map[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    fn populate(&mut self) {
        let step = STEP.min(self.size() - self.populated);
        // Other systems, and Linux before 5.14, allocate each page when it is written to.
        #[cfg(target_os = "linux")]
        let _populated = self.map.advise_range(memmap2::Advice::PopulateWrite, self.populated, step);
        self.populated += step;
    }

    fn filled(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

/// Pages that return to their pool when they are dropped.
struct PooledPages {
    /// `None` only while dropping.
    pages: Option<Pages>,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for PooledPages {
    fn as_ref(&self) -> &[u8] {
        self.pages.as_ref().map_or(&[], Pages::filled)
    }
}

impl Drop for PooledPages {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.pool.put(pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Arc<BufferPool> {
        Arc::new(BufferPool::new(FairShares::new(16 << 30)))
    }

    fn filled(pool: &Arc<BufferPool>, len: usize, byte: u8) -> Bytes {
        let mut memory = pool.reserve(len as u64).unwrap();
        assert!(vec![byte; len].chunks(100_000).all(|piece| memory.extend(piece)));
        assert!(!memory.extend(b"!"), "there is room for {len} bytes and no more");
        memory.into_bytes()
    }

    #[test]
    fn a_frame_reuses_a_buffer_of_about_its_size_and_none_of_its_bytes() {
        let pool = pool();
        for len in [0, 10, LARGE - 1] {
            assert_eq!(filled(&pool, len, 1), vec![1; len]);
            assert!(pool.unused().is_empty());
        }
        let first = filled(&pool, LARGE + 100, 1);
        let (address, held) = (first.as_ptr(), first.slice(5..10));
        drop(first);
        assert!(pool.unused().is_empty(), "a slice is still in use");
        drop(held);
        let second = filled(&pool, LARGE, 2);
        assert_eq!((second.as_ptr(), second.len()), (address, LARGE));
        assert!(second.iter().all(|byte| *byte == 2));
        drop(second);
        assert_ne!(filled(&pool, 2 * LARGE, 3).as_ptr(), address, "too small for it");
        assert_eq!(pool.unused().len(), 2);
    }

    #[test]
    fn the_pool_has_a_limit_and_drops_the_oldest_buffer() {
        let pool = pool();
        (0..3).for_each(|times| pool.put(Pages::new(MAX_POOLED / 2 - times).unwrap()));
        let unused: Vec<usize> = pool.unused().iter().map(|(pages, _)| pages.size()).collect();
        assert_eq!(unused, [MAX_POOLED / 2 - 1, MAX_POOLED / 2 - 2]);
        pool.put(Pages::new(MAX_POOLED + 1).unwrap());
        assert_eq!(pool.unused().len(), 2);
    }

    #[test]
    fn pages_are_populated_as_bytes_arrive() {
        let mut memory = pool().reserve(5 * STEP as u64 + 7).unwrap();
        let occupied = |memory: &FrameBuffer, more| memory.occupied_with(more) as usize;
        assert_eq!(
            (occupied(&memory, 0), occupied(&memory, 1), occupied(&memory, STEP + 1)),
            (0, STEP, 2 * STEP)
        );
        let populated = |memory: &FrameBuffer| match &memory.memory {
            Memory::Large(pages) => pages.populated,
            Memory::Small(_) => panic!("a large frame"),
        };
        assert_eq!(populated(&memory), 0);
        assert!(memory.extend(b"a") && populated(&memory) == STEP);
        assert!(memory.extend(&vec![0; 3 * STEP]) && populated(&memory) == 4 * STEP);
        assert!(memory.extend(&vec![1; 2 * STEP + 6]) && populated(&memory) == 5 * STEP + 7);
        assert_eq!(occupied(&memory, 1), 5 * STEP + 7);
        assert_eq!(memory.into_bytes().len(), 5 * STEP + 7);
    }

    #[test]
    fn an_impossible_length_is_refused() {
        assert!(pool().reserve(u64::MAX).is_none());
    }
}
