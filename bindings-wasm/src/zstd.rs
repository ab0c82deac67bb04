//! zstd bodies that come and go in pieces: the module never holds one as a whole.

use avp_core::{Compression, DecodeError, EncodeError, compress_stream, decompress_stream};

/// Takes the next bytes of the input; 0 at its end.
pub type Pull<'a> = &'a mut dyn FnMut(&mut [u8]) -> usize;

/// Hands out the next bytes of the output.
pub type Push<'a> = &'a mut dyn FnMut(&[u8]);

/// Decompresses one body of at most `limit` bytes, which starts at `offset` in its frame.
///
/// # Errors
/// Those of [`decompress_stream`]. Some of the output may have been handed out by then.
pub fn unpack(limit: usize, offset: usize, pull: Pull<'_>, push: Push<'_>) -> Result<(), DecodeError> {
    decompress_stream(
        limit,
        offset,
        |buffer| Ok(pull(buffer)),
        |piece| {
            push(piece);
            Ok(())
        },
    )
}

/// Compresses a payload of `len` bytes to one body.
///
/// # Errors
/// Those of [`compress_stream`].
pub fn pack(len: u64, pull: Pull<'_>, push: Push<'_>) -> Result<(), EncodeError> {
    compress_stream(
        Compression::Fast,
        len,
        |buffer| Ok(pull(buffer)),
        |piece| {
            push(piece);
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn packed(mut input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        let len = input.len() as u64;
        pack(len, &mut |buffer| input.read(buffer).unwrap(), &mut |bytes| output.extend_from_slice(bytes))
            .unwrap();
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
        let fields = avp_core::Metadata::default();
        let encoder = avp_core::FrameEncoder::new(fields).compression(Compression::Fast);
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
