//! zstd bodies: decompressed within limits, compressed at one of the protocol's levels; whole or in pieces.
//!
//! A body is one zstd frame. It is read by pulling its bytes from a source and pushing what they decompress to into a
//! sink, so that neither side must hold all of it.

use alloc::vec::Vec;

use crate::{Checksum, Compression, DecodeError, EncodeError, FrameHead};

#[cfg(feature = "zstd-native")]
#[path = "native.rs"]
mod backend;
#[cfg(not(feature = "zstd-native"))]
#[path = "ruzstd.rs"]
mod backend;

/// Every zstd decoder must accept a window this large, in bytes (RFC 8878, 3.1.1.1.2).
const MIN_WINDOW: usize = 8 << 20;

/// No window larger than this is accepted, in bytes: the default limit of `zstd` itself.
const MAX_WINDOW: usize = 128 << 20;

/// The first bytes of a zstd frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The reserved bit of the descriptor in a frame's header.
const RESERVED: u8 = 0x08;

/// Bytes of the longest header of a zstd frame (RFC 8878, 3.1.1).
const MAX_HEADER: usize = 18;

/// Bytes that pass to a sink at a time: zstd's largest block.
const PIECE: usize = 128 << 10;

/// What a decoder needs beside its window, in bytes: blocks, tables and buffers.
const DECODER: usize = 1 << 20;

/// Decompresses `body`, which starts at `offset` in its frame, to at most `limit` bytes: [`Frame::decompress`] for callers
/// that hold the body alone.
///
/// ```
/// use avp_core::{Compression, compress_body, decompress_body};
///
/// let body = compress_body(&[7; 1000], Compression::Fast);
/// assert_eq!(decompress_body(&body, 1000, 12), Ok(vec![7; 1000]));
/// ```
///
/// Memory follows the bytes that were decompressed, never the length that the body claims.
///
/// Only available when `zstd` is enabled.
///
/// # Errors
///
/// [`DecodeError::Decompress`] or [`DecodeError::DecompressedTooLarge`], with this `offset`.
///
/// [`Frame::decompress`]: crate::Frame::decompress
pub fn decompress_body(body: &[u8], limit: usize, offset: usize) -> Result<Vec<u8>, DecodeError> {
    let mut payload = Vec::new();
    decompress_stream(limit, offset, from_parts(&[body]), |piece| {
        payload.extend_from_slice(piece);
        Ok::<(), DecodeError>(())
    })?;
    Ok(payload)
}

/// Decompresses a body that comes from `source` in pieces, and passes it on to `sink` in pieces: see
/// [`decompress_body`].
///
/// `source` fills a buffer from its start and returns how many bytes it wrote, 0 at the end of the body. Memory holds one
/// window of the body. A window may be as large as `limit`, rounded up to a power of two between 8 MiB and 128 MiB. Some
/// of the payload may have passed before an error.
///
/// Only available when `zstd` is enabled.
///
/// # Errors
///
/// [`DecodeError::Decompress`], [`DecodeError::DecompressedTooLarge`] for a payload or a window that is too large, or the
/// error of `source` or `sink`.
pub fn decompress_stream<E: From<DecodeError>>(
    limit: usize,
    offset: usize,
    source: impl FnMut(&mut [u8]) -> Result<usize, E>,
    sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut header = [0; MAX_HEADER];
    let mut source = Source { ahead: &[], pull: source, fault: None };
    let filled = source.fill(&mut header);
    source.ahead = &header[..filled];
    let ended = decompress_frame(&mut source, limit, sink);
    match (source.fault, ended) {
        (Some(fault), _) | (None, Err(Fault::Ours(fault))) => Err(fault),
        (None, Ok(())) => Ok(()),
        (None, Err(Fault::Library)) => Err(DecodeError::Decompress { offset }.into()),
        (None, Err(Fault::TooLarge)) => Err(DecodeError::DecompressedTooLarge { limit, offset }.into()),
    }
}

