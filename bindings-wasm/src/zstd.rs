//! zstd bodies that come and go in pieces.
//!
//! The core unpacks a body that lies in memory as a whole, which here it never does. What is accepted is the same.

use avp_core::DecodeError;
use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder, errors::FrameDecoderError},
    encoding::{CompressionLevel, compress},
    io::{Error, Read, Write},
};

/// Windows that the core accepts, in bytes: every decoder must take the first (RFC 8878, 3.1.1.1.2), none takes more than
/// the second.
const WINDOWS: (u64, u64) = (8 << 20, 128 << 20);

/// Takes the next bytes of the input; 0 at its end.
pub type Pull<'a> = &'a mut dyn FnMut(&mut [u8]) -> usize;

/// Hands out the next bytes of the output.
pub type Push<'a> = &'a mut dyn FnMut(&[u8]);

/// Unpacks one zstd frame of at most `limit` bytes, for a body that starts at `offset` in its frame.
///
/// Memory: one window of the frame's own choice, at most `max(limit, 8 MiB)` and 128 MiB, and one block.
///
/// # Errors
/// [`DecodeError::Decompress`] or [`DecodeError::DecompressedTooLarge`], as the core has them. Some of the output may have
/// been handed out by then.
pub fn unpack(limit: usize, offset: usize, pull: Pull<'_>, push: Push<'_>) -> Result<(), DecodeError> {
    let corrupt = DecodeError::Decompress { offset };
    let too_large = DecodeError::DecompressedTooLarge { limit, offset };
    let mut source = Source(pull);
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size((limit as u64).clamp(WINDOWS.0, WINDOWS.1));
    decoder.init(&mut source).map_err(|error| match error {
        FrameDecoderError::WindowSizeTooBig { .. } => too_large,
        _ => corrupt,
    })?;
    if decoder.content_size() > limit as u64 {
        return Err(too_large);
    }
    let (mut total, mut chunk) = (0_usize, Vec::new());
    while !decoder.is_finished() {
        decoder.decode_blocks(&mut source, BlockDecodingStrategy::UptoBlocks(1)).map_err(|_| corrupt)?;
        let ready = decoder.can_collect();
        if ready > limit - total {
            return Err(too_large);
        }
        chunk.resize(ready, 0);
        decoder.read_exact(&mut chunk).map_err(|_| corrupt)?;
        push(&chunk);
        total += ready;
    }
    let intact = match decoder.get_checksum_from_data() {
        Some(expected) => decoder.get_calculated_checksum() == Some(expected),
        None => true,
    };
    let ended = source.read(&mut [0]).is_ok_and(|read| read == 0);
    if intact && ended { Ok(()) } else { Err(corrupt) }
}

/// Packs `len` bytes into one zstd frame that says how much it holds.
pub fn pack(len: u64, pull: Pull<'_>, push: Push<'_>) {
    compress(Source(pull), Sized { push, len, start: Vec::new() }, CompressionLevel::Fastest);
}

struct Source<'a>(Pull<'a>);

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        Ok((self.0)(buffer).min(buffer.len()))
    }
}

/// Puts the content size into the header of the frame that passes, which `ruzstd` leaves out and the peers need.
struct Sized<'a> {
    push: Push<'a>,
    len: u64,
    /// The frame's first bytes, until there are enough of them.
    start: Vec<u8>,
}

/// Bytes in front of the first block as `ruzstd` writes them: magic, descriptor, window (RFC 8878, 3.1.1.1).
const HEADER: usize = 6;
const DESCRIPTOR: usize = 4;
const CHECKSUM_FLAG: u8 = 0x04;
const CONTENT_SIZE_8_BYTES: u8 = 0xc0;

impl Write for Sized<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if self.start.len() >= HEADER {
            (self.push)(bytes);
            return Ok(bytes.len());
        }
        self.start.extend_from_slice(bytes);
        if self.start.len() >= HEADER {
            let (header, blocks) = self.start.split_at_mut(HEADER);
            // A later `ruzstd` may write the size itself.
            let lacks_size = header[DESCRIPTOR] & !CHECKSUM_FLAG == 0;
            if lacks_size {
                header[DESCRIPTOR] |= CONTENT_SIZE_8_BYTES;
            }
            (self.push)(header);
            if lacks_size {
                (self.push)(&self.len.to_le_bytes());
            }
            (self.push)(blocks);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(mut input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        let len = input.len() as u64;
        pack(len, &mut |buffer| input.read(buffer).unwrap(), &mut |bytes| output.extend_from_slice(bytes));
        output
    }

    fn unpacked(mut input: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
        let mut output = Vec::new();
        // Few bytes at a time: a piece may end anywhere.
        let mut pull = |buffer: &mut [u8]| {
            let len = buffer.len().min(7);
            input.read(&mut buffer[..len]).unwrap()
        };
        unpack(limit, 12, &mut pull, &mut |bytes| output.extend_from_slice(bytes)).map(|()| output)
    }

    #[test]
    fn the_core_reads_what_is_packed_and_the_other_way_round() {
        let fields = avp_core::MetadataFields::default();
        let encoder = avp_core::FrameEncoder::new(fields).compression(avp_core::Compression::Fast);
        for len in [0, 1, 6, 255, 65_791, 131_073, 400_000] {
            let payload: Vec<u8> = (0..len).map(|i: usize| ((i * i) >> 7) as u8).collect();
            let body = packed(&payload);
            assert_eq!(unpacked(&body, len), Ok(payload.clone()), "{len}");
            let head = encoder.encode_head_for(body.len(), avp_core::crc32(&payload)).unwrap();
            let frame = [head, body].concat();
            assert_eq!(avp_core::Frame::decode(&frame).unwrap().decompress(len).unwrap(), &payload[..]);
        }
    }

    #[test]
    fn a_limit_one_byte_short_stops_the_unpacking() {
        let body = packed(&[7; 300_000]);
        let too_large = DecodeError::DecompressedTooLarge { limit: 299_999, offset: 12 };
        assert_eq!(unpacked(&body, 299_999), Err(too_large));
    }

    #[test]
    fn truncated_or_padded_bodies_are_corrupt() {
        let body = packed(b"the same words, the same words, the same words");
        for len in 0..body.len() {
            assert_eq!(unpacked(&body[..len], 99), Err(DecodeError::Decompress { offset: 12 }), "{len}");
        }
        assert_eq!(unpacked(&[&body[..], &[0]].concat(), 99), Err(DecodeError::Decompress { offset: 12 }));
    }
}
