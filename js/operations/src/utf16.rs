//! Offsets in bytes of UTF-8 as JavaScript counts them: in units of UTF-16.

/// Bytes between two remembered offsets: a look-up never walks further than that.
const STRIDE: usize = 256;

/// A text with a table of offsets; an ASCII text needs none.
pub(crate) struct Offsets<'a> {
    text: &'a str,
    /// Units in front of the character that byte `STRIDE * n` belongs to, with where that character starts.
    table: Vec<(usize, usize)>,
}

impl<'a> Offsets<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut table = Vec::new();
        if !text.is_ascii() {
            let mut units = 0;
            for (at, character) in text.char_indices() {
                if at + character.len_utf8() > table.len() * STRIDE {
                    table.push((at, units));
                }
                units += character.len_utf16();
            }
        }
        Self { text, table }
    }

    /// The units in front of byte `offset`, which is at a character's boundary or past the end.
    pub(crate) fn of(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let Some(&(at, units)) = self.table.get(offset / STRIDE).or(self.table.last()) else {
            return offset;
        };
        // A character that starts at or before the stride's byte and ends behind it is the one remembered.
        units + self.text.get(at..offset).map_or(0, |text| text.chars().map(char::len_utf16).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ascii_offsets_stay_as_they_are() {
        assert_eq!(Offsets::new("FETCH|HR").of(5), 5);
        assert_eq!(Offsets::new("FETCH|HR").of(99), 8);
    }

    proptest! {
        #[test]
        fn an_offset_counts_the_units_before_it(text in "[a|é€😀]{0,900}") {
            let offsets = Offsets::new(&text);
            for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
                prop_assert_eq!(offsets.of(at), text[..at].encode_utf16().count());
            }
        }
    }
}
