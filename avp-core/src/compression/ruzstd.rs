//! zstd through `ruzstd`: pure Rust, works without std.

use alloc::{vec, vec::Vec};
use core::hash::Hasher as _;

use ruzstd::{
    decoding::{BlockDecodingStrategy, FrameDecoder},
    encoding::{CompressionLevel, FrameCompressor, MatchGeneratorDriver},
    io::{Error, ErrorKind, Read},
};

use super::{Fault, PIECE, Source, take};

/// `ruzstd` has one level, about zstd's 1.
pub(super) const fn effective_level(_: i32) -> i32 {
    1
}

pub(super) fn decompress<E>(
    mut source: impl Read,
    max_window: usize,
    piece_len: usize,
    mut sink: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
) -> Result<(), Fault<E>> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(max_window as u64);
    decoder.init(&mut source).map_err(corrupt)?;
    let mut piece = vec![0; piece_len];
    while !decoder.is_finished() {
        // One block is at most 128 KiB, so the sink sees its limit within that.
        decoder.decode_blocks(&mut source, BlockDecodingStrategy::UptoBlocks(1)).map_err(corrupt)?;
        while decoder.can_collect() > 0 {
            let read = decoder.read(&mut piece).map_err(corrupt)?;
            sink(&piece[..read])?;
        }
    }
    let is_intact = decoder
        .get_checksum_from_data()
        .is_none_or(|expected| decoder.get_calculated_checksum() == Some(expected));
    if !is_intact || source.read(&mut [0]).map_err(corrupt)? != 0 {
        return Err(Fault::Library);
    }
    Ok(())
}

fn corrupt<T, E>(_: T) -> Fault<E> {
    Fault::Library
}

/// Magic number, descriptor (a content size of 8 bytes, a checksum) and window (128 KiB) of RFC 8878, 3.1.1.1.
const HEADER: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0xc4, 7 << 3];

/// Each block is compressed as a frame of its own and moved into the one that is written: `ruzstd` neither writes the
/// content size, which the peers need, nor forgets the Huffman table of a block that it stored raw in the end.
pub(super) fn compress<E, F: FnMut(&mut [u8]) -> Result<usize, E>>(
    source: &mut Source<'_, F, E>,
    len: u64,
    _level: i32,
    _piece_len: usize,
    mut sink: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
) -> Result<(), Fault<E>> {
    sink(&HEADER)?;
    sink(&len.to_le_bytes())?;
    let mut sum = twox_hash::XxHash64::with_seed(0);
    let mut compressor = FrameCompressor::new(CompressionLevel::Fastest);
    let (mut block, mut total) = (Block::default(), 0);
    loop {
        block.data.resize(PIECE, 0);
        // An error of the source ends the payload here and is reported by its owner.
        let filled = source.fill(&mut block.data);
        total += filled as u64;
        let is_last = filled < PIECE || total >= len;
        block.data.truncate(filled);
        block.read = 0;
        sum.write(&block.data);
        write_block(&mut compressor, &mut block, is_last, &mut sink)?;
        if is_last {
            if filled == PIECE {
                // A source that is longer than it should be shows it here.
                source.pull(&mut [0]);
            }
            return sink(&(sum.finish() as u32).to_le_bytes());
        }
    }
}

type Compressor = FrameCompressor<Block, Vec<u8>, MatchGeneratorDriver>;

fn write_block<E>(
    compressor: &mut Compressor,
    block: &mut Block,
    is_last: bool,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut drain = compressor.take_drain().unwrap_or_default();
    drain.clear();
    compressor.set_drain(drain);
    compressor.set_source(core::mem::take(block));
    compressor.compress();
    *block = compressor.take_source().unwrap_or_default();
    let frame = compressor.drain().map(Vec::as_slice).unwrap_or_default();
    let (kind, size, content) = first_block(frame).unwrap_or((RAW, block.data.len(), &block.data));
    let header = (size as u32) << 3 | kind << 1 | u32::from(is_last);
    sink(&header.to_le_bytes()[..3])?;
    sink(content)
}

const RAW: u32 = 0;
const RLE: u32 = 1;

/// Type, size and content of the first block of a frame with a window byte in its header and no content size.
fn first_block(frame: &[u8]) -> Option<(u32, usize, &[u8])> {
    const CHECKSUM_FLAG: u8 = 0x04;
    let (header, blocks) = frame.split_first_chunk::<6>()?;
    if header[4] & !CHECKSUM_FLAG != 0 {
        return None;
    }
    let (&[a, b, c], content) = blocks.split_first_chunk()?;
    let block = u32::from_le_bytes([a, b, c, 0]);
    let (kind, size) = ((block >> 1) & 3, (block >> 3) as usize);
    Some((kind, size, content.get(..if kind == RLE { 1 } else { size })?))
}

/// The data of one block, read by the compressor and taken back.
#[derive(Default)]
struct Block {
    data: Vec<u8>,
    read: usize,
}

impl Read for Block {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let len = take(&mut &self.data[self.read..], buffer);
        self.read += len;
        Ok(len)
    }
}

impl<E, F: FnMut(&mut [u8]) -> Result<usize, E>> Read for &mut Source<'_, F, E> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.pull(buffer).ok_or_else(|| ErrorKind::Other.into())
    }
}
