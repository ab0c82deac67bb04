//! Text to token ids and back.

mod faults;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use avp_core::hash;
use tokenizers::Tokenizer;

use crate::{
    ModelError, Rendered, RunError,
    chat::{Part, SpecialTexts},
    folder::read_text,
};

const SKIP_SPECIAL_TOKENS: bool = true;

/// The replacement character of decoders for invalid or incomplete UTF-8.
const REPLACEMENT: char = '\u{FFFD}';

/// Maximum number of bytes, and thus of tokens, of a UTF-8 character: the text before the last four tokens is final.
const CHARACTER: usize = 4;

/// Maximum number of tokens that wait for the rest of a character, with a margin.
const LONGEST_WAIT: usize = 16;

/// A model's tokenizer; cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    tokenizer: Arc<Tokenizer>,
    vocab_size: usize,
    special: Arc<SpecialTexts>,
}

impl Tokens {
    /// # Errors
    /// When `tokenizer.json` is missing or invalid.
    pub(crate) fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        Self::parse(&path, &read_text(&path)?)
    }

    /// # Errors
    /// When `json`, the text of the file at `path`, is not a tokenizer. The message has the line.
    pub(crate) fn parse(path: &Path, json: &str) -> Result<Self, ModelError> {
        let (tokenizer, last) = guarded(|| {
            let tokenizer = Tokenizer::from_bytes(json)?;
            let last = tokenizer.get_vocab(true).into_values().max();
            Ok((tokenizer, last))
        })
        .map_err(|message| {
            let fault = faults::find(json).map(|(line, reason)| format!("line {line}: {reason}"));
            ModelError::Tokenizer { path: path.to_owned(), message: fault.unwrap_or(message) }
        })?;
        // Ids may have gaps, so the number of tokens is not a bound.
        let vocab_size = last.map_or(0, |id| id as usize + 1);
        let added = tokenizer.get_added_tokens_decoder().into_values();
        let special = SpecialTexts::new(added.map(|token| (token.content, token.special)));
        Ok(Self { tokenizer: Arc::new(tokenizer), vocab_size, special: Arc::new(special) })
    }

    /// The ids of `text`, without special tokens other than those in the text.
    ///
    /// # Errors
    /// When the tokenizer cannot read it.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, RunError> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, false));
        let encoding = encoding.map_err(|message| RunError::Tokenizer { message })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a rendered prompt.
    ///
    /// # Errors
    /// When the tokenizer cannot read it.
    pub(crate) fn encode_parts(&self, rendered: &Rendered) -> Result<Vec<u32>, RunError> {
        let mut ids = Vec::new();
        for part in &rendered.0 {
            match part {
                Part::Text(text) => ids.extend(self.encode(text)?),
                Part::Literal(text) => {
                    let (start, end) = self.halves(text)?;
                    ids.extend(self.encode(start)?);
                    ids.extend(self.encode(end)?);
                }
            }
        }
        Ok(ids)
    }

    /// Divides the text of an added token into two parts without an added token.
    fn halves<'t>(&self, text: &'t str) -> Result<(&'t str, &'t str), RunError> {
        let mut cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let found = cuts.find(|(start, end)| !self.special.are_in(start) && !self.special.are_in(end));
        found.ok_or_else(|| RunError::Tokenizer {
            message: "a message has the text of a special token that cannot be written as text".to_owned(),
        })
    }

    /// The texts of the special tokens.
    pub(crate) fn special(&self) -> &SpecialTexts {
        &self.special
    }

    /// As [`encode`](Self::encode), with the special tokens that the tokenizer adds around a text.
    ///
    /// # Errors
    /// When the tokenizer cannot read it.
    pub(crate) fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>, RunError> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, true));
        let encoding = encoding.map_err(|message| RunError::Tokenizer { message })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids by the token's text, including added tokens.
    pub(crate) fn vocabulary(&self) -> HashMap<String, u32> {
        self.tokenizer.get_vocab(true).into_iter().collect()
    }

    /// One more than the largest id.
    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of the special token `text`, which decoded text does not contain.
    pub(crate) fn special_token(&self, text: &str) -> Option<u32> {
        let special = self.tokenizer.get_added_vocabulary().is_special_token(text);
        special.then(|| self.tokenizer.token_to_id(text)).flatten()
    }

    /// Whether decoding includes the token: special tokens and unknown ids are omitted.
    fn has_text(&self, id: u32) -> bool {
        let token = self.tokenizer.id_to_token(id);
        token.is_some_and(|token| !self.tokenizer.get_added_vocabulary().is_special_token(&token))
    }

    /// SHA-256 of the vocabulary, as the peers compute it, in hex.
    pub(crate) fn hash(&self) -> String {
        let vocab = self.tokenizer.get_vocab(true);
        hash::tokenizer_hash_of(vocab.iter().map(|(token, &id)| (token.as_str(), id)))
    }

    /// The text of `ids`, without special tokens. Unknown ids have no text, because heads are often padded.
    ///
    /// # Errors
    /// When the tokenizer cannot decode them.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, RunError> {
        guarded(|| self.tokenizer.decode(ids, SKIP_SPECIAL_TOKENS))
            .map_err(|message| RunError::Tokenizer { message })
    }
}

