//! The 12-byte header of a frame.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `"AV"` |
//! | 2 | header version, 1 |
//! | 3 | flags; their bits depend on the dialect |
//! | 4..8 | payload length (metadata and body), u32 little-endian |
//! | 8..12 | metadata length, u32 little-endian |

use crate::{DecodeError, Dialect};

/// The header of a frame: flags and two lengths.
///
/// # Examples
///
/// ```
/// use avp_core::Header;
///
/// let header = Header::decode(b"AV\x01\x00\x05\0\0\0\x02\0\0\0")?;
/// assert_eq!((header.metadata_len(), header.body_len()), (2, 3));
/// # Ok::<(), avp_core::DecodeError>(())
/// ```
///
/// Invariant: `metadata_len <= payload_len`, so [`body_len`](Self::body_len) cannot underflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    flags: Flags,
    payload_len: u32,
    metadata_len: u32,
}

/// `"AV"`.
pub(crate) const MAGIC: [u8; 2] = *b"AV";

impl Header {
    /// Length of the header in bytes.
    pub const LEN: usize = 12;

    /// The only header version, shared by both dialects.
    pub const VERSION: u8 = 1;

    /// The header of a frame without metadata and body.
    pub(crate) const EMPTY: Self = Self { flags: Flags(0), payload_len: 0, metadata_len: 0 };

    /// Reads a header from the start of `bytes`, which may be longer.
    ///
    /// # Errors
    ///
    /// [`BadMagic`](DecodeError::BadMagic), [`UnsupportedVersion`](DecodeError::UnsupportedVersion) and
    /// [`MetadataLength`](DecodeError::MetadataLength) from the first byte that shows it, otherwise
    /// [`Truncated`](DecodeError::Truncated).
    pub const fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        // A file of another format is reported as such even if it is shorter than a header.
        if let [a, b, ..] = *bytes
            && (a != MAGIC[0] || b != MAGIC[1])
        {
            return Err(DecodeError::BadMagic { got: [a, b] });
        }
        if let [_, _, version, ..] = *bytes
            && version != Self::VERSION
        {
            return Err(DecodeError::UnsupportedVersion { got: version });
        }
        let Some(&[_, _, _, flags, p0, p1, p2, p3, m0, m1, m2, m3]) = bytes.first_chunk::<{ Self::LEN }>()
        else {
            return Err(DecodeError::Truncated { what: "header", offset: bytes.len(), needed: Self::LEN });
        };
        let payload_len = u32::from_le_bytes([p0, p1, p2, p3]);
        let metadata_len = u32::from_le_bytes([m0, m1, m2, m3]);
        if metadata_len > payload_len {
            return Err(DecodeError::MetadataLength { metadata_len, payload_len });
        }
        Ok(Self { flags: Flags(flags), payload_len, metadata_len })
    }

    /// A header for metadata and a body of these lengths, in bytes; `None` if their sum exceeds 32 bits.
    #[must_use]
    pub const fn new(flags: Flags, metadata_len: u32, body_len: u32) -> Option<Self> {
        match metadata_len.checked_add(body_len) {
            Some(payload_len) => Some(Self { flags, payload_len, metadata_len }),
            None => None,
        }
    }

    /// The 12 bytes of this header.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let [p0, p1, p2, p3] = self.payload_len.to_le_bytes();
        let [m0, m1, m2, m3] = self.metadata_len.to_le_bytes();
        [MAGIC[0], MAGIC[1], Self::VERSION, self.flags.0, p0, p1, p2, p3, m0, m1, m2, m3]
    }

    /// The flags byte.
    #[must_use]
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// Length of metadata and body together, in bytes.
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        self.payload_len
    }

    /// Length of the metadata, in bytes.
    #[must_use]
    pub const fn metadata_len(&self) -> u32 {
        self.metadata_len
    }

    /// Length of the body on the wire, in bytes.
    #[must_use]
    pub const fn body_len(&self) -> u32 {
        self.payload_len - self.metadata_len
    }

    /// Length of the whole frame, header included, in bytes. A `u64`, since it can exceed 32 bits.
    #[must_use]
    pub const fn frame_len(&self) -> u64 {
        Self::LEN as u64 + self.payload_len as u64
    }
}

/// The flags byte: a summary of the metadata.
///
/// Bit 0 is the same in both dialects; 0.3 has no hybrid frames and moved the others:
///
/// | bit | 0.2 | 0.3 |
/// |---|---|---|
/// | 0x01 | zstd | zstd |
/// | 0x02 | hybrid | has map |
/// | 0x04 | has map | KV-cache |
/// | 0x08 | KV-cache | |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Flags(u8);

impl Flags {
    /// Bit 0: the body is compressed with zstd.
    pub const COMPRESSED: u8 = 0x01;

    /// Flags from their byte.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The byte.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether the body is compressed, in both dialects.
    #[must_use]
    pub const fn is_compressed(self) -> bool {
        self.0 & Self::COMPRESSED != 0
    }

    /// The names of the set bits in `dialect`, lowest bit first; a bit without meaning in the dialect is `"unknown"`.
    pub fn names(self, dialect: Dialect) -> impl Iterator<Item = &'static str> {
        let names: [&str; 8] = match dialect {
            Dialect::V0_2 => {
                ["zstd", "hybrid", "has_map", "kv_cache", "unknown", "unknown", "unknown", "unknown"]
            }
            Dialect::V0_3 => {
                ["zstd", "has_map", "kv_cache", "unknown", "unknown", "unknown", "unknown", "unknown"]
            }
        };
        names.into_iter().enumerate().filter(move |(bit, _)| (self.0 >> bit) & 1 == 1).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let header = Header::new(Flags::from_bits(0x0b), 7, u32::MAX - 7).unwrap();
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        assert_eq!(header.frame_len(), 12 + u64::from(u32::MAX));
    }

    #[test]
    fn lengths_past_32_bits_make_no_header() {
        assert_eq!(Header::new(Flags::default(), 8, u32::MAX - 7), None);
    }

    #[test]
    fn faults_are_told_from_the_first_byte_that_shows_them() {
        assert_eq!(Header::decode(b"A").unwrap_err().kind(), "truncated");
        assert_eq!(Header::decode(b"AX").unwrap_err().kind(), "bad_magic");
        assert_eq!(Header::decode(b"AV\x02").unwrap_err().kind(), "unsupported_version");
        assert_eq!(
            Header::decode(b"AV\x01"),
            Err(DecodeError::Truncated { what: "header", offset: 3, needed: 12 })
        );
        assert_eq!(
            Header::decode(b"AV\x01\0\x01\0\0\0\x02\0\0\0"),
            Err(DecodeError::MetadataLength { metadata_len: 2, payload_len: 1 })
        );
    }

    #[test]
    fn flag_names_follow_the_dialect() {
        assert!(Flags::from_bits(0x05).names(Dialect::V0_2).eq(["zstd", "has_map"]));
        assert!(Flags::from_bits(0x05).names(Dialect::V0_3).eq(["zstd", "kv_cache"]));
        assert!(Flags::from_bits(0x80).names(Dialect::V0_3).eq(["unknown"]));
    }
}
