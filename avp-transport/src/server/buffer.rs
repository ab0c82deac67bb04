//! The memory that a frame is received into: as much as its head announces, touched only as bytes arrive.

use bytes::Bytes;
use memmap2::MmapMut;

/// From this length on a frame has pages of its own, large ones where the system has them: with small ones a server takes
/// more time for making pages than for filling them.
const LARGE: usize = 4 << 20;

pub(super) enum FrameBuffer {
    Small(Vec<u8>),
    Large { pages: MmapMut, filled: usize },
}

impl FrameBuffer {
    /// Room for `len` bytes; `None` where there is none.
    pub(super) fn new(len: usize) -> Option<Self> {
        if len >= LARGE {
            let pages = MmapMut::map_anon(len).ok()?;
            // A wish: a system without large pages says no, and gives small ones.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Some(Self::Large { pages, filled: 0 });
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        Some(Self::Small(bytes))
    }

    /// # Panics
    /// Where all the bytes together are more than was asked room for.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        match self {
            Self::Small(all) => all.extend_from_slice(bytes),
            Self::Large { pages, filled } => {
                pages[*filled..*filled + bytes.len()].copy_from_slice(bytes);
                *filled += bytes.len();
            }
        }
    }

    /// All of them, once they have come.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Small(bytes) => bytes.into(),
            Self::Large { pages, filled } => Bytes::from_owner(pages).slice(..filled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_whatever_its_length() {
        for len in [0, 1, LARGE - 1, LARGE, LARGE + 1] {
            let bytes: Vec<u8> = (0..len).map(|place| (place % 251) as u8).collect();
            let mut buffer = FrameBuffer::new(len).unwrap();
            bytes.chunks(300_000).for_each(|piece| buffer.extend(piece));
            assert!(buffer.into_bytes() == bytes, "{len}");
        }
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_no_panic() {
        assert!(FrameBuffer::new(usize::MAX / 2).is_none());
    }
}
