//! The entries of a signature among those of `extra`, as they are on the wire.

use core::ops::Range;

use crate::{DecodeError, Header, metadata::field, protobuf::Reader};

pub(super) const SIGNED_BY: &str = "signed_by";
pub(super) const SIGNED_FOR: &str = "signed_for";
pub(super) const SIGNED_AT: &str = "signed_at";
pub(super) const SIGNED_UNTIL: &str = "signed_until";
pub(super) const SIGNED_NONCE: &str = "signed_nonce";
pub(super) const SIGNATURE: &str = "signature";

/// The names of all entries.
pub(super) const NAMES: [&str; 6] = [SIGNED_BY, SIGNED_FOR, SIGNED_AT, SIGNED_UNTIL, SIGNED_NONCE, SIGNATURE];

/// An entry of `extra`.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    /// Where the value is in the head.
    pub(super) value_range: Range<usize>,
    /// The name of a signature's entry in an entry with several names or values, of which readers could take different ones.
    pub(super) ambiguous: Option<&'static str>,
}

/// A field of the metadata.
pub(super) struct MetadataField<'a> {
    /// Where it is in the head.
    #[cfg_attr(
        not(feature = "alloc"),
        expect(dead_code, reason = "writing copies fields, and needs an allocator")
    )]
    pub(super) range: Range<usize>,
    /// `None` for a field other than `extra`.
    pub(super) entry: Option<Entry<'a>>,
}

/// The next field of metadata that were read without fault.
pub(super) fn next_field<'a>(
    metadata: &mut Reader<'a>,
    head_len: usize,
) -> Result<Option<MetadataField<'a>>, DecodeError> {
    let start = head_len - metadata.rest().len();
    let Some(field) = metadata.field()? else { return Ok(None) };
    let range = start..head_len - metadata.rest().len();
    if field.number != field::EXTRA {
        return Ok(Some(MetadataField { range, entry: None }));
    }
    let mut entry = Entry { name: "", value: "", value_range: 0..0, ambiguous: None };
    let (mut names, mut values, mut own) = (0, 0, None);
    let mut message = field.message()?;
    while let Some(part) = message.field()? {
        match part.number {
            1 => {
                entry.name = part.string("extra key")?;
                own = own.or_else(|| NAMES.into_iter().find(|name| *name == entry.name));
                names += 1;
            }
            2 => {
                values += 1;
                entry.value = part.string("extra value")?;
                entry.value_range = part.offset..part.offset + entry.value.len();
            }
            _ => {}
        }
    }
    entry.ambiguous = own.filter(|_| names > 1 || values > 1);
    Ok(Some(MetadataField { range, entry: Some(entry) }))
}

/// A reader of the metadata in a head, which has nothing behind them.
pub(super) fn metadata_of(head: &[u8]) -> Reader<'_> {
    Reader::new(head.get(Header::LEN..).unwrap_or_default(), Header::LEN)
}
