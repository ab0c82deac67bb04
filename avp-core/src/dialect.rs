//! The two dialects of header version 1, and their detection.
//!
//! The header alone is ambiguous: bit 0x04 means "has map" in 0.2 and "KV-cache" in 0.3. But the metadata repeats these
//! facts, so each dialect has exactly one flags byte for given metadata, and the comparison decides:
//!
//! | | 0.2 (avp 0.2.x) | 0.3 (avp 0.3.0 to 0.6.x) |
//! |---|---|---|
//! | flags without bit 0 | `[hybrid]*0x02 \| [map]*0x04 \| [kv]*0x08` | `[map]*0x02 \| [kv]*0x04` |
//! | mode (field 10) | 0 latent, 1 hybrid, 2 JSON | 0 latent, 1 JSON |
//! | checksum (field 15) | never | optional |
//!
//! A frame without map, KV-cache, mode and checksum is valid in both, with the same meaning.

use core::fmt;

use crate::{
    DecodeError, Mode,
    header::Flags,
    metadata::{EnumNumber, Undecided},
};

/// A version of the wire format.
///
/// # Examples
///
/// ```
/// use avp_core::Dialect;
///
/// assert_eq!(Dialect::from_avp_version("0.2.1"), Some(Dialect::V0_2));
/// assert_eq!(Dialect::from_avp_version("0.6.2"), Some(Dialect::V0_3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Dialect {
    /// avp 0.2.x.
    #[cfg_attr(feature = "serde", serde(rename = "0.2"))]
    V0_2,
    /// avp 0.3.0 to 0.6.x.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "0.3"))]
    V0_3,
}

