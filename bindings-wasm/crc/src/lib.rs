//! CRC-32 (IEEE) of a window of bytes, several times faster than tables.
//!
//! WebAssembly has no carry-less multiplication, so the usual fast ways are closed. This one needs only XOR:
//! `T = x^300 + x^155 + x^117 + x^89 + 1` is a multiple of the CRC's polynomial `P` (the only one of five terms and so low
//! a degree; a test divides it). Squaring in GF(2) doubles exponents, so `T(x^128) = T^128` is a multiple of `P` too. Modulo `P`
//! a lane of 128 bits may therefore be taken out where it stands and added to the lanes 145, 183, 211 and 300 places
//! later. Done to every lane but the last 300, that leaves 4800 bytes with the CRC of the whole, for a table to finish.
//! The idea of eliminating by sparse multiples is known as Chorba (Kad and others, 2024).

#![forbid(unsafe_code)]

use std::ops::Range;

/// Bytes that a [`Window`] takes at once: two thirds of what a small core's second cache holds.
pub const WINDOW_LEN: usize = 160 << 10;

/// Degree of the sparse multiple, in lanes.
const DEGREE: usize = 300;

/// Where a lane is added: the degree less each lower exponent.
const OFFSETS: [usize; 4] = [145, 183, 211, 300];

/// 64-bit words in a lane.
const WORDS: usize = 2;

/// Shorter runs of lanes are left to the table, which also keeps every source of the last step inside the window.
const MIN_LANES: usize = 3 * DEGREE;

/// A fixed buffer that the host fills with pieces of a payload.
///
/// Invariant: the words in front of the data stand for the lanes before the first. They are zero unless the window before
/// was passed.
#[derive(Debug)]
pub struct Window {
    words: Vec<u64>,
    /// Whether the words in front are those of the window before.
    carries: bool,
    table: Table,
}

impl Default for Window {
    fn default() -> Self {
        Self { words: vec![0; DEGREE * WORDS + WINDOW_LEN / 8], carries: false, table: Table::new() }
    }
}

impl Window {
    /// Where the host writes: [`WINDOW_LEN`] bytes.
    pub fn data_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words[DEGREE * WORDS..])
    }

    /// The CRC-32 of everything up to and with the first `len` bytes of the window, where `crc` is that of everything before
    /// them (0 at the start), or before the first of the windows just [passed](Self::pass). The window's content is spent.
    ///
    /// # Panics
    /// After [`Self::pass`], if the window is not full.
    pub fn update(&mut self, crc: u32, len: usize) -> u32 {
        let len = len.min(WINDOW_LEN);
        let lanes = len / (8 * WORDS);
        if lanes < MIN_LANES && !self.carries {
            return self.finish(crc, 0..len);
        }
        assert!(!self.carries || len == WINDOW_LEN, "a full window follows one that was passed");
        self.start(crc);
        let eliminated = lanes - DEGREE;
        fold(&mut self.words, eliminated);
        self.words[..DEGREE * WORDS].fill(0);
        self.carries = false;
        self.finish(!0, eliminated * 8 * WORDS..len)
    }

    /// Takes a full window that another full one follows, which spares the table's slow end. [`Self::update`] then gives the
    /// sum of both. `crc` is as there.
    pub fn pass(&mut self, crc: u32) {
        self.start(crc);
        fold(&mut self.words, WINDOW_LEN / (8 * WORDS));
        self.words.copy_within(WINDOW_LEN / 8.., 0);
        self.carries = true;
    }

    /// Adds the register's content to the next four bytes; after that it starts from zero.
    fn start(&mut self, crc: u32) {
        if !self.carries {
            self.words[DEGREE * WORDS] ^= u64::from((!crc).to_le());
        }
    }

    fn finish(&mut self, crc: u32, range: Range<usize>) -> u32 {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words[DEGREE * WORDS..]);
        self.table.update(crc, &bytes[range])
    }
}

/// Eliminates the first `lanes` lanes, by adding to each what those before it have left to it.
fn fold(words: &mut [u64], lanes: usize) {
    let first = DEGREE * WORDS;
    let [near, ..] = OFFSETS;
    // Within a block no lane depends on another of it.
    for start in (0..lanes).step_by(near) {
        let (done, rest) = words.split_at_mut(first + start * WORDS);
        let block = &mut rest[..near.min(lanes - start) * WORDS];
        let [a, b, c, d] = OFFSETS.map(|offset| &done[done.len() - offset * WORDS..][..block.len()]);
        for ((((word, a), b), c), d) in block.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *word ^= a ^ b ^ c ^ d;
        }
    }
    let (done, rest) = words.split_at_mut(first + lanes * WORDS);
    for offset in OFFSETS {
        for (word, source) in rest.iter_mut().zip(&done[done.len() - offset * WORDS..]) {
            *word ^= source;
        }
    }
}

