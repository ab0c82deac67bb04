//! zstd through its C library: every level, and the speed of C.

use std::{io::Read as _, vec::Vec};

use zstd::{bulk, stream::read::Decoder, zstd_safe};

use super::{DecompressError, window_limit};
use crate::Compression;

pub(super) const fn effective_level(level: i32) -> i32 {
    level
}

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let too_large = DecompressError::TooLarge { limit };
    match zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(claimed)) if claimed > limit as u64 => return Err(too_large),
        Ok(_) => {}
        Err(_) => return Err(DecompressError::Corrupt),
    }
    let corrupt = |_| DecompressError::Corrupt;
    let mut decoder = Decoder::with_buffer(bytes).map_err(corrupt)?.single_frame();
    decoder.window_log_max(window_limit(limit).ilog2()).map_err(corrupt)?;
    let mut payload = Vec::new();
    // One byte over the limit tells a payload that ends there from one that goes on.
    decoder.by_ref().take((limit as u64).saturating_add(1)).read_to_end(&mut payload).map_err(corrupt)?;
    if payload.len() > limit {
        return Err(too_large);
    }
    match decoder.finish() {
        [] => Ok(payload),
        _ => Err(DecompressError::Corrupt),
    }
}

pub(super) fn compress(payload: &[u8], compression: Compression) -> Vec<u8> {
    let level = compression.level().unwrap_or_default();
    // The library fails for lack of memory alone, where the allocator would abort as well: the output buffer has the
    // size that it asks for, and the levels are its own.
    bulk::compress(payload, level).unwrap_or_else(|error| panic!("zstd cannot compress: {error}"))
}