/// Incremental decoding; a character spread over several tokens is returned with its last byte.
///
/// A token's text can depend on the previous one (only the first token loses a leading space), so each piece is the text of the
/// last piece's tokens and the new ones without the text of the last piece. Unlike the stream of `tokenizers`, it returns
/// incomplete text at the end, and continues if a decoder changes text that is already returned.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextStream {
    /// The tokens of the last piece, then the pending ones.
    ids: Vec<u32>,
    /// The number of tokens of the last piece.
    given: usize,
    /// The text of the last piece's tokens.
    given_text: String,
}

impl TextStream {
    /// Adds a token and returns the text that is now final, often empty.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn push(&mut self, tokens: &Tokens, id: u32) -> Result<String, RunError> {
        if !tokens.has_text(id) {
            // It has no text and would only delay other tokens.
            return Ok(String::new());
        }
        self.ids.push(id);
        let text = tokens.decode(&self.ids)?;
        if !text.ends_with(REPLACEMENT) {
            return self.give(tokens, &text);
        }
        if self.ids.len() - self.given < LONGEST_WAIT {
            return Ok(String::new());
        }
        self.give_settled(tokens, &text)
    }

    /// Returns the pending text at the end, including an incomplete character.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn finish(&mut self, tokens: &Tokens) -> Result<String, RunError> {
        let text = tokens.decode(&self.ids)?;
        self.give(tokens, &text)
    }

    /// Returns `text`, the text of all ids, without that of the last tokens: a long invalid sequence must not be decoded again
    /// for each token.
    fn give_settled(&mut self, tokens: &Tokens, text: &str) -> Result<String, RunError> {
        let settled = self.ids.len() - CHARACTER;
        let settled_text = tokens.decode(&self.ids[..settled])?;
        if !text.starts_with(&settled_text) {
            // The cut is inside a character; the next token moves it.
            return Ok(String::new());
        }
        let waiting = self.ids.split_off(settled);
        let piece = self.give(tokens, &settled_text)?;
        self.ids.extend(waiting);
        Ok(piece)
    }

    fn give(&mut self, tokens: &Tokens, text: &str) -> Result<String, RunError> {
        let piece = match text.strip_prefix(&self.given_text) {
            Some(piece) => piece.to_owned(),
            None => tokens.decode(&self.ids[self.given..])?,
        };
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        self.given_text = tokens.decode(&self.ids)?;
        Ok(piece)
    }
}