impl Dialect {
    /// `"0.2"` or `"0.3"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_2 => "0.2",
            Self::V0_3 => "0.3",
        }
    }

    /// The dialect of a version in a handshake's `avp_version` (`"0.6.2"`) or in HTTP's `AVP-Version` (`"0.4"`). `None`
    /// for versions before 0.2, for 1 and later, and for any other text.
    #[must_use]
    pub fn from_avp_version(version: &str) -> Option<Self> {
        let mut parts = version.split('.');
        match (parts.next()?, parts.next()?.parse::<u32>().ok()?) {
            ("0", 2) => Some(Self::V0_2),
            ("0", 3..) => Some(Self::V0_3),
            _ => None,
        }
    }

    /// Whether the dialect has a checksum field.
    #[must_use]
    pub const fn has_checksum(self) -> bool {
        matches!(self, Self::V0_3)
    }

    pub(crate) const fn mode_from_wire(self, value: i32) -> Option<Mode> {
        match (self, value) {
            (_, 0) => Some(Mode::Latent),
            (Self::V0_2, 1) => Some(Mode::Hybrid),
            (Self::V0_2, 2) | (Self::V0_3, 1) => Some(Mode::Json),
            _ => None,
        }
    }

    /// The mode's number; `None` if the dialect lacks the mode.
    pub(crate) const fn mode_to_wire(self, mode: Mode) -> Option<i32> {
        match (self, mode) {
            (_, Mode::Latent) => Some(0),
            (Self::V0_2, Mode::Hybrid) | (Self::V0_3, Mode::Json) => Some(1),
            (Self::V0_2, Mode::Json) => Some(2),
            (Self::V0_3, Mode::Hybrid) => None,
        }
    }

    /// The flags of a frame in this dialect, without bit 0.
    pub(crate) const fn flags(self, mode: Mode, has_map: bool, is_kv_cache: bool) -> u8 {
        let (hybrid, map, kv) = (matches!(mode, Mode::Hybrid) as u8, has_map as u8, is_kv_cache as u8);
        match self {
            Self::V0_2 => (hybrid * 0x02) | (map * 0x04) | (kv * 0x08),
            Self::V0_3 => (map * 0x02) | (kv * 0x04),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The dialect in which `flags` match the metadata; `None` if they do in both.
pub(crate) fn decide(flags: Flags, read: &Undecided<'_>) -> Result<Option<Dialect>, DecodeError> {
    check_compression(flags, read)?;
    let EnumNumber { value: mode, offset } = read.mode;
    if !(0..=2).contains(&mode) {
        return Err(DecodeError::UnknownEnum { field: "mode", value: mode, offset });
    }
    // The flags in each dialect; `None` if it cannot express this metadata.
    let flags_in = |dialect: Dialect| {
        let mode = dialect.mode_from_wire(mode)?;
        let possible = dialect.has_checksum() || read.metadata.payload_checksum.is_none();
        let has_map = !read.metadata.avp_map_id.is_empty();
        possible.then(|| dialect.flags(mode, has_map, read.payload_type.value == 1))
    };
    let (dialect_0_2, dialect_0_3) = (flags_in(Dialect::V0_2), flags_in(Dialect::V0_3));
    let hints = Some(flags.bits() & !Flags::COMPRESSED);
    match (hints == dialect_0_2, hints == dialect_0_3) {
        (true, true) => Ok(None),
        (true, false) => Ok(Some(Dialect::V0_2)),
        (false, true) => Ok(Some(Dialect::V0_3)),
        (false, false) => {
            // With bit 0 as found, since that bit has been checked.
            let whole = |expected: u8| expected | (flags.bits() & Flags::COMPRESSED);
            Err(DecodeError::ContradictoryFlags {
                flags: flags.bits(),
                dialect_0_2: dialect_0_2.map(whole),
                dialect_0_3: dialect_0_3.map(whole),
            })
        }
    }
}

/// Bit 0 and field 11 are redundant; every implementation writes both.
fn check_compression(flags: Flags, read: &Undecided<'_>) -> Result<(), DecodeError> {
    let named = match read.compression {
        None => false,
        Some(name) if name.text.is_empty() => false,
        Some(name) if name.text == "zstd" => true,
        Some(name) => return Err(DecodeError::UnknownCompression { offset: name.offset }),
    };
    if named == flags.is_compressed() {
        return Ok(());
    }
    let mended = Some(flags.bits() ^ Flags::COMPRESSED);
    Err(DecodeError::ContradictoryFlags { flags: flags.bits(), dialect_0_2: mended, dialect_0_3: mended })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metadata, metadata::Located};

    fn metadata(mode: i32, map: bool, kv: bool, checksum: bool) -> Undecided<'static> {
        Undecided {
            metadata: Metadata {
                avp_map_id: if map { "vocab:0123" } else { "" },
                payload_checksum: checksum.then_some(0),
                ..Metadata::default()
            },
            mode: EnumNumber { value: mode, offset: 0 },
            payload_type: EnumNumber { value: i32::from(kv), offset: 0 },
            ..Undecided::default()
        }
    }

    #[test]
    fn what_one_dialect_writes_the_other_is_never_found_in_with_another_meaning() {
        for dialect in [Dialect::V0_2, Dialect::V0_3] {
            for bits in 0..24 {
                let mode = [Mode::Latent, Mode::Hybrid, Mode::Json][bits % 3];
                let (map, kv) = ((bits / 3) & 1 == 1, (bits / 6) & 1 == 1);
                let checksum = (bits / 12) & 1 == 1 && dialect.has_checksum();
                let Some(wire_mode) = dialect.mode_to_wire(mode) else { continue };
                let flags = Flags::from_bits(dialect.flags(mode, map, kv));
                match decide(flags, &metadata(wire_mode, map, kv, checksum)).unwrap() {
                    Some(found) => assert_eq!(found, dialect),
                    None => assert!(!map && !kv && !checksum && mode == Mode::Latent),
                }
            }
        }
    }

    #[test]
    fn flags_that_fit_neither_dialect_are_refused() {
        // Mode 1 with a map and a KV-cache: hybrid in 0.2 (0x0e), JSON in 0.3 (0x06).
        let metadata_of_both = metadata(1, true, true, false);
        for flags in (0..=u8::MAX).filter(|flags| flags & Flags::COMPRESSED == 0) {
            let found = decide(Flags::from_bits(flags), &metadata_of_both);
            match flags {
                0x0e => assert_eq!(found, Ok(Some(Dialect::V0_2))),
                0x06 => assert_eq!(found, Ok(Some(Dialect::V0_3))),
                _ => assert_eq!(found.unwrap_err().kind(), "contradictory_flags", "{flags:#x}"),
            }
        }
        assert_eq!(
            decide(Flags::from_bits(0x03), &zstd(metadata(0, false, true, true))),
            Err(DecodeError::ContradictoryFlags { flags: 3, dialect_0_2: None, dialect_0_3: Some(5) })
        );
    }

    #[test]
    fn mode_2_with_a_checksum_is_in_no_dialect() {
        assert_eq!(
            decide(Flags::default(), &metadata(2, false, false, true)),
            Err(DecodeError::ContradictoryFlags { flags: 0, dialect_0_2: None, dialect_0_3: None })
        );
    }

    #[test]
    fn compression_must_be_said_twice_or_not_at_all() {
        let plain = metadata(0, false, false, false);
        assert!(decide(Flags::from_bits(1), &plain).is_err());
        assert!(decide(Flags::from_bits(0), &zstd(plain)).is_err());
        assert_eq!(decide(Flags::from_bits(1), &zstd(plain)), Ok(None));
        let other = Undecided { compression: Some(Located { text: "lz4", offset: 9 }), ..plain };
        assert_eq!(decide(Flags::from_bits(1), &other), Err(DecodeError::UnknownCompression { offset: 9 }));
    }

    #[test]
    fn versions_outside_the_protocol_have_no_dialect() {
        for version in ["", "0", "0.1.0", "1.0", "0.x", "v0.2", "0.-2"] {
            assert_eq!(Dialect::from_avp_version(version), None, "{version}");
        }
        assert_eq!(Dialect::from_avp_version("0.10.0"), Some(Dialect::V0_3));
    }

    fn zstd(metadata: Undecided<'static>) -> Undecided<'static> {
        Undecided { compression: Some(Located { text: "zstd", offset: 0 }), ..metadata }
    }
}
