//! The token or latent step at each position of a cache.
//!
//! With it, a longer prompt can reuse a prefix of the cache.
//!
//! In a frame, it is the `extra` entry `token_ids`: for each position an unsigned LEB128 number, 0 for a latent step and
//! otherwise the token's id plus one, in base64 (RFC 4648, with padding). A token takes about four characters with vocabularies
//! of up to two million.

use std::{ops::Range, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

/// Marks a latent step; no vocabulary has a token with this id.
const LATENT: u32 = u32::MAX;

/// One entry for each position; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Positions(Arc<[u32]>);

impl Positions {
    /// These positions, then `tokens`, then `steps` latent steps.
    pub(crate) fn and(&self, tokens: &[u32], steps: usize) -> Self {
        let latent = std::iter::repeat_n(LATENT, steps);
        Self(self.0.iter().copied().chain(tokens.iter().copied()).chain(latent).collect())
    }

    /// These positions, then those of `other`.
    pub(crate) fn followed_by(&self, other: &Self) -> Self {
        self.and(&other.0, 0)
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        Self(self.0[range].into())
    }

    /// The token at each position; `None` for a latent step.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Option<u32>> + '_ {
        self.0.iter().map(|&id| (id != LATENT).then_some(id))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn latent_steps(&self) -> usize {
        self.0.iter().filter(|&&id| id == LATENT).count()
    }

    /// Length of the common prefix with `tokens`; a latent step ends it.
    pub(crate) fn common_prefix(&self, tokens: &[u32]) -> usize {
        self.0.iter().zip(tokens).take_while(|(own, token)| own == token && **own != LATENT).count()
    }

    /// SHA-256 of the LEB128 numbers, in hex.
    pub(crate) fn hash(&self) -> String {
        Sha256::digest(self.numbers()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn encode(&self) -> String {
        BASE64.encode(self.numbers())
    }

    /// Parses an entry of exactly `seq_len` positions; `None` if it is invalid.
    pub(crate) fn decode(text: &str, seq_len: usize) -> Option<Self> {
        // Bounds the allocation by the length of the text, not by the claimed length.
        let bytes = BASE64.decode(text).ok()?;
        let mut ids = Vec::with_capacity(seq_len.min(bytes.len()));
        let mut bytes = bytes.into_iter();
        while let Some(first) = bytes.next() {
            ids.push(leb128(first, &mut bytes)?.wrapping_sub(1));
        }
        (ids.len() == seq_len).then(|| Self(ids.into()))
    }

    fn numbers(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(3 * self.0.len());
        for id in &self.0[..] {
            // The mark of a latent step is the largest number, so one more is 0.
            let mut rest = id.wrapping_add(1);
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes
    }
}

/// The number that starts with `byte`; `None` if it is truncated, too large or not in its shortest form.
fn leb128(mut byte: u8, rest: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut number = u32::from(byte & 0x7f);
    for shift in [7, 14, 21, 28] {
        if byte < 0x80 {
            return Some(number);
        }
        byte = rest.next()?;
        let part = u32::from(byte & 0x7f);
        if byte == 0 || part.checked_shl(shift)? >> shift != part {
            return None;
        }
        number |= part << shift;
    }
    (byte < 0x80).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(tokens: &[u32], steps: usize) -> Positions {
        Positions::default().and(tokens, steps)
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let edges = [0, 126, 127, 128, 16_382, 16_383, 151_645, u32::MAX - 1];
        for record in [positions(&[], 0), positions(&edges, 3), positions(&[], 1).and(&edges, 0)] {
            assert_eq!(Positions::decode(&record.encode(), record.len()), Some(record));
        }
    }

    #[test]
    fn a_record_of_another_length_or_with_stray_bytes_is_none() {
        let record = positions(&[1, 2, 300_000], 1);
        for wrong in [0, 3, 5, usize::MAX] {
            assert_eq!(Positions::decode(&record.encode(), wrong), None, "{wrong}");
        }
        let encode = |bytes: &[u8]| BASE64.encode(bytes);
        for (what, bytes) in [
            ("cut off", &[0x80][..]),
            ("longer than it need be", &[0x81, 0]),
            ("33 bits", &[0xff, 0xff, 0xff, 0xff, 0x1f]),
            ("six bytes", &[0xff, 0xff, 0xff, 0xff, 0x8f, 0]),
        ] {
            assert_eq!(Positions::decode(&encode(bytes), 1), None, "{what}");
        }
        assert_eq!(Positions::decode("not base64!", 1), None);
    }

    #[test]
    fn a_common_prefix_ends_at_the_first_difference_or_latent_step() {
        let record = positions(&[5, 6], 2).and(&[7], 0);
        for (tokens, common) in
            [(&[][..], 0), (&[4], 0), (&[5], 1), (&[5, 6], 2), (&[5, 6, 7], 2), (&[5, 6, u32::MAX], 2)]
        {
            assert_eq!(record.common_prefix(tokens), common, "{tokens:?}");
        }
    }

    #[test]
    fn latent_steps_are_told_from_tokens() {
        let record = positions(&[9], 1);
        assert_eq!(record.iter().collect::<Vec<_>>(), [Some(9), None]);
        assert_eq!((record.latent_steps(), record.slice(0..1).latent_steps()), (1, 0));
        assert_ne!(record.hash(), record.slice(0..1).hash());
    }
}
