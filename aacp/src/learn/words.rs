//! Normal form, identifier and keywords of an instruction.
//!
//! They are those of the Python package, so that its log and this crate's log have the same identifiers.

use std::{collections::BTreeSet, format, string::String, vec::Vec};

use sha2::{Digest, Sha256};

use crate::text::is_blank;

/// The instruction in lower case, with one space between words.
///
/// ```
/// assert_eq!(aacp::learn::normalise("  Run the\tPAYROLL "), "run the payroll");
/// ```
pub fn normalise(english: &str) -> String {
    let lower = crate::text::lower(english);
    lower.split(is_blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The identifier of an instruction: the first 12 hexadecimal digits of the SHA-256 of its normal form.
///
/// ```
/// assert_eq!(aacp::learn::instruction_id("Run payroll"), aacp::learn::instruction_id(" run  PAYROLL"));
/// ```
pub fn instruction_id(english: &str) -> String {
    let digest = Sha256::digest(normalise(english).as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The keywords of an instruction: words of more than three letters without stop words, each once.
///
/// ```
/// assert_eq!(aacp::learn::keywords("Please fetch the employee records (all records)."), ["fetch", "employee", "records"]);
/// ```
pub fn keywords(english: &str) -> Vec<String> {
    let lower = crate::text::lower(english);
    let mut seen = BTreeSet::new();
    let words = lower.split(is_blank).map(|word| word.trim_matches(PUNCTUATION));
    let telling = words.filter(|word| word.chars().count() > 3 && !is_common(word));
    telling.filter(|word| seen.insert(*word)).map(String::from).collect()
}

/// The search terms of a text: runs of letters and digits in lower case, without stop words.
pub(super) fn search_words(text: &str) -> BTreeSet<String> {
    let lower = crate::text::lower(text);
    let words =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && !is_common(word));
    words.map(String::from).collect()
}

/// The words in which similar instructions must not differ: words with digits (dates, amounts, identifiers) and negations.
pub(super) fn crucial_words(text: &str) -> BTreeSet<String> {
    let lower = crate::text::lower(text);
    let words = lower.split(is_blank).map(|word| word.trim_matches(PUNCTUATION));
    let crucial = words.filter(|word| word.contains(|c: char| c.is_numeric()) || is_negation(word));
    crucial.map(String::from).collect()
}

const PUNCTUATION: &[char] = &['.', ',', ';', ':', '!', '?', '"', '\'', '(', ')', '[', ']'];

fn is_negation(word: &str) -> bool {
    word.ends_with("n't")
        || word.ends_with("n’t")
        || matches!(
            word,
            "no" | "not" | "none" | "never" | "without" | "except" | "cannot" | "stop" | "cancel" | "undo"
        )
}

fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word).is_ok()
}

/// Stop words; the Python package's list.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "a", "about", "all", "also", "an", "and", "are", "at", "be", "been", "being", "both", "but", "by", "could", "did",
    "do", "does", "each", "every", "few", "for", "from", "had", "has", "have", "i", "in", "into", "is", "it", "its",
    "just", "like", "may", "me", "might", "more", "most", "my", "need", "of", "on", "or", "other", "our", "please",
    "should", "some", "than", "that", "the", "then", "this", "through", "to", "up", "want", "was", "we", "were", "will",
    "with", "would", "you", "your",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_words_are_sorted_for_the_search() {
        assert!(COMMON.is_sorted());
        assert!(is_common("the") && !is_common("payroll"));
    }

    #[test]
    fn dates_amounts_and_negations_are_crucial() {
        let crucial = |text| crucial_words(text).into_iter().collect::<Vec<_>>();
        assert_eq!(crucial("Don't pay INV-9 (4,200 GBP), not yet."), ["4,200", "don't", "inv-9", "not"]);
        assert_eq!(crucial("Pay the invoice."), Vec::<String>::new());
    }
}
