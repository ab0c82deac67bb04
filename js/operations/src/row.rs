//! A frame's head as one row of numbers and one text: two values to pass, and no name of a field.
//!
//! | value | in the numbers | in the text |
//! |---|---|---|
//! | number | the number | |
//! | text | its length in UTF-16 units | the text; on the way to Rust, also a NUL |
//! | optional value | 0, or 1 and the value | that of the value |
//! | list | its length and its items | those of the items |
//!
//! The NUL keeps halves of surrogate pairs apart, which two texts of JavaScript can end and begin with. `js/src/row.ts` is the
//! other side; [`metadata_fields`] lists the fields.

use avp_core::{Dialect, FrameHead, Metadata, metadata_fields};
use serde::Deserialize;

use crate::{agents::camel_case, argument::named, fault::Outcome};

/// A head on its way to `headOf` in `js/src/metadata.ts`.
#[derive(Debug, Default)]
pub struct Row {
    /// The numbers.
    pub numbers: Vec<f64>,
    /// The joined texts.
    pub text: String,
}

impl Row {
    /// Writes a head: dialect, flags, their names, lengths of payload and metadata, fields of the metadata.
    #[must_use]
    pub fn of(head: &FrameHead<'_>) -> Self {
        let (header, dialect, metadata) = (head.header(), head.dialect(), head.metadata());
        // The names of a dialect, flags and enums add less than 64 bytes in most heads.
        let capacity = header.metadata_len() as usize + 64;
        let mut row = Self { numbers: Vec::with_capacity(64), text: String::with_capacity(capacity) };
        row.optional_text(dialect.map(Dialect::as_str));
        row.number(header.flags().bits());
        row.texts(header.flags().names(dialect.unwrap_or_default()));
        row.number(header.payload_len());
        row.number(header.metadata_len());
        macro_rules! add {
            ($($field:ident: $kind:ident),* $(,)?) => { $(add!(@$kind metadata.$field);)* };
            (@name $value:expr) => { row.text($value.as_str()) };
            (@shape $value:expr) => { row.list($value, Self::number) };
            (@extra $value:expr) => { row.texts($value.iter().flat_map(|(key, value)| [key, value])) };
            (@score $value:expr) => { row.optional_number($value) };
            (@$kind:ident $value:expr) => { row.$kind($value) };
        }
        metadata_fields!(add);
        row
    }

    fn number(&mut self, number: impl Into<f64>) {
        self.numbers.push(number.into());
    }

    fn text(&mut self, text: &str) {
        let units = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
        self.numbers.push(units as f64);
        self.text.push_str(text);
    }

    fn optional_number(&mut self, number: Option<impl Into<f64>>) {
        self.optional(number, Self::number);
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.optional(text, Self::text);
    }

    fn optional<T>(&mut self, value: Option<T>, add: impl FnOnce(&mut Self, T)) {
        self.number(u8::from(value.is_some()));
        if let Some(value) = value {
            add(self, value);
        }
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        self.list(texts, Self::text);
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut add: impl FnMut(&mut Self, T)) {
        let (at, mut count) = (self.numbers.len(), 0_u32);
        self.number(count);
        for item in items {
            add(self, item);
            count += 1;
        }
        self.numbers[at] = count.into();
    }
}

/// Reads a row from JavaScript. After the last number every value is 0, empty or absent.
pub(crate) struct Reader<'a> {
    numbers: &'a [f64],
    text: &'a str,
    is_ascii: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, numbers: &'a [f64]) -> Self {
        Self { numbers, text, is_ascii: text.is_ascii() }
    }

    /// The fields that `writeMetadata` in `js/src/metadata.ts` writes behind the lists `shape` and `extra`.
    pub(crate) fn metadata(
        &mut self,
        shape: &'a [u32],
        extra: &'a [(&'a str, &'a str)],
    ) -> Outcome<Metadata<'a>> {
        macro_rules! read {
            ($($field:ident: $kind:ident),* $(,)?) => { Metadata { $($field: read!(@$kind $field)),* } };
            (@name $field:ident) => { self.name("metadata", stringify!($field))? };
            (@shape $field:ident) => { shape.into() };
            (@extra $field:ident) => { extra.into() };
            (@$kind:ident $field:ident) => { self.$kind() };
        }
        Ok(metadata_fields!(read))
    }

    pub(crate) fn number(&mut self) -> u32 {
        self.float() as u32
    }

    pub(crate) fn optional_number(&mut self) -> Option<u32> {
        self.optional(Self::number)
    }

    /// A name of an enum's value; an absent one is the default.
    pub(crate) fn name<T>(&mut self, object: &str, field: &str) -> Outcome<T>
    where
        T: Default + for<'de> Deserialize<'de>,
    {
        match self.optional_text() {
            Some(name) => named(name, &format!("{object}.{}", camel_case(field))),
            None => Ok(T::default()),
        }
    }

    pub(crate) fn shape(&mut self) -> Vec<u32> {
        (0..self.count()).map(|_| self.number()).collect()
    }

    /// Keys and values in turn.
    pub(crate) fn extra(&mut self) -> Vec<(&'a str, &'a str)> {
        (0..self.count() / 2).map(|_| (self.text(), self.text())).collect()
    }

    fn score(&mut self) -> Option<f32> {
        self.optional(Self::float).map(|score| score as f32)
    }

    fn text(&mut self) -> &'a str {
        let units = self.number() as usize;
        let end = if self.is_ascii { units } else { bytes_of(self.text, units) };
        let (text, rest) = self.text.split_at_checked(end).unwrap_or((self.text, ""));
        self.text = rest.strip_prefix('\0').unwrap_or(rest);
        text
    }

    fn optional_text(&mut self) -> Option<&'a str> {
        self.optional(Self::text)
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.float() != 0.0).then(|| read(self))
    }

    /// The length of a list, each of whose items has a number.
    fn count(&mut self) -> usize {
        (self.number() as usize).min(self.numbers.len())
    }

    fn float(&mut self) -> f64 {
        let Some((first, rest)) = self.numbers.split_first() else { return 0.0 };
        self.numbers = rest;
        *first
    }
}

/// The length in bytes of the first `units` UTF-16 units of `text`.
fn bytes_of(text: &str, units: usize) -> usize {
    let mut before = 0;
    let is_behind = |(_, character): &(usize, char)| {
        let is_behind = before >= units;
        before += character.len_utf16();
        is_behind
    };
    text.char_indices().find(is_behind).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn texts_are_cut_where_they_were_joined(texts in vec("[a\0é😀]{0,4}", 0..9)) {
            let mut row = Row::default();
            row.texts(texts.iter().map(String::as_str));
            let joined: String = texts.iter().map(|text| format!("{text}\0")).collect();
            let mut reader = Reader::new(&joined, &row.numbers);
            prop_assert_eq!(reader.count(), texts.len());
            for text in &texts {
                prop_assert_eq!(reader.text(), text);
            }
            prop_assert_eq!((reader.text, reader.numbers.len()), ("", 0));
        }

        #[test]
        fn no_row_makes_reading_fail(text in "[a\0é😀]{0,9}", numbers in vec(any::<f64>(), 0..9)) {
            let mut reader = Reader::new(&text, &numbers);
            let (shape, extra) = (reader.shape(), reader.extra());
            prop_assert!(shape.len() + extra.len() <= numbers.len());
            let _ = reader.metadata(&shape, &extra);
        }
    }
}
