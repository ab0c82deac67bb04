//! zstd bodies: unpacked within a limit, packed at one of the protocol's levels.

use alloc::vec::Vec;

use crate::{Compression, DecodeError};

#[cfg(feature = "zstd-native")]
#[path = "compression/native.rs"]
mod backend;
#[cfg(not(feature = "zstd-native"))]
#[path = "compression/pure.rs"]
mod backend;

/// Every zstd decoder must accept a window this large, in bytes (RFC 8878, 3.1.1.1.2).
const MIN_WINDOW: usize = 8 << 20;

/// No window larger than this is accepted, in bytes: what `zstd` itself allows without being told.
const MAX_WINDOW: usize = 128 << 20;

/// Why [`decompress`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecompressError {
    Corrupt,
    TooLarge { limit: usize },
}

/// Unpacks `body`, which starts at `offset` in its frame, to at most `limit` bytes: what [`Frame::decompress`] does, for
/// callers that hold the body alone.
///
/// ```
/// let body = avp_core::compress_body(&[7; 1000], avp_core::Compression::Fast);
/// assert_eq!(avp_core::decompress_body(&body, 1000, 12), Ok(vec![7; 1000]));
/// ```
///
/// Only available when `zstd` is enabled.
///
/// # Errors
///
/// [`DecodeError::Decompress`] or [`DecodeError::DecompressedTooLarge`], with this `offset`.
///
/// [`Frame::decompress`]: crate::Frame::decompress
pub fn decompress_body(body: &[u8], limit: usize, offset: usize) -> Result<Vec<u8>, DecodeError> {
    decompress(body, limit).map_err(|error| match error {
        DecompressError::Corrupt => DecodeError::Decompress { offset },
        DecompressError::TooLarge { limit } => DecodeError::DecompressedTooLarge { limit, offset },
    })
}

/// Packs a payload as a frame's body, for callers that put the head before it themselves; as it is with
/// [`Compression::None`].
///
/// Only available when `zstd` is enabled.
#[must_use]
pub fn compress_body(payload: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => payload.to_vec(),
        _ => compress(payload, compression),
    }
}

/// Unpacks one zstd frame of at most `limit` bytes.
///
/// Memory follows what was really unpacked, never what the frame claims: at most `limit` bytes of output and little
/// more, and beside it one window of at most `max(limit, 8 MiB)` and 128 MiB.
pub(crate) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    backend::decompress(bytes, limit)
}

/// Packs `payload` into one zstd frame that says how much it holds: the peers unpack in one call, which needs that.
pub(crate) fn compress(payload: &[u8], compression: Compression) -> Vec<u8> {
    backend::compress(payload, compression)
}

impl Compression {
    /// The zstd level that this build really writes: with `zstd-native` the one asked for, with `zstd` alone about 1
    /// for all of them, which is what `ruzstd` has. `None` for no compression.
    ///
    /// Only available when `zstd` is enabled.
    #[must_use]
    pub const fn effective_level(self) -> Option<i32> {
        match self.level() {
            Some(level) => Some(backend::effective_level(level)),
            None => None,
        }
    }
}

/// The largest window to accept. A decoder holds back one window of output, so a larger one than the payload may be
/// could only hide that there is too much of it.
fn window_limit(limit: usize) -> usize {
    limit.clamp(MIN_WINDOW, MAX_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn payloads_of_every_size_class_round_trip() {
        for len in [0, 1, 255, 256, 65_791, 65_792, 131_072, 131_073, 400_000] {
            let payload: Vec<u8> = (0..len).map(|i: usize| ((i * i) >> 7) as u8).collect();
            let packed = compress(&payload, Compression::Max);
            assert_eq!(decompress(&packed, len), Ok(payload), "{len}");
        }
    }

    #[test]
    fn the_level_that_is_written_is_told() {
        let told = [Compression::None, Compression::Fast, Compression::Balanced, Compression::Max]
            .map(Compression::effective_level);
        let native = [None, Some(1), Some(3), Some(19)];
        assert_eq!(
            told,
            if cfg!(feature = "zstd-native") { native } else { [None, Some(1), Some(1), Some(1)] }
        );
    }

    #[test]
    fn a_limit_one_byte_short_stops_the_unpacking() {
        let packed = compress(&vec![7; 300_000], Compression::Fast);
        assert_eq!(decompress(&packed, 299_999), Err(DecompressError::TooLarge { limit: 299_999 }));
    }

    #[test]
    fn a_bomb_without_a_content_size_stops_at_the_limit() {
        // A window of 8 MiB, then RLE blocks of 128 KiB: 4 bytes each unpack to 131072.
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];
        for _ in 0..8192 {
            bomb.extend_from_slice(&[0x02, 0x00, 0x10, 0x00]);
        }
        assert_eq!(decompress(&bomb, 1 << 20), Err(DecompressError::TooLarge { limit: 1 << 20 }));
        assert_eq!(decompress(&bomb, 1 << 24), Err(DecompressError::TooLarge { limit: 1 << 24 }));
    }

    #[test]
    fn truncated_or_padded_bodies_are_corrupt() {
        let packed = compress(b"the same words, the same words, the same words", Compression::Balanced);
        for len in 0..packed.len() {
            assert_eq!(decompress(&packed[..len], 1 << 20), Err(DecompressError::Corrupt), "{len}");
        }
        let mut padded = packed;
        padded.push(0);
        assert_eq!(decompress(&padded, 1 << 20), Err(DecompressError::Corrupt));
    }
}