/// Decompresses the frame in `source`, whose header was read ahead.
fn decompress_frame<E>(
    source: &mut Source<'_, impl FnMut(&mut [u8]) -> Result<usize, E>, E>,
    limit: usize,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Fault<E>> {
    let header = FrameHeader::decode(source.ahead).ok_or(Fault::Library)?;
    let max_window = max_window(limit);
    if header.window > max_window as u64 || header.content_size > Some(limit as u64) {
        return Err(Fault::TooLarge);
    }
    let mut total = 0;
    backend::decompress(source, max_window, piece_len(header.content_size), |piece| {
        total += piece.len() as u64;
        if total > limit as u64 {
            return Err(Fault::TooLarge);
        }
        sink(piece).map_err(Fault::Ours)
    })?;
    match header.content_size {
        Some(stated) if stated != total => Err(Fault::Library),
        _ => Ok(()),
    }
}

/// Checks the compressed body after `head`, which comes from `source` in pieces: that it decompresses to at most `limit`
/// bytes with the checksum of the metadata. See [`decompress_stream`].
///
/// It takes as long as decompressing, so call it where blocking is allowed.
///
/// Only available when `zstd` is enabled.
///
/// # Errors
///
/// [`DecodeError::Decompress`], [`DecodeError::DecompressedTooLarge`] or [`DecodeError::ChecksumMismatch`], or the error
/// of `source`.
pub fn verify_compressed<E: From<DecodeError>>(
    head: &FrameHead<'_>,
    limit: usize,
    source: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), E> {
    let offset = head.body_offset();
    let mut sum = crc32fast::Hasher::new();
    decompress_stream(limit, offset, source, |piece| {
        sum.update(piece);
        Ok(())
    })?;
    if let Some(expected) = head.metadata().payload_checksum {
        Checksum { expected, actual: sum.finalize() }.check(offset)?;
    }
    Ok(())
}

/// The length of the payload that the start of a compressed body states (RFC 8878, 3.1.1.1.4); `None` if it states none.
/// 18 bytes are enough. A sender may state any length, so pass it on as the limit of decompression.
///
/// ```
/// use avp_core::{Compression, compress_body, content_size};
///
/// assert_eq!(content_size(&compress_body(&[7; 1000], Compression::Fast)), Some(1000));
/// ```
///
/// Only available when `zstd` is enabled.
#[must_use]
pub fn content_size(body: &[u8]) -> Option<u64> {
    FrameHeader::decode(body)?.content_size
}

/// The most memory that decompressing the body with this start takes, in bytes, beside what it decompresses to: its window, and
/// what the decoder needs. `limit` is that of [`decompress_stream`], which refuses larger windows. 18 bytes are enough.
///
/// ```
/// use avp_core::{Compression, compress_body, decompression_memory};
///
/// let body = compress_body(&[7; 1000], Compression::Fast);
/// assert!(decompression_memory(&body, 1 << 30) < 2 << 20);
/// ```
///
/// Only available when `zstd` is enabled.
#[must_use]
pub fn decompression_memory(body: &[u8], limit: usize) -> usize {
    let window = FrameHeader::decode(body).map_or(0, |header| header.window);
    // A decoder takes a power of two, and a block or two beside it.
    let window = usize::try_from(window).unwrap_or(usize::MAX).min(max_window(limit));
    window.next_power_of_two() + DECODER
}

/// Compresses a payload to the body of a frame, for callers that write the head themselves; a copy with
/// [`Compression::None`].
///
/// Data that does not shrink is stored raw, with three bytes for each 128 KiB.
///
/// Only available when `zstd` is enabled.
#[must_use]
pub fn compress_body(payload: &[u8], compression: Compression) -> Vec<u8> {
    compress_parts(&[payload], compression)
}

/// [`compress_body`] for a payload in parts.
pub(crate) fn compress_parts(parts: &[&[u8]], compression: Compression) -> Vec<u8> {
    if compression == Compression::None {
        return parts.concat();
    }
    let len = parts.iter().map(|part| part.len() as u64).sum();
    // Growing it step by step would copy it; what is not needed costs address space alone until it is given back.
    let mut body = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    compress_stream(compression, len, from_parts(parts), |piece| {
        body.extend_from_slice(piece);
        Ok::<(), EncodeError>(())
    })
    .expect("the parts are as long as they are together");
    body.shrink_to_fit();
    body
}

/// Compresses a payload of `len` bytes that comes from `source` in pieces, and passes the body on to `sink` in pieces:
/// see [`compress_body`].
///
/// The body says how many bytes it holds, because the peers decompress it in one call. [`Compression::None`] counts as
/// [`Compression::Fast`].
///
/// Only available when `zstd` is enabled.
///
/// # Errors
///
/// [`EncodeError::SourceLength`] if `source` gives more or fewer than `len` bytes, or the error of `source` or `sink`.
///
/// # Panics
///
/// With `zstd-native`, if the C library cannot allocate its tables.
pub fn compress_stream<E: From<EncodeError>>(
    compression: Compression,
    len: u64,
    mut source: impl FnMut(&mut [u8]) -> Result<usize, E>,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut given = 0_u64;
    let mut source = Source {
        ahead: &[],
        pull: |buffer: &mut [u8]| {
            let read = source(buffer)?;
            given = given.saturating_add(read as u64);
            // A longer source is cut where the difference shows.
            if given > len {
                Err(EncodeError::SourceLength { expected: len, got: given }.into())
            } else {
                Ok(read)
            }
        },
        fault: None,
    };
    let level = compression.level().unwrap_or(1);
    let piece_len = piece_len(Some(len));
    let ended =
        backend::compress(&mut source, len, level, piece_len, |piece| sink(piece).map_err(Fault::Ours));
    match (source.fault, ended) {
        (Some(fault), _) | (None, Err(Fault::Ours(fault))) => Err(fault),
        (None, _) if given < len => Err(EncodeError::SourceLength { expected: len, got: given }.into()),
        (None, Ok(())) => Ok(()),
        // The levels and the length are right, so nothing else can fail. The allocator would end the program here.
        (None, Err(Fault::Library | Fault::TooLarge)) => panic!("zstd cannot compress: out of memory"),
    }
}

impl Compression {
    /// The zstd level that this build writes: with `zstd-native` the protocol's level, with `zstd` alone 1 for every
    /// setting, because `ruzstd` has no other. `None` for no compression.
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

/// The length of the buffers for a payload of `len` bytes, if that is known: larger ones than the payload take longer to get than
/// to fill.
fn piece_len(len: Option<u64>) -> usize {
    len.and_then(|len| usize::try_from(len).ok()).map_or(PIECE, |len| len.clamp(1 << 10, PIECE))
}

/// A callback that is read from, and keeps the error that a reader's own error cannot carry.
struct Source<'h, F, E> {
    /// Bytes that come before those of the callback.
    ahead: &'h [u8],
    pull: F,
    fault: Option<E>,
}

impl<E, F: FnMut(&mut [u8]) -> Result<usize, E>> Source<'_, F, E> {
    /// `None` after an error, which is kept.
    fn pull(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if self.fault.is_some() {
            return None;
        }
        if !self.ahead.is_empty() {
            return Some(take(&mut self.ahead, buffer));
        }
        match (self.pull)(buffer) {
            Ok(read) => Some(read.min(buffer.len())),
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }

    /// Fills `buffer` until the source ends or fails, and returns how many bytes there are.
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.pull(&mut buffer[filled..]) {
                Some(read) if read > 0 => filled += read,
                _ => break,
            }
        }
        filled
    }
}

