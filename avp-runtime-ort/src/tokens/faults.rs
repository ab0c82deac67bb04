//! Finds inconsistencies in a tokenizer file.
//!
//! The library reads a whole model before it checks the contents, so that its errors name the model's last line, or it panics.
//! Vocabularies have a hundred thousand lines: this module finds the line of the error.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// What this looks at; other models' files do not parse as it and are left to the library's words.
#[derive(Deserialize)]
struct File<'json> {
    #[serde(borrow)]
    model: PairMerges<'json>,
}

#[derive(Deserialize)]
struct PairMerges<'json> {
    #[serde(borrow)]
    vocab: HashMap<String, &'json RawValue>,
    #[serde(borrow)]
    merges: Vec<&'json RawValue>,
    continuing_subword_prefix: Option<String>,
}

/// Two tokens, or as older files have it, both with a space between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

/// The line of the first entry that cannot be, from 1, and why; `None` where this sees none.
pub(super) fn find(json: &str) -> Option<(usize, &'static str)> {
    let File { model } = serde_json::from_str(json).ok()?;
    // Both are slices of the same text.
    let offset = |entry: &RawValue| (entry.get().as_ptr() as usize).saturating_sub(json.as_ptr() as usize);
    let ids = model.vocab.values().filter(|id| id.get().parse::<u32>().is_err());
    let no_id = ids.map(|id| (offset(id), "a token's id is no number of 32 bits"));
    let merges = model.merges.iter().filter_map(|merge| Some((offset(merge), model.fault(merge)?)));
    let (offset, reason) = no_id.chain(merges).min()?;
    Some((json.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1, reason))
}

impl PairMerges<'_> {
    fn fault(&self, merge: &RawValue) -> Option<&'static str> {
        let parsed: Option<Merge> = serde_json::from_str(merge.get()).ok();
        let pair = match &parsed {
            Some(Merge::Pair(first, second)) => Some((&**first, &**second)),
            // A line of the files that merges once came in, which is passed over.
            Some(Merge::Text(text)) if text.starts_with("#version") => return None,
            Some(Merge::Text(text)) => text.split_once(' '),
            None => None,
        };
        let Some((first, second)) = pair else { return Some("a merge is no pair of tokens") };
        if !self.vocab.contains_key(first) || !self.vocab.contains_key(second) {
            return Some("a merge is of a token that is not in the vocabulary");
        }
        let prefix = self.continuing_subword_prefix.as_deref().map_or(0, str::len);
        let Some(rest) = second.get(prefix..) else {
            return Some("a merge's second token is shorter than the prefix of such tokens");
        };
        let made = [first, rest].concat();
        (!self.vocab.contains_key(&made)).then_some("a merge makes a token that is not in the vocabulary")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(vocab: &str, merges: &str, prefix: &str) -> String {
        format!(
            "{{\"model\": {{\n\"vocab\": {{{vocab}}},\n\"merges\": [{merges}],\n\"continuing_subword_prefix\": {prefix}}}}}"
        )
    }

    #[test]
    fn the_first_entry_that_cannot_be_is_found_by_its_line() {
        let vocab = "\"a\": 0,\n\"b\": 1,\n\"ab\": 2";
        let found = |merges: &str| find(&file(vocab, merges, "null"));
        assert_eq!(found("[\"a\", \"b\"]"), None);
        assert_eq!(found("\"a b\""), None);
        assert_eq!(found("\"#version: 0.2\",\n\"a b\""), None);
        for (merges, reason) in [
            (
                "[\"a\", \"b\"],\n[\"a\", \"c\"],\n[\"c\", \"a\"]",
                "a merge is of a token that is not in the vocabulary",
            ),
            ("\"a b\",\n\"b a\"", "a merge makes a token that is not in the vocabulary"),
            ("[\"a\", \"b\"],\n[\"a\"]", "a merge is no pair of tokens"),
            ("\"a b\",\n\"ab\"", "a merge is no pair of tokens"),
        ] {
            assert_eq!(found(merges), Some((6, reason)), "{merges}");
        }
        let ids = file("\"a\": 0,\n\"b\": -1,\n\"c\": \"d\"", "", "null");
        assert_eq!(find(&ids), Some((3, "a token's id is no number of 32 bits")));
    }

    #[test]
    fn a_prefix_of_second_tokens_is_left_out_of_what_a_merge_makes() {
        let vocab = "\"a\": 0, \"#b\": 1, \"ab\": 2, \"b\": 3";
        assert_eq!(find(&file(vocab, "[\"a\", \"#b\"]", "\"#\"")), None);
        let short = find(&file(vocab, "[\"a\", \"b\"]", "\"##\""));
        assert_eq!(short, Some((3, "a merge's second token is shorter than the prefix of such tokens")));
    }

    #[test]
    fn what_is_no_such_file_is_left_alone() {
        for json in ["", "{}", "[1]", "{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0.5]]}}"] {
            assert_eq!(find(json), None, "{json}");
        }
    }
}
