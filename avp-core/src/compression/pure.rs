//! zstd through `ruzstd`: pure Rust, works without std.

use alloc::vec::Vec;

use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder, errors::FrameDecoderError},
    encoding::{CompressionLevel, compress_to_vec},
    io::Read as _,
};

use super::{DecompressError, window_limit};
use crate::Compression;

/// `ruzstd` has one level, about zstd's 1.
pub(super) const fn effective_level(_: i32) -> i32 {
    1
}

pub(super) fn decompress(mut bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let too_large = DecompressError::TooLarge { limit };
    let mut decoder = FrameDecoder::new();
    // A decoder holds back one window of output. A window above the limit could only hide a body above the limit.
    decoder.set_max_window_size(window_limit(limit) as u64);
    decoder.init(&mut bytes).map_err(|error| match error {
        FrameDecoderError::WindowSizeTooBig { .. } => too_large,
        _ => DecompressError::Corrupt,
    })?;
    if decoder.content_size() > limit as u64 {
        return Err(too_large);
    }
    let mut payload = Vec::new();
    while !decoder.is_finished() {
        // One block is at most 128 KiB, so the limit is noticed within that.
        decoder
            .decode_blocks(&mut bytes, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| DecompressError::Corrupt)?;
        let ready = decoder.can_collect();
        let start = payload.len();
        if ready > limit - start {
            return Err(too_large);
        }
        payload.resize(start + ready, 0);
        decoder.read_exact(&mut payload[start..]).map_err(|_| DecompressError::Corrupt)?;
    }
    let intact = match decoder.get_checksum_from_data() {
        Some(expected) => decoder.get_calculated_checksum() == Some(expected),
        None => true,
    };
    if !intact || !bytes.is_empty() {
        return Err(DecompressError::Corrupt);
    }
    Ok(payload)
}

pub(super) fn compress(payload: &[u8], _: Compression) -> Vec<u8> {
    with_content_size(compress_to_vec(payload, CompressionLevel::Fastest), payload.len() as u64)
}

/// Puts the content size into the header of a zstd frame that `ruzstd` wrote.
///
/// The peers unpack in one call, which needs the size, and `ruzstd` leaves it out. In its frames the magic (4 bytes)
/// is followed by a descriptor that announces a window byte and nothing else (RFC 8878, 3.1.1.1).
fn with_content_size(frame: Vec<u8>, content_size: u64) -> Vec<u8> {
    const DESCRIPTOR: usize = 4;
    const BLOCKS: usize = DESCRIPTOR + 2;
    const CHECKSUM_FLAG: u8 = 0x04;
    const CONTENT_SIZE_8_BYTES: u8 = 0xc0;

    match frame.get(DESCRIPTOR) {
        Some(&descriptor) if descriptor & !CHECKSUM_FLAG == 0 && frame.len() >= BLOCKS => {
            let mut sized = Vec::with_capacity(frame.len() + 8);
            sized.extend_from_slice(&frame[..BLOCKS]);
            sized[DESCRIPTOR] |= CONTENT_SIZE_8_BYTES;
            sized.extend_from_slice(&content_size.to_le_bytes());
            sized.extend_from_slice(&frame[BLOCKS..]);
            sized
        }
        // A later `ruzstd` that writes the size itself.
        _ => frame,
    }
}
