//! zstd by `ruzstd` beside zstd by its C library, in a file of its own, because only this target needs the latter.

use std::io::Read as _;

use avp_core::{Compression, compress_body, content_size, decompress_body};
use zstd::{bulk::Compressor, stream::read::Decoder};

/// Little enough that unpacking a bomb stops soon.
const LIMIT: usize = 1 << 20;

/// Data as a payload, which each library must read as the other wrote it; then as a body, which may be refused.
///
/// A body with zstd's own checksum is never read in two ways. One without it can be, if it is damaged: `ruzstd` does not compare
/// the lengths of the four streams of literals, and the C library does not ask that each of them ends where its bits do (RFC 8878,
/// 4.2.2).
pub(crate) fn unpack(data: &[u8]) {
    let (level, checksum) = data.first().map_or((1, true), |byte| (i32::from(byte & 15) + 1, byte & 16 == 0));
    let mut compressor = Compressor::new(level).expect("a level");
    compressor.include_checksum(checksum).expect("a flag");
    let theirs = compressor.compress(data).expect("memory");
    assert_eq!(decompress_body(&theirs, LIMIT, 0).as_deref(), Ok(data), "as the C library wrote it");
    let ours = compress_body(data, Compression::Fast);
    assert_eq!(native(&ours).as_deref(), Some(data), "as this library wrote it");

    if let Ok(ours) = decompress_body(data, LIMIT, 0) {
        assert!(content_size(data).is_none_or(|stated| stated == ours.len() as u64));
        let has_checksum = data.get(4).is_some_and(|descriptor| descriptor & 4 != 0);
        if has_checksum && let Some(theirs) = native(data) {
            assert!(ours == theirs, "{} bytes, {} bytes", ours.len(), theirs.len());
        }
    }
}

/// What the C library reads from a body that is one frame.
fn native(body: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::with_buffer(body).ok()?.single_frame();
    let mut payload = Vec::new();
    (&mut decoder).take(LIMIT as u64 + 1).read_to_end(&mut payload).ok()?;
    (payload.len() <= LIMIT && decoder.finish().is_empty()).then_some(payload)
}
