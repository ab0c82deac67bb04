//! Compressed bodies, verified without holding what they unpack to.

use std::io::{self, Read};

use avp_core::DecodeError;
use ruzstd::decoding::{StreamingDecoder, errors::FrameDecoderError};

use super::Head;

/// The largest window that a body may ask the receiver to hold while it unpacks, in bytes: what `zstd` allows unasked.
const WINDOW_LIMIT: u64 = 128 << 20;

/// Bytes unpacked at a time.
const PIECE: usize = 64 << 10;

/// Checks the compressed body that follows `head`: that it unpacks, to at most `limit` bytes, whose checksum is the one that
/// the metadata names. Holds one window of it at a time; takes as long as unpacking does, so not on a thread that must
/// not block.
///
/// # Errors
/// [`DecodeError::Decompress`], also where `body` cannot be read, [`DecodeError::DecompressedTooLarge`] or
/// [`DecodeError::ChecksumMismatch`].
pub fn verify_packed(head: &Head, body: impl Read, limit: usize) -> Result<(), DecodeError> {
    let offset = head.bytes().len();
    let (corrupt, too_large) =
        (DecodeError::Decompress { offset }, DecodeError::DecompressedTooLarge { limit, offset });
    // A window above the limit could only hide a body above the limit, but any decoder must take 8 MiB (RFC 8878, 3.1.1.1.2).
    let window = (limit as u64).clamp(8 << 20, WINDOW_LIMIT);
    let mut unpacked =
        StreamingDecoder::new_with_max_window_size(body, window).map_err(|error| match error {
            FrameDecoderError::WindowSizeTooBig { .. } => too_large,
            _ => corrupt,
        })?;
    // What a body claims is not always what it unpacks to, and `decompress` refuses it by the claim.
    if unpacked.decoder.content_size() > limit as u64 {
        return Err(too_large);
    }
    let (mut sum, mut len, mut piece) = (crc32fast::Hasher::new(), 0, vec![0; PIECE]);
    loop {
        let read = match unpacked.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(corrupt),
        };
        len += read;
        if len > limit {
            return Err(too_large);
        }
        sum.update(&piece[..read]);
    }
    let decoder = &unpacked.decoder;
    let intact = decoder
        .get_checksum_from_data()
        .is_none_or(|expected| decoder.get_calculated_checksum() == Some(expected));
    // What follows the compressed frame would be nobody's.
    let ends = matches!(unpacked.into_inner().read(&mut piece), Ok(0));
    if !intact || !ends {
        return Err(corrupt);
    }
    match (head.metadata().payload_checksum(), sum.finalize()) {
        (Some(expected), actual) if expected != actual => {
            Err(DecodeError::ChecksumMismatch { expected, actual, offset })
        }
        _ => Ok(()),
    }
}