/// Runs `work` and returns its error as text. The library panics on some inconsistent files, and such a file must not end the
/// process.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    // Unwind safe: a tokenizer is only read, and its cache entries are complete or absent.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("inconsistent file: {words}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A byte-level vocabulary: one token per byte, and a few longer tokens.
    fn byte_level() -> Tokens {
        let mut byte_chars: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        byte_chars.sort_unstable();
        let mut vocab: serde_json::Map<_, _> =
            byte_chars.iter().enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect();
        vocab.insert("Ġa".into(), json!(256));
        vocab.insert("©ÿ".into(), json!(257));
        parse(&json!({
            "version": "1.0",
            "added_tokens": [special(258)],
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        }))
    }

    /// As in Llama 2: a mark for spaces, dropped at the start, and byte tokens.
    fn byte_fallback() -> Tokens {
        let mut vocab: serde_json::Map<_, _> =
            (0..=255).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
        for (id, token) in (256..).zip(["▁a", "b", "▁"]) {
            vocab.insert(token.into(), json!(id));
        }
        parse(&json!({
            "version": "1.0",
            "added_tokens": [special(259)],
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ]},
            "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true},
        }))
    }

    fn special(id: u32) -> serde_json::Value {
        json!({"id": id, "content": "<|end|>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false})
    }

    fn parse(json: &serde_json::Value) -> Tokens {
        Tokens::parse(Path::new("tokenizer.json"), &json.to_string()).unwrap()
    }

    fn streamed(tokens: &Tokens, ids: &[u32]) -> (Vec<String>, String) {
        let mut stream = TextStream::default();
        let pieces = ids.iter().map(|&id| stream.push(tokens, id).unwrap()).collect();
        (pieces, stream.finish(tokens).unwrap())
    }

    fn ids(tokens: &Tokens, text: &[&str]) -> Vec<u32> {
        text.iter().map(|token| tokens.tokenizer.token_to_id(token).unwrap()).collect()
    }

    #[test]
    fn a_character_spread_over_tokens_comes_whole() {
        let tokens = byte_level();
        // The bytes of "é" and "x".
        let (pieces, rest) = streamed(&tokens, &ids(&tokens, &["Ã", "©", "x"]));
        assert_eq!(pieces, ["", "é", "x"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn what_never_becomes_a_character_comes_at_the_end() {
        let tokens = byte_level();
        let (pieces, rest) = streamed(&tokens, &ids(&tokens, &["x", "Ã"]));
        assert_eq!(pieces, ["x", ""]);
        assert_eq!(rest, "\u{FFFD}");
    }

    #[test]
    fn bytes_that_never_end_are_streamed_and_not_hoarded() {
        for (tokens, invalid) in [(byte_level(), "ÿ"), (byte_fallback(), "<0xFF>")] {
            let invalid = ids(&tokens, &[invalid])[0];
            let mut stream = TextStream::default();
            let mut text = String::new();
            for count in 1..200 {
                text += &stream.push(&tokens, invalid).unwrap();
                assert!(text.chars().count() + LONGEST_WAIT >= count, "{count}");
                assert!(stream.ids.len() <= 3 * LONGEST_WAIT, "{count}: {}", stream.ids.len());
            }
            text += &stream.finish(&tokens).unwrap();
            assert_eq!(text, REPLACEMENT.to_string().repeat(199));
        }
    }

    #[test]
    fn a_character_among_bytes_that_never_end_is_not_cut() {
        let tokens = byte_level();
        // "é" begins in the token after which the first cut would be, and ends in one that goes on with more.
        let mut said = ids(&tokens, &["ÿ"; 11]);
        said.extend(ids(&tokens, &["Ã", "©ÿ", "ÿ", "ÿ", "ÿ", "ÿ"]));
        let (pieces, rest) = streamed(&tokens, &said);
        assert_eq!(pieces[15], "");
        assert!(pieces[16].ends_with("é\u{FFFD}"), "{pieces:?}");
        assert_eq!(pieces.concat() + &rest, tokens.decode(&said).unwrap());
    }

    #[test]
    fn only_the_first_space_is_dropped_also_behind_special_tokens() {
        let tokens = byte_fallback();
        let (pieces, rest) = streamed(&tokens, &ids(&tokens, &["<|end|>", "▁a", "<|end|>", "▁a", "b"]));
        assert_eq!(pieces, ["", "a", "", " a", "b"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn a_decoder_that_changes_its_mind_loses_nothing() {
        let tokens = byte_fallback();
        // A run of bytes that ends badly becomes replacements as a whole, also the "A" that was given before.
        let (pieces, rest) = streamed(&tokens, &[0x41, 0xFF, 257]);
        assert_eq!(pieces.concat() + &rest, "A\u{FFFD}b");
    }

    #[test]
    fn ids_beyond_the_vocabulary_have_no_text_and_disturb_none() {
        let tokens = byte_level();
        let [a, b] = ids(&tokens, &["a", "b"])[..] else { panic!() };
        let (pieces, rest) = streamed(&tokens, &[a, 5000, u32::MAX, b]);
        assert_eq!((pieces.concat(), rest.as_str()), ("ab".into(), ""));
        assert_eq!(tokens.vocab_size(), 259);
    }

    #[test]
    fn special_tokens_are_found_by_their_text() {
        let tokens = byte_level();
        assert_eq!(tokens.special_token("<|end|>"), Some(258));
        assert_eq!(tokens.special_token("Ġa"), None);
        assert_eq!(tokens.special_token("none"), None);
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused_with_the_place() {
        let refused = |json: &str| match Tokens::parse(Path::new("tokenizer.json"), json) {
            Err(error @ ModelError::Tokenizer { .. }) => error.to_string(),
            other => panic!("{:?}", other.map(|tokens| tokens.vocab_size)),
        };
        assert!(refused("{\"version\": \"1.0\",\n \"model\": ").contains("line 2"));
        assert!(
            refused("{\"version\": \"1.0\", \"model\": {\"type\": \"Riddle\"}}").contains("tokenizer.json")
        );
        assert!(refused("").contains("tokenizer.json"));
    }

    #[test]
    fn a_file_that_contradicts_itself_is_an_error_and_no_panic() {
        let json = include_str!("../../test-vectors/parity/tiny-llama/tokenizer.json");
        let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
        // Merges whose second half is shorter than the prefix that it should begin with.
        json["model"]["continuing_subword_prefix"] = "((".into();
        let refused = |json: &str| match Tokens::parse(Path::new("tokenizer.json"), json) {
            Err(ModelError::Tokenizer { message, .. }) => message,
            other => panic!("{:?}", other.map(|tokens| tokens.vocab_size)),
        };
        let message = refused(&json.to_string());
        assert_eq!(message, "line 1: a merge's second token is shorter than the prefix of such tokens");

        json["model"]["continuing_subword_prefix"] = serde_json::Value::Null;
        json["model"]["merges"][3] = json!(["a", "no such token"]);
        let text = serde_json::to_string_pretty(&json).unwrap();
        let line = text.lines().position(|line| line.contains("no such token")).unwrap() + 1;
        let message = refused(&text);
        // The pair begins one or two lines before its second token.
        let begins: usize =
            message.strip_prefix("line ").unwrap().split(':').next().unwrap().parse().unwrap();
        assert!((line - 2..=line).contains(&begins), "{message}, line {line}");
    }

    proptest! {
        #[test]
        fn pieces_make_the_text_of_all_tokens(ids in prop::collection::vec(0u32..260, 0..60)) {
            let tokens = byte_level();
            let (pieces, rest) = streamed(&tokens, &ids);
            prop_assert_eq!(pieces.concat() + &rest, tokens.decode(&ids).unwrap());
        }

        #[test]
        fn pieces_make_the_text_also_of_bytes_that_are_none(
            ids in prop::collection::vec(prop_oneof![9 => 94u32..188, 1 => 222u32..256, 1 => 256u32..258], 0..200),
        ) {
            // Of the bytes from 0x80 on, mostly those that begin a character or are never in one.
            let tokens = byte_level();
            let (pieces, rest) = streamed(&tokens, &ids);
            prop_assert_eq!(pieces.concat() + &rest, tokens.decode(&ids).unwrap());
        }

        #[test]
        fn pieces_of_utf8_make_the_text_also_with_byte_fallback(text in "[ab ]{0,4}[é€😀]{0,3}[ab ]{0,4}") {
            let tokens = byte_fallback();
            let ids: Vec<u32> = text.bytes().map(|byte| match byte {
                b' ' => 258,
                byte => u32::from(byte),
            }).collect();
            let (pieces, rest) = streamed(&tokens, &ids);
            prop_assert_eq!(pieces.concat() + &rest, tokens.decode(&ids).unwrap());
        }
    }
}
