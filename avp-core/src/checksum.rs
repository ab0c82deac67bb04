//! CRC-32 (IEEE) of the uncompressed body: field 15 of the metadata.

use crate::{
    DecodeError,
    parallel::{copy, share},
};

/// CRC-32 (IEEE) of `bytes`.
///
/// # Examples
///
/// ```
/// assert_eq!(avp_core::crc32(b"123456789"), 0xcbf4_3926);
/// ```
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// CRC-32 (IEEE) of `parts` as if they were joined.
#[must_use]
pub fn crc32_parts(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Bytes that fit a core's cache: summed bytes are copied from there and not from memory.
const CHUNK: usize = 64 << 10;

/// Bytes that one thread of [`copy_parts`] or [`copy_parts_summed`] takes at a time.
pub(crate) const PIECE: usize = 1 << 20;

/// Copies `parts`, joined, to `target`, which has their total length.
pub(crate) fn copy_parts(threads: usize, piece: usize, parts: &[&[u8]], target: &mut [u8]) {
    let threads = threads.min(count(piece, parts));
    share(threads, pieces(piece, parts, target), |(source, target)| copy(source, target));
}

/// Copies `parts`, joined, to `target`, which has their total length, and returns their CRC-32, in one pass over
/// memory.
#[cfg(feature = "std")]
pub(crate) fn copy_parts_summed(threads: usize, piece: usize, parts: &[&[u8]], target: &mut [u8]) -> u32 {
    let count = count(piece, parts);
    let mut sums = alloc::vec![crc32fast::Hasher::new(); count];
    share(threads.min(count), pieces(piece, parts, target).zip(&mut sums), |((source, target), sum)| {
        copy_summed(source, target, sum);
    });
    let mut whole = crc32fast::Hasher::new();
    sums.iter().for_each(|sum| whole.combine(sum));
    whole.finalize()
}

/// Copies `parts`, joined, to `target`, which has their total length, and returns their CRC-32, in one pass over
/// memory.
#[cfg(not(feature = "std"))]
pub(crate) fn copy_parts_summed(_threads: usize, piece: usize, parts: &[&[u8]], target: &mut [u8]) -> u32 {
    // On one thread the pieces are in order, so one hasher suffices, without an allocation.
    let mut sum = crc32fast::Hasher::new();
    pieces(piece, parts, target).for_each(|(source, target)| copy_summed(source, target, &mut sum));
    sum.finalize()
}

fn copy_summed(source: &[u8], target: &mut [u8], sum: &mut crc32fast::Hasher) {
    for (source, target) in source.chunks(CHUNK).zip(target.chunks_mut(CHUNK)) {
        sum.update(source);
        copy(source, target);
    }
}

/// The number of [`pieces`].
fn count(piece: usize, parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len().div_ceil(piece)).sum()
}

/// Every part cut to pieces of at most `piece` bytes, each with its place in `target`.
fn pieces<'s, 't>(
    piece: usize,
    parts: &[&'s [u8]],
    target: &'t mut [u8],
) -> impl Iterator<Item = (&'s [u8], &'t mut [u8])> + Send {
    let mut rest = target;
    parts.iter().flat_map(move |part| {
        let (target, after) = core::mem::take(&mut rest).split_at_mut(part.len());
        rest = after;
        part.chunks(piece).zip(target.chunks_mut(piece))
    })
}

/// A frame's checksum and that of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Checksum {
    /// CRC-32 from the metadata.
    pub expected: u32,
    /// CRC-32 of the uncompressed body.
    pub actual: u32,
}

impl Checksum {
    /// Whether the checksums are equal.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.expected == self.actual
    }

    /// `Ok` if the checksums are equal, for a body at `offset` in its frame.
    pub(crate) const fn check(&self, offset: usize) -> Result<(), DecodeError> {
        if self.is_ok() {
            return Ok(());
        }
        Err(DecodeError::ChecksumMismatch { expected: self.expected, actual: self.actual, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sum_like_the_whole() {
        assert_eq!(crc32_parts(&[b"1234", b"", b"56789"]), crc32(b"123456789"));
        assert_eq!(crc32_parts(&[]), 0);
    }

    #[test]
    fn copies_and_sums_are_those_of_the_whole_however_they_are_shared() {
        let bytes: [u8; 300] = core::array::from_fn(|index| (index * index / 7) as u8);
        for threads in [1, 2, 3, usize::MAX] {
            for piece in [3, 63, 64, 150, 5000] {
                for parts in [&[&bytes[..]][..], &[&bytes[..1], &[], &bytes[1..200], &bytes[200..]], &[]] {
                    let len = parts.iter().map(|part| part.len()).sum();
                    let (mut copied, mut summed) = ([0xee; 300], [0xee; 300]);
                    copy_parts(threads, piece, parts, &mut copied[..len]);
                    let sum = copy_parts_summed(threads, piece, parts, &mut summed[..len]);
                    assert_eq!(
                        (copied, summed),
                        (bytes.map(|byte| if len == 0 { 0xee } else { byte }), copied)
                    );
                    assert_eq!(sum, crc32_parts(parts), "{threads} {piece}");
                }
            }
        }
    }
}