/// Why a backend stopped.
enum Fault<E> {
    /// The library failed: on a corrupt body, or for lack of memory when compressing.
    Library,
    /// The payload or its window is larger than the limit.
    TooLarge,
    Ours(E),
}

/// The claims of a zstd frame about itself (RFC 8878, 3.1.1.1).
struct FrameHeader {
    window: u64,
    content_size: Option<u64>,
}

impl FrameHeader {
    /// Reads the header at the start of `frame`. Both backends read it again, and refuse the rest of its faults.
    fn decode(frame: &[u8]) -> Option<Self> {
        let (&descriptor, mut rest) = frame.strip_prefix(&MAGIC)?.split_first()?;
        // "A compliant decoder must ensure" that it is 0 (RFC 8878, 3.1.1.1.1), and `ruzstd` does not.
        if descriptor & RESERVED != 0 {
            return None;
        }
        let is_single_segment = descriptor & 0x20 != 0;
        let mut window = None;
        if !is_single_segment {
            let (&byte, after) = rest.split_first()?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = Some(base + base / 8 * u64::from(byte & 7));
            rest = after;
        }
        let dictionary_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let len = [usize::from(is_single_segment), 2, 4, 8][usize::from(descriptor >> 6)];
        let mut size = [0; 8];
        size[..len].copy_from_slice(rest.get(dictionary_id..)?.get(..len)?);
        // Two bytes hold sizes from 256 on.
        let size = u64::from_le_bytes(size) + if len == 2 { 256 } else { 0 };
        Some(Self { window: window.unwrap_or(size), content_size: (len > 0).then_some(size) })
    }
}

/// The largest window to accept. A decoder holds back one window of output, so a window larger than the payload may be
/// could only hide that there is too much of it. The C library takes powers of two alone.
fn max_window(limit: usize) -> usize {
    limit.clamp(MIN_WINDOW, MAX_WINDOW).next_power_of_two()
}