/// Tables for eight bytes at a time. They are made at the start: the 16 KiB that `crc32fast` brings do not compress, and
/// would be a tenth of the module.
#[derive(Debug)]
struct Table(Box<[[u32; 256]; 8]>);

impl Table {
    fn new() -> Self {
        let mut table = Box::new([[0; 256]; 8]);
        for byte in 0..=255_u32 {
            // The polynomial in reflected order, as RFC 1952 has it.
            table[0][byte as usize] =
                (0..8).fold(byte, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 });
        }
        for row in 1..8 {
            for byte in 0..256 {
                let crc = table[row - 1][byte];
                table[row][byte] = (crc >> 8) ^ table[0][(crc & 0xff) as usize];
            }
        }
        Self(table)
    }

    fn update(&self, crc: u32, bytes: &[u8]) -> u32 {
        let table = &self.0;
        let (groups, rest) = bytes.as_chunks::<8>();
        let mut crc = !crc;
        for group in groups {
            let word = u64::from_le_bytes(*group) ^ u64::from(crc);
            crc = word
                .to_le_bytes()
                .iter()
                .zip(table.iter().rev())
                .fold(0, |crc, (byte, row)| crc ^ row[usize::from(*byte)]);
        }
        !rest.iter().fold(crc, |crc, byte| (crc >> 8) ^ table[0][usize::from(crc as u8 ^ byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(bytes: &[u8], crc: u32) -> u32 {
        let mut window = Window::default();
        let (full, rest) = bytes.as_chunks::<WINDOW_LEN>();
        let mut sum = crc;
        for (index, chunk) in full.iter().enumerate() {
            window.data_mut().copy_from_slice(chunk);
            if index + 1 < full.len() {
                window.pass(sum);
            } else {
                sum = window.update(sum, WINDOW_LEN);
            }
        }
        window.data_mut()[..rest.len()].copy_from_slice(rest);
        window.update(sum, rest.len())
    }

    fn in_windows(bytes: &[u8], step: usize) -> u32 {
        let mut window = Window::default();
        bytes.chunks(step).fold(0, |crc, chunk| {
            window.data_mut()[..chunk.len()].copy_from_slice(chunk);
            window.update(crc, chunk.len())
        })
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_u32;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8
            })
            .collect()
    }

    #[test]
    fn the_sparse_multiple_is_divisible_by_the_crc_s_polynomial() {
        let power = |n: usize| {
            (0..n).fold(1_u64, |r, _| if r >> 31 == 1 { (r << 1) ^ 0x1_04c1_1db7 } else { r << 1 })
        };
        let exponents = OFFSETS.map(|offset| DEGREE - offset);
        assert_eq!(exponents.iter().fold(power(DEGREE), |sum, &n| sum ^ power(n)), 0);
    }

    #[test]
    fn any_length_and_any_window_give_the_table_s_sum() {
        let bytes = noise(3 * WINDOW_LEN + 77);
        let lengths = [0, 1, 15, 16, 4799, 4800, MIN_LANES * 16 - 1, MIN_LANES * 16, MIN_LANES * 16 + 13];
        for len in lengths.into_iter().chain([WINDOW_LEN - 1, WINDOW_LEN, WINDOW_LEN + 1, bytes.len()]) {
            for step in [WINDOW_LEN, 65_536, 20_001] {
                assert_eq!(
                    in_windows(&bytes[..len], step),
                    crc32fast::hash(&bytes[..len]),
                    "{len} in {step}"
                );
            }
        }
    }

    #[test]
    fn windows_that_are_passed_count_as_others_do() {
        let bytes = noise(4 * WINDOW_LEN + 4801);
        for len in [WINDOW_LEN, 2 * WINDOW_LEN, 3 * WINDOW_LEN + 5, bytes.len()] {
            assert_eq!(passing(&bytes[..len], 0), crc32fast::hash(&bytes[..len]), "{len}");
            let (before, after) = bytes[..len].split_at(77);
            assert_eq!(passing(after, crc32fast::hash(before)), crc32fast::hash(&bytes[..len]), "{len}");
        }
    }
}
