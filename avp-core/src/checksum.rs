//! CRC-32 (IEEE) of the uncompressed body, as field 15 of the metadata carries it.

use crate::DecodeError;

/// CRC-32 (IEEE) of `bytes`.
///
/// ```
/// assert_eq!(avp_core::crc32(b"123456789"), 0xcbf4_3926);
/// ```
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// CRC-32 (IEEE) of `parts` as if they were joined.
#[must_use]
pub fn crc32_parts(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// A frame's checksum beside the one that its body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Checksum {
    /// CRC-32 from the metadata.
    pub expected: u32,
    /// CRC-32 of the uncompressed body.
    pub actual: u32,
}

impl Checksum {
    /// Whether the body is what the sender summed.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.expected == self.actual
    }

    /// `Ok` if the sums agree, for a body that starts at `offset` in its frame.
    pub(crate) const fn check(&self, offset: usize) -> Result<(), DecodeError> {
        if self.is_ok() {
            return Ok(());
        }
        Err(DecodeError::ChecksumMismatch { expected: self.expected, actual: self.actual, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sum_like_the_whole() {
        assert_eq!(crc32_parts(&[b"1234", b"", b"56789"]), crc32(b"123456789"));
        assert_eq!(crc32_parts(&[]), 0);
    }
}
