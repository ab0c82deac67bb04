//! The tokens that two vocabularies share.

use std::collections::HashMap;

/// A vocabulary: from the text of a token to its id.
pub type Vocabulary = HashMap<String, u32>;

/// Tokens with the same text in two vocabularies, sorted by text in code-point order, as in Python.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Overlap {
    /// Ids in the source's vocabulary.
    pub(super) source_ids: Vec<u32>,
    /// Ids in the target's vocabulary, in the same order.
    pub(super) target_ids: Vec<u32>,
}

impl Overlap {
    /// The shared tokens, without ids outside a table: those have no embedding.
    pub(super) fn of(
        source: &Vocabulary,
        source_rows: usize,
        target: &Vocabulary,
        target_rows: usize,
    ) -> Self {
        let mut shared: Vec<(&str, u32, u32)> = source
            .iter()
            .filter_map(|(token, &id)| Some((token.as_str(), id, *target.get(token)?)))
            .filter(|&(_, source, target)| (source as usize) < source_rows && (target as usize) < target_rows)
            .collect();
        // UTF-8 has code-point order.
        shared.sort_unstable();
        let (source_ids, target_ids) = shared.into_iter().map(|(_, source, target)| (source, target)).unzip();
        Self { source_ids, target_ids }
    }

    pub(super) fn len(&self) -> usize {
        self.source_ids.len()
    }
}

/// The number of tokens that two vocabularies share, for the handshake's [`Evidence`](avp_core::Evidence).
///
/// ```
/// use avp_rosetta::shared_tokens;
/// use avp_runtime_ort::{ModelError, read_vocabulary};
///
/// let ours = read_vocabulary("../test-vectors/parity/tiny-qwen2")?;
/// let theirs = read_vocabulary("../test-vectors/rosetta/tiny-other")?;
/// assert_eq!(shared_tokens(&ours, &theirs), 266);
/// # Ok::<(), ModelError>(())
/// ```
pub fn shared_tokens(one: &Vocabulary, other: &Vocabulary) -> usize {
    one.keys().filter(|token| other.contains_key(*token)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[(&str, u32)]) -> Vocabulary {
        tokens.iter().map(|&(token, id)| (token.to_owned(), id)).collect()
    }

    #[test]
    fn shared_tokens_are_sorted_by_text_with_both_ids() {
        let source = vocabulary(&[("b", 0), ("\u{e000}", 1), ("a", 2), ("\u{10000}", 3), ("own", 4)]);
        let target = vocabulary(&[("a", 5), ("\u{10000}", 6), ("\u{e000}", 7), ("b", 8), ("theirs", 9)]);
        let overlap = Overlap::of(&source, 5, &target, 10);
        assert_eq!(overlap, Overlap { source_ids: vec![2, 0, 1, 3], target_ids: vec![5, 8, 7, 6] });
    }

    #[test]
    fn a_token_beyond_its_table_is_left_out() {
        let vocabulary = vocabulary(&[("a", 0), ("b", 1)]);
        assert_eq!(Overlap::of(&vocabulary, 1, &vocabulary, 2).len(), 1);
        assert_eq!(Overlap::of(&vocabulary, 2, &vocabulary, 0).len(), 0);
    }
}
