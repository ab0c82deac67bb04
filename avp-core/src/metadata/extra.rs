//! [`Metadata::extra`](crate::Metadata::extra).

use core::fmt;

use super::field;
use crate::{
    DecodeError, PADDING_KEY,
    protobuf::{Reader, Writer},
};

/// Free key/value pairs. Of several entries with one key, the last counts.
///
/// # Examples
///
/// ```
/// use avp_core::{Extra, Metadata};
///
/// let metadata = Metadata { extra: Extra::from(&[("num_steps", "8")]), ..Metadata::default() };
/// assert_eq!(metadata.extra.get("num_steps"), Some("8"));
/// ```
///
/// They are written sorted by key. Without `alloc`, entries that are not sorted take time in the square of their
/// number.
#[derive(Clone, Copy, Default)]
pub struct Extra<'a> {
    given: &'a [(&'a str, &'a str)],
    /// Metadata that was read to its end without fault, from its first list on.
    checked: &'a [u8],
}

impl<'a> Extra<'a> {
    /// The entries in metadata whose fields were all read without fault.
    pub(super) const fn of_checked(fields: &'a [u8]) -> Self {
        Self { given: &[], checked: fields }
    }

    /// The entries in their order on the wire or in the slice, equal keys included.
    #[must_use]
    pub fn iter(&self) -> ExtraIter<'a> {
        ExtraIter { given: self.given.iter(), checked: Reader::new(self.checked, 0) }
    }

    /// The value of the entry `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().filter(|(name, _)| *name == key).last().map(|(_, value)| value)
    }

    /// Calls `visit` with the entries by ascending key, the last of equal keys only.
    pub(crate) fn try_for_each_sorted<E>(
        self,
        mut visit: impl FnMut(&'a str, &'a str) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.iter().is_sorted_by(|(a, _), (b, _)| a < b) {
            return self.iter().try_for_each(|(key, value)| visit(key, value));
        }
        #[cfg(feature = "alloc")]
        {
            let mut entries: alloc::vec::Vec<_> = self.iter().collect();
            // Stable, so the last of equal keys stays the last.
            entries.sort_by_key(|(key, _)| *key);
            let nexts = entries.iter().skip(1).map(|(key, _)| Some(*key)).chain([None]);
            entries
                .iter()
                .zip(nexts)
                .filter(|((key, _), next)| Some(*key) != *next)
                .try_for_each(|((key, value), _)| visit(key, value))
        }
        #[cfg(not(feature = "alloc"))]
        {
            let mut previous = None;
            loop {
                // `min_by` keeps the first minimum and the comparison prefers the later entry of equal keys.
                let after =
                    |(_, (key, _)): &(usize, (&str, &str))| previous.is_none_or(|previous| *key > previous);
                let next = self
                    .iter()
                    .enumerate()
                    .filter(after)
                    .min_by(|(i, (a, _)), (j, (b, _))| a.cmp(b).then(j.cmp(i)));
                let Some((_, (key, value))) = next else { return Ok(()) };
                visit(key, value)?;
                previous = Some(key);
            }
        }
    }

    /// Writes the entries sorted by key, with the padding among them.
    pub(super) fn write(self, padding: Padding, writer: &mut Writer<'_>) {
        let mut spaces = match padding {
            Padding::Given => None,
            Padding::Spaces(spaces) => spaces,
        };
        let written = self.try_for_each_sorted(|key, value| {
            if padding != Padding::Given && key == PADDING_KEY {
                // The padding of a frame that is written again; this one needs its own.
                return Ok(());
            }
            if key > PADDING_KEY {
                write_padding(spaces.take(), writer);
            }
            writer.map_entry(field::EXTRA, key, value);
            Ok::<(), core::convert::Infallible>(())
        });
        match written {
            Ok(()) => write_padding(spaces, writer),
            Err(never) => match never {},
        }
    }
}

/// What becomes of the entry [`PADDING_KEY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// It is an entry like any other.
    Given,
    /// It is replaced by one of this many spaces, or left out.
    Spaces(Option<usize>),
}

fn write_padding(spaces: Option<usize>, writer: &mut Writer<'_>) {
    if let Some(spaces) = spaces {
        writer.map_entry_of_spaces(field::EXTRA, PADDING_KEY, spaces);
    }
}

impl<'a> From<&'a [(&'a str, &'a str)]> for Extra<'a> {
    fn from(given: &'a [(&'a str, &'a str)]) -> Self {
        Self { given, checked: &[] }
    }
}

impl<'a, const N: usize> From<&'a [(&'a str, &'a str); N]> for Extra<'a> {
    fn from(given: &'a [(&'a str, &'a str); N]) -> Self {
        Self::from(given.as_slice())
    }
}

impl PartialEq for Extra<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Extra<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Extra<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = ExtraIter<'a>;

    fn into_iter(self) -> ExtraIter<'a> {
        self.iter()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Extra<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;

        let mut map = serializer.serialize_map(None)?;
        self.try_for_each_sorted(|key, value| map.serialize_entry(key, value))?;
        map.end()
    }
}

/// Iterator over [`Extra`]: pairs of key and value.
#[derive(Debug, Clone)]
pub struct ExtraIter<'a> {
    given: core::slice::Iter<'a, (&'a str, &'a str)>,
    checked: Reader<'a>,
}

impl<'a> Iterator for ExtraIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.given.next() {
            return Some(*entry);
        }
        loop {
            let field = self.checked.field_again()?;
            if field.number == field::EXTRA {
                return entry(field.message().ok()?).ok();
            }
        }
    }
}

/// Key and value of one `map<string, string>` entry; an absent one is empty.
pub(super) fn entry(mut entry: Reader<'_>) -> Result<(&str, &str), DecodeError> {
    let (mut key, mut value) = ("", "");
    while let Some(field) = entry.field()? {
        match field.number {
            1 => key = field.string("extra key")?,
            2 => value = field.string("extra value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_sorted(extra: Extra<'_>, expected: &[(&str, &str)]) {
        let mut expected = expected.iter().copied();
        extra
            .try_for_each_sorted(|key, value| {
                assert_eq!(Some((key, value)), expected.next());
                Ok::<(), ()>(())
            })
            .unwrap();
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn extra_is_written_sorted_and_each_key_once() {
        let extra = [("b", "1"), ("a", "2"), ("c", "3"), ("b", "4"), ("", "5")];
        assert_sorted((&extra).into(), &[("", "5"), ("a", "2"), ("b", "4"), ("c", "3")]);
        assert_sorted(extra[1..3].into(), &[("a", "2"), ("c", "3")]);
        assert_sorted(Extra::default(), &[]);
    }
}