fn from_parts<'p, E>(parts: &'p [&'p [u8]]) -> impl FnMut(&mut [u8]) -> Result<usize, E> + 'p {
    let mut parts = parts.iter().copied();
    let mut part: &[u8] = &[];
    move |buffer| {
        while part.is_empty() {
            match parts.next() {
                Some(next) => part = next,
                None => return Ok(0),
            }
        }
        Ok(take(&mut part, buffer))
    }
}

/// Moves the first bytes of `from` to `buffer`, as many as fit, and returns their number.
fn take(from: &mut &[u8], buffer: &mut [u8]) -> usize {
    let (now, later) = from.split_at(from.len().min(buffer.len()));
    buffer[..now.len()].copy_from_slice(now);
    *from = later;
    now.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrameEncoder, Metadata};
    use alloc::vec;

    /// Bytes that no compressor shrinks.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x1234_5678_9abc_def0_u64;
        let mut step = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..len).map(|_| (step() >> 32) as u8).collect()
    }

    fn too_large(limit: usize) -> Result<Vec<u8>, DecodeError> {
        Err(DecodeError::DecompressedTooLarge { limit, offset: 12 })
    }

    const CORRUPT: Result<Vec<u8>, DecodeError> = Err(DecodeError::Decompress { offset: 12 });

    #[test]
    fn payloads_of_every_size_class_round_trip() {
        let lens = [0, 1, 255, 256, 65_791, 65_792, 131_072, 131_073, 400_000];
        for len in lens.into_iter().take(if cfg!(miri) { 4 } else { 9 }) {
            let payload: Vec<u8> = (0..len).map(|i: usize| (i.wrapping_mul(i) >> 7) as u8).collect();
            let packed = compress_body(&payload, Compression::Max);
            assert_eq!(decompress_body(&packed, len, 12), Ok(payload), "{len}");
        }
    }

    #[test]
    fn a_body_with_the_reserved_bit_is_refused() {
        let mut packed = compress_body(&[7; 1000], Compression::Fast);
        packed[MAGIC.len()] |= RESERVED;
        assert_eq!(decompress_body(&packed, 1000, 12), CORRUPT);
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn blocks_that_shrink_and_blocks_that_do_not_stand_side_by_side() {
        let text: Vec<u8> =
            b"some words, some words and others; ".iter().copied().cycle().take(90_000).collect();
        // Almost noise: its literals shrink a little, the whole block may not.
        let almost: Vec<u8> = noise(200_000).iter().map(|byte| byte & 0x7f | (byte >> 1) & 0x80).collect();
        for order in
            [[&noise(131_072), &text, &almost], [&almost, &noise(70_000), &text], [&text, &almost, &text]]
        {
            let payload = [&order[0][..], order[1], order[2], order[0]].concat();
            let packed = compress_body(&payload, Compression::Balanced);
            assert_eq!(decompress_body(&packed, payload.len(), 12), Ok(payload));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn data_that_does_not_shrink_is_stored_raw() {
        for len in [100, 131_072, 1_000_000] {
            let payload = noise(len);
            let packed = compress_body(&payload, Compression::Fast);
            // The header takes up to 14 bytes, the checksum 4.
            assert!(packed.len() <= len + 18 + 3 * (len / PIECE + 2), "{len} bytes became {}", packed.len());
            assert_eq!(decompress_body(&packed, len, 12), Ok(payload));
        }
    }

    #[test]
    fn the_level_that_is_written_is_reported() {
        let told = [Compression::None, Compression::Fast, Compression::Balanced, Compression::Max]
            .map(Compression::effective_level);
        let native = [None, Some(1), Some(3), Some(19)];
        assert_eq!(
            told,
            if cfg!(feature = "zstd-native") { native } else { [None, Some(1), Some(1), Some(1)] }
        );
    }

    #[cfg(feature = "zstd-native")]
    #[test]
    fn levels_1_3_and_19_give_different_bytes() {
        // Words of two letters and a space, in no order: matches of every length and distance.
        let words = noise(100_000).into_iter().flat_map(|byte| [b'a' + byte % 16, b'a' + byte / 16, b' ']);
        let payload: Vec<u8> = words.collect();
        let [fast, balanced, max] = [Compression::Fast, Compression::Balanced, Compression::Max]
            .map(|compression| compress_body(&payload, compression));
        assert!(fast != balanced && balanced != max && fast != max);
        assert!(max.len() < fast.len(), "{} {} {}", fast.len(), balanced.len(), max.len());
    }

    #[test]
    fn the_content_size_of_every_form_is_read_and_a_missing_one_is_not() {
        let lens = [0, 1, 255, 256, 65_791, 65_792, 131_073];
        for len in lens.into_iter().take(if cfg!(miri) { 4 } else { 7 }) {
            let packed = compress_body(&noise(len), Compression::Fast);
            assert_eq!(content_size(&packed[..packed.len().min(18)]), Some(len as u64), "{len}");
        }
        let header =
            |descriptor| [0x28, 0xb5, 0x2f, 0xfd, descriptor, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        for (descriptor, size) in [
            (0x00, None),
            (0x03, None),
            (0x20, Some(0x01)),
            (0x23, Some(0x05)),
            (0x40, Some(0x0302 + 256)),
            (0x61, Some(0x0302 + 256)),
            (0x82, Some(0x0706_0504)),
            (0xa0, Some(0x0403_0201)),
            (0xc3, Some(0x0d0c_0b0a_0908_0706)),
        ] {
            assert_eq!(content_size(&header(descriptor)), size, "{descriptor:#x}");
        }
        for cut in [&header(0xc3)[..17], &header(0x20)[..5], &header(0x20)[1..], b""] {
            assert_eq!(content_size(cut), None);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn a_limit_one_byte_short_stops_the_decompression() {
        let packed = compress_body(&vec![7; 300_000], Compression::Fast);
        assert_eq!(decompress_body(&packed, 299_999, 12), too_large(299_999));
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn a_bomb_without_a_content_size_stops_at_the_limit() {
        // A window of 8 MiB, then RLE blocks of 128 KiB: 4 bytes each decompress to 131072.
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];
        for _ in 0..8192 {
            bomb.extend_from_slice(&[0x02, 0x00, 0x10, 0x00]);
        }
        assert_eq!(decompress_body(&bomb, 1 << 20, 12), too_large(1 << 20));
        assert_eq!(decompress_body(&bomb, 1 << 24, 12), too_large(1 << 24));
    }

    #[test]
    fn a_body_that_claims_more_than_the_limit_is_refused_by_its_claim() {
        // One segment, a content size of 8 bytes (RFC 8878, 3.1.1.1), and no block.
        let mut body = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        body.extend_from_slice(&(4_u64 << 20).to_le_bytes());
        assert_eq!(decompress_body(&body, (4 << 20) - 1, 12), too_large((4 << 20) - 1));
        assert_eq!(decompress_body(&body, 4 << 20, 12), CORRUPT);
    }

    /// A frame with this header, less the magic number, and with RLE blocks of `lens` bytes.
    fn of_blocks(header: &[u8], lens: &[u32]) -> Vec<u8> {
        let mut frame = [&MAGIC, header].concat();
        for (index, len) in lens.iter().enumerate() {
            let block = len << 3 | 1 << 1 | u32::from(index + 1 == lens.len());
            frame.extend_from_slice(&block.to_le_bytes()[..3]);
            frame.push(7);
        }
        frame
    }

    #[test]
    fn a_window_above_the_limit_is_too_large_however_small_the_payload_is() {
        // Without a content size, and with one in 8 bytes.
        for (descriptor, size) in [(0, &[][..]), (0xc0, &[1, 0, 0, 0, 0, 0, 0, 0])] {
            let frame = |window: u8| of_blocks(&[&[descriptor, window][..], size].concat(), &[1]);
            let [mib_8, mib_9, mib_16, mib_128, mib_144] =
                [13 << 3, 13 << 3 | 1, 14 << 3, 17 << 3, 17 << 3 | 1];
            assert_eq!(decompress_body(&frame(mib_8), 1, 12), Ok(vec![7]));
            assert_eq!(decompress_body(&frame(mib_9), 8 << 20, 12), too_large(8 << 20));
            assert_eq!(decompress_body(&frame(mib_16), (8 << 20) + 1, 12), Ok(vec![7]));
            assert_eq!(decompress_body(&frame(mib_128), 1 << 30, 12), Ok(vec![7]));
            assert_eq!(decompress_body(&frame(mib_144), 1 << 30, 12), too_large(1 << 30));
        }
    }

    #[test]
    fn a_payload_of_another_size_than_the_stated_one_is_corrupt() {
        // A single segment with 1, 2, 4 and 8 bytes of content size; two bytes count from 256 on.
        for (header, len) in [
            (&[0x20, 255][..], 255),
            (&[0x60, 0xff, 0xff], 65_791),
            (&[0xa0, 255, 0, 0, 0], 255),
            (&[0xe0, 255, 0, 0, 0, 0, 0, 0, 0], 255),
        ] {
            assert_eq!(decompress_body(&of_blocks(header, &[len]), 1 << 20, 12), Ok(vec![7; len as usize]));
            for wrong in [len - 1, len + 1] {
                assert_eq!(decompress_body(&of_blocks(header, &[wrong]), 1 << 20, 12), CORRUPT, "{header:?}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn pieces_are_no_larger_than_a_block_however_large_the_window_is() {
        let frame = of_blocks(&[0, 13 << 3], &[PIECE as u32; 80]);
        let mut total = 0;
        decompress_stream::<DecodeError>(1 << 30, 12, from_parts(&[&frame]), |piece| {
            assert!(piece.len() <= PIECE, "{}", piece.len());
            total += piece.len();
            Ok(())
        })
        .unwrap();
        assert_eq!(total, 80 * PIECE);
    }

    #[test]
    fn truncated_or_padded_bodies_are_corrupt() {
        let packed = compress_body(b"the same words, the same words, the same words", Compression::Balanced);
        for len in 0..packed.len() {
            assert_eq!(decompress_body(&packed[..len], 1 << 20, 12), CORRUPT, "{len}");
        }
        let mut padded = packed;
        padded.push(0);
        assert_eq!(decompress_body(&padded, 1 << 20, 12), CORRUPT);
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn pieces_give_the_bytes_of_the_whole() {
        let payload: Vec<u8> = (0..300_000_usize).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let whole = compress_body(&payload, Compression::Fast);
        let mut rest = &payload[..];
        let mut packed = vec![];
        let few = |rest: &mut &[u8], buffer: &mut [u8]| {
            let len = buffer.len().min(1009);
            take(rest, &mut buffer[..len])
        };
        let len = payload.len() as u64;
        compress_stream::<EncodeError>(
            Compression::Fast,
            len,
            |buffer| Ok(few(&mut rest, buffer)),
            |piece| {
                packed.extend_from_slice(piece);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(decompress_body(&packed, payload.len(), 12).as_ref(), Ok(&payload));
        let (mut rest, mut unpacked) = (&whole[..], vec![]);
        decompress_stream::<DecodeError>(
            payload.len(),
            12,
            |buffer| Ok(few(&mut rest, buffer)),
            |piece| {
                unpacked.extend_from_slice(piece);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(unpacked, payload);
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn a_source_of_another_length_is_refused() {
        // A block of the pure backend has 131072 bytes.
        for (len, got) in [(5, 6), (7, 6), (131_072, 131_073), (131_073, 131_072), (131_072, 131_071)] {
            let payload = vec![7; got];
            let ended = compress_stream(Compression::Fast, len, from_parts(&[&payload]), |_| Ok(()));
            assert_eq!(ended, Err(EncodeError::SourceLength { expected: len, got: got as u64 }));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes take Miri hours")]
    fn a_compressed_body_is_verified_by_its_payload() {
        let body = vec![7; 300_000];
        let encoder = FrameEncoder::new(Metadata::default()).compression(Compression::Fast);
        let mut frame = encoder.encode(&body).unwrap();
        let offset = FrameHead::decode(&frame).unwrap().body_offset();
        let verify = |frame: &[u8], end: usize, limit| {
            let head = FrameHead::decode(frame).unwrap();
            verify_compressed::<DecodeError>(&head, limit, from_parts(&[&frame[offset..end]]))
                .map_err(|error| error.kind())
        };
        let end = frame.len();
        assert_eq!(verify(&frame, end, 300_000), Ok(()));
        assert_eq!(verify(&frame, end, 299_999), Err("decompressed_too_large"));
        assert_eq!(verify(&frame, offset + 20, 300_000), Err("bad_compression"));
        // A byte of the checksum in the metadata: the body is sound, but another one's.
        let sum = crate::crc32(&body).to_le_bytes()[0] & 0x7f;
        let place = frame[12..offset].iter().rposition(|byte| byte & 0x7f == sum).unwrap();
        frame[12 + place] ^= 1;
        assert_eq!(verify(&frame, end, 300_000), Err("checksum_mismatch"));
    }
}
