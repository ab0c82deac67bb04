//! Blank characters and case, as the peers treat them.
//!
//! The rules are those of Python's `str.strip` and `str.lower`, which the published peers apply to keys.

use core::cmp::Ordering;
use core::fmt;

#[cfg(feature = "alloc")]
use alloc::string::String;

/// Whether Python's `str.strip` removes this character: Unicode white space and the four ASCII separators FS, GS, RS, US.
pub(crate) fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// The number of bytes removed at the front, and `text` without blank characters at either end.
pub(crate) fn trim(text: &str) -> (usize, &str) {
    let start = text.trim_start_matches(is_blank);
    (text.len() - start.len(), start.trim_end_matches(is_blank))
}

/// A text in lower case, as by Python's `str.lower`.
#[cfg(any(feature = "learn", feature = "workflows"))]
pub(crate) fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// A text in upper case, as by Python's `str.upper`.
#[cfg(feature = "alloc")]
pub(crate) fn upper(text: &str) -> String {
    text.to_uppercase()
}

/// A key that is compared, ordered and displayed in lower case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folded<'a>(pub(crate) &'a str);

impl<'a> Folded<'a> {
    /// The lower-case characters, as by Python's `str.lower`.
    pub(crate) fn chars(self) -> impl Iterator<Item = char> + 'a {
        let text = self.0;
        text.char_indices().flat_map(move |(at, c)| {
            let c = if c == 'Σ' && is_final_sigma(text, at) { 'ς' } else { c };
            c.to_lowercase()
        })
    }

    /// FNV-1a of the lower-case characters.
    pub(crate) fn hash(self) -> u32 {
        self.chars().fold(0x811c_9dc5, |hash, c| (hash ^ u32::from(c)).wrapping_mul(0x0100_0193))
    }
}

impl PartialEq for Folded<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.0.is_ascii() && other.0.is_ascii() {
            return self.0.eq_ignore_ascii_case(other.0);
        }
        self.chars().eq(other.chars())
    }
}

impl Eq for Folded<'_> {}

impl PartialOrd for Folded<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Folded<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.chars().cmp(other.chars())
    }
}

impl fmt::Display for Folded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.chars().try_for_each(|c| f.write_char(c))
    }
}

/// Unicode's Final_Sigma condition: a cased letter before and none after, skipping characters without case.
///
/// DIFFERENCE: the skipped characters are the marks and apostrophes that occur in words, not the whole Case_Ignorable
/// property, whose table of 2,700 characters would serve one letter in unknown keys.
fn is_final_sigma(text: &str, at: usize) -> bool {
    let cased = |c: &char| c.is_lowercase() || c.is_uppercase();
    let skipped = |c: &char| matches!(c, '\'' | '.' | '\u{ad}' | '·' | '\u{300}'..='\u{36f}' | '\u{2019}');
    let before = text[..at].chars().rev().find(|c| !skipped(c));
    let after = text[at + 'Σ'.len_utf8()..].chars().find(|c| !skipped(c));
    before.as_ref().is_some_and(cased) && !after.as_ref().is_some_and(cased)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn trimming_removes_what_python_strip_removes() {
        assert_eq!(trim("\u{1c}\u{a0} a b \u{2003}\n"), (4, "a b"));
        assert_eq!(trim("a\u{200b}"), (0, "a\u{200b}"), "a zero-width space is not white space");
        assert_eq!(trim(" \t"), (2, ""));
        assert_eq!(trim(""), (0, ""));
    }

    #[test]
    fn keys_fold_as_python_lower_does() {
        assert_eq!(Folded("SenTiMent"), Folded("sentiment"));
        assert_eq!(Folded("ris\u{212a}"), Folded("risk"), "KELVIN SIGN lowers to k");
        assert_eq!(Folded("ΟΔΟΣ").to_string(), "οδος");
        assert_eq!(Folded("ΣΑΣ.Α Σ").to_string(), "σασ.α σ");
        assert_eq!(Folded("İ").to_string(), "i\u{307}");
        assert_ne!(Folded("a"), Folded("b"));
    }
}
