//! zstd through its C library: every level, and the speed of C.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    vec,
    vec::Vec,
};

use zstd::{
    stream::read::{Decoder, Encoder},
    zstd_safe,
};

use super::{Fault, PIECE, Source, window_limit};

/// Bytes of the longest frame header (RFC 8878, 3.1.1).
const MAX_HEADER: u64 = 18;

pub(super) const fn effective_level(level: i32) -> i32 {
    level
}

pub(super) fn decompress<E>(
    mut source: impl Read,
    limit: usize,
    mut sink: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
) -> Result<(), Fault<E>> {
    let mut header = Vec::new();
    source.by_ref().take(MAX_HEADER).read_to_end(&mut header)?;
    match zstd_safe::get_frame_content_size(&header) {
        Ok(Some(claimed)) if claimed > limit as u64 => return Err(Fault::TooLarge),
        Ok(_) => {}
        Err(_) => return Err(Fault::Corrupt),
    }
    let body = BufReader::with_capacity(PIECE, header.chain(source));
    let mut decoder = Decoder::with_buffer(body)?.single_frame();
    decoder.window_log_max(window_limit(limit).ilog2())?;
    pass(&mut decoder, |piece| sink(piece))?;
    match decoder.finish().fill_buf()? {
        [] => Ok(()),
        _ => Err(Fault::Corrupt),
    }
}

pub(super) fn compress<E>(
    source: impl Read,
    len: u64,
    level: i32,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let encoder =
        Encoder::with_buffer(BufReader::with_capacity(PIECE, source), level).and_then(|mut encoder| {
            encoder.set_pledged_src_size(Some(len))?;
            Ok(encoder)
        });
    // The library fails here for lack of memory alone, where the allocator would abort as well.
    let mut encoder = encoder.unwrap_or_else(|error| panic!("zstd cannot compress: {error}"));
    match pass(&mut encoder, |piece| sink(piece).map_err(Fault::Ours)) {
        Err(Fault::Ours(error)) => Err(error),
        // The other errors are those of the source, which keeps its own.
        _ => Ok(()),
    }
}

/// Passes all that `reader` gives to `sink`.
fn pass<E>(
    reader: &mut impl Read,
    mut sink: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
) -> Result<(), Fault<E>> {
    let mut piece = vec![0; PIECE];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(()),
            read => sink(&piece[..read])?,
        }
    }
}

impl<E> From<io::Error> for Fault<E> {
    fn from(_: io::Error) -> Self {
        Self::Corrupt
    }
}

impl<E, F: FnMut(&mut [u8]) -> Result<usize, E>> Read for &mut Source<F, E> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pull(buffer).ok_or_else(|| io::ErrorKind::Other.into())
    }
}
