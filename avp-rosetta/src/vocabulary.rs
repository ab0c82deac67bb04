//! Which tokens two vocabularies share.

use std::collections::HashMap;

/// A vocabulary: ids by the token's text.
pub type Vocabulary = HashMap<String, u32>;

/// Tokens with the same text in two vocabularies, sorted by that text as Python sorts (by code point).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Overlap {
    /// Their ids in the source's vocabulary.
    pub(super) source_ids: Vec<u32>,
    /// Their ids in the target's, in the same order.
    pub(super) target_ids: Vec<u32>,
}

impl Overlap {
    /// Tokens of both; those whose id is no row of a table are left out, since nothing is known of them.
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
        // UTF-8 sorts as code points do.
        shared.sort_unstable();
        let (source_ids, target_ids) = shared.into_iter().map(|(_, source, target)| (source, target)).unzip();
        Self { source_ids, target_ids }
    }

    pub(super) fn len(&self) -> usize {
        self.source_ids.len()
    }
}

/// How many tokens two vocabularies share, for the handshake's [`Evidence`](avp_core::Evidence).
///
/// ```
/// # use avp_rosetta::shared_tokens;
/// # use avp_runtime_ort::read_vocabulary;
/// let ours = read_vocabulary("../test-vectors/parity/tiny-qwen2")?;
/// let theirs = read_vocabulary("../test-vectors/rosetta/tiny-other")?;
/// assert_eq!(shared_tokens(&ours, &theirs), 266);
/// # Ok::<(), avp_runtime_ort::ModelError>(())
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
    fn shared_tokens_come_sorted_by_their_text_with_the_ids_of_both() {
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
