//! Memory for one frame that arrives: of exactly its size, and taken from the system only as bytes come.

use bytes::Bytes;
use memmap2::MmapMut;

/// From this size on, in bytes, a frame gets pages of its own.
const LARGE: usize = 4 << 20;

pub(super) enum FrameMemory {
    Heap(Vec<u8>),
    Pages { map: MmapMut, len: usize },
}

impl FrameMemory {
    /// Room for so many bytes, or `None` where there is none.
    pub(super) fn reserve(len: u64) -> Option<Self> {
        let len = usize::try_from(len).ok()?;
        if len < LARGE {
            let mut heap = Vec::new();
            heap.try_reserve_exact(len).ok()?;
            return Some(Self::Heap(heap));
        }
        let map = MmapMut::map_anon(len).ok()?;
        // With pages of 4 KiB, most of the time that keeping a frame takes goes into asking for pages. Where there are no
        // larger ones, these do.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self::Pages { map, len: 0 })
    }

    /// Appends bytes, as many as there is room for; whether that was all of them.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Heap(heap) if bytes.len() <= heap.capacity() - heap.len() => heap.extend_from_slice(bytes),
            Self::Heap(_) => return false,
            Self::Pages { map, len } => {
                let Some(target) = map.get_mut(*len..*len + bytes.len()) else { return false };
                target.copy_from_slice(bytes);
                *len += bytes.len();
            }
        }
        true
    }

    /// The bytes, where they lie.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Heap(heap) => heap.into(),
            Self::Pages { map, len } => Bytes::from_owner(map).slice(..len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_together_in_the_order_in_which_they_came() {
        for len in [0, 10, LARGE - 1, LARGE, LARGE + 10] {
            let whole: Vec<u8> = (0..len).map(|place| (place % 251) as u8).collect();
            let mut memory = FrameMemory::reserve(len as u64).unwrap();
            assert!(whole.chunks(100_000).all(|piece| memory.extend(piece)));
            assert!(!memory.extend(b"!"), "there is room for {len} bytes and no more");
            assert_eq!(memory.into_bytes(), whole);
        }
    }

    #[test]
    fn what_no_machine_has_is_told() {
        assert!(FrameMemory::reserve(u64::MAX).is_none());
    }
}
