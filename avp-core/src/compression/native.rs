//! zstd through its C library: every level, and the speed of C.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    vec,
};

use zstd::stream::read::{Decoder, Encoder};

use super::{Fault, Source};

pub(super) const fn effective_level(level: i32) -> i32 {
    level
}

pub(super) fn decompress<E>(
    source: impl Read,
    max_window: usize,
    piece_len: usize,
    sink: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
) -> Result<(), Fault<E>> {
    let mut decoder = Decoder::with_buffer(BufReader::with_capacity(piece_len, source))?.single_frame();
    decoder.window_log_max(max_window.ilog2())?;
    pass(&mut decoder, piece_len, sink)?;
    match decoder.finish().fill_buf()? {
        [] => Ok(()),
        _ => Err(Fault::Library),
    }
}

pub(super) fn compress<E>(
    source: impl Read,
    len: u64,
    level: i32,
    piece_len: usize,
    sink: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
) -> Result<(), Fault<E>> {
    let mut encoder = Encoder::with_buffer(BufReader::with_capacity(piece_len, source), level)?;
    encoder.set_pledged_src_size(Some(len))?;
    pass(&mut encoder, piece_len, sink)
}

/// Passes all that `reader` gives to `sink`, up to `piece_len` bytes at a time.
fn pass<E>(
    reader: &mut impl Read,
    piece_len: usize,
    mut sink: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
) -> Result<(), Fault<E>> {
    let mut piece = vec![0; piece_len];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(()),
            read => sink(&piece[..read])?,
        }
    }
}

impl<E> From<io::Error> for Fault<E> {
    fn from(_: io::Error) -> Self {
        Self::Library
    }
}

impl<E, F: FnMut(&mut [u8]) -> Result<usize, E>> Read for &mut Source<'_, F, E> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pull(buffer).ok_or_else(|| io::ErrorKind::Other.into())
    }
}
