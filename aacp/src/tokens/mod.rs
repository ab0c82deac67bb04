//! Token counts of a message in English, as a packet, as JSON and as TOON.
//!
//! ```
//! use aacp::tokens::{Table, Vocabulary, payroll_hops};
//! let table = Table::count(&Vocabulary::O200k, &payroll_hops(aacp::Version::V1_1))?;
//! assert!(table.total().aacp < table.total().english);
//! # Ok::<(), aacp::tokens::TokenError>(())
//! ```
//!
//! Available with the feature `tokens`.

mod samples;
mod table;

pub use samples::{Sample, payroll_hops, rule_samples, workflow_samples};
pub use table::{Counts, Table};

#[cfg(feature = "tokenizer-json")]
use std::string::ToString;
use std::{fmt, string::String};

/// A tokenizer.
pub trait Tokenizer {
    /// The name, for the table's head.
    fn name(&self) -> &str;

    /// The number of tokens of a text, without those of a chat template.
    ///
    /// # Errors
    /// If the tokenizer fails.
    fn count(&self, text: &str) -> Result<usize, TokenError>;
}

/// An error of counting tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// The file is not a `tokenizer.json`.
    File,
    /// The tokenizer failed to encode a text.
    Text,
    /// The packet of a sample cannot be parsed.
    Packet {
        /// Index of the sample, from 0.
        sample: usize,
    },
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::File => f.write_str("the file is not a tokenizer.json"),
            TokenError::Text => f.write_str("the tokenizer failed to encode the text"),
            TokenError::Packet { sample } => write!(f, "the packet of sample {sample} cannot be parsed"),
        }
    }
}

impl std::error::Error for TokenError {}

/// A vocabulary of OpenAI, included in the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// `o200k_base`: GPT-4o and later.
    O200k,
    /// `cl100k_base`: GPT-4 and GPT-3.5.
    Cl100k,
}

impl Tokenizer for Vocabulary {
    fn name(&self) -> &str {
        match self {
            Vocabulary::O200k => "o200k",
            Vocabulary::Cl100k => "cl100k",
        }
    }

    fn count(&self, text: &str) -> Result<usize, TokenError> {
        let encoder = match self {
            Vocabulary::O200k => tiktoken_rs::o200k_base_singleton(),
            Vocabulary::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        };
        Ok(encoder.encode_ordinary(text).len())
    }
}

/// A tokenizer from a `tokenizer.json`. Available with the feature `tokenizer-json`.
#[cfg(feature = "tokenizer-json")]
#[derive(Clone, Debug)]
pub struct TokenizerFile {
    name: String,
    tokenizer: tokenizers::Tokenizer,
}

#[cfg(feature = "tokenizer-json")]
impl TokenizerFile {
    /// Loads a tokenizer; its name is the path.
    ///
    /// # Errors
    /// [`TokenError::File`].
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, TokenError> {
        let path = path.as_ref();
        let tokenizer = tokenizers::Tokenizer::from_file(path).map_err(|_| TokenError::File)?;
        Ok(Self { name: path.display().to_string(), tokenizer })
    }
}

#[cfg(feature = "tokenizer-json")]
impl Tokenizer for TokenizerFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn count(&self, text: &str) -> Result<usize, TokenError> {
        let encoding = self.tokenizer.encode(text, false).map_err(|_| TokenError::Text)?;
        Ok(encoding.len())
    }
}

/// The packet as a JSON object: task, domain, and each field by its key.
///
/// `None` if the text is not a packet.
pub fn packet_json(packet: &str) -> Option<serde_json::Value> {
    let packet = crate::Packet::parse(packet).ok()?;
    let mut parts = serde_json::Map::new();
    let head = [("task", packet.task()), ("dom", packet.domain())];
    for (key, value) in head {
        parts.insert(key.into(), value.into());
    }
    for (field, value) in packet.fields_decoded() {
        if let Some(key) = field.key() {
            parts.insert(key.into(), value.to_cow().into_owned().into());
        }
    }
    Some(serde_json::Value::Object(parts))
}

/// The same object in TOON, the Token-Oriented Object Notation.
///
/// `None` if the text is not a packet.
pub fn packet_toon(packet: &str) -> Option<String> {
    toon_format::encode_default(&packet_json(packet)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_vocabularies_count_as_openai_does() {
        // From OpenAI's own description of the two vocabularies: "antidisestablishmentarianism" has 6 tokens in each.
        for vocabulary in [Vocabulary::O200k, Vocabulary::Cl100k] {
            assert_eq!(vocabulary.count("antidisestablishmentarianism"), Ok(6), "{}", vocabulary.name());
            assert_eq!(vocabulary.count("2 + 2 = 4"), Ok(7), "{}", vocabulary.name());
            assert_eq!(vocabulary.count(""), Ok(0));
        }
    }

    #[cfg(feature = "tokenizer-json")]
    #[test]
    fn a_tokenizer_is_read_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let words = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
            "pre_tokenizer":{"type":"WhitespaceSplit"},"post_processor":null,"decoder":null,
            "model":{"type":"WordLevel","vocab":{"a":0,"b":1,"?":2},"unk_token":"?"}}"#;
        std::fs::write(&path, words).unwrap();
        let tokenizer = TokenizerFile::open(&path).unwrap();
        assert_eq!(tokenizer.count("a b  other"), Ok(3));
        assert!(tokenizer.name().ends_with("tokenizer.json"));
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(TokenizerFile::open(&path).unwrap_err(), TokenError::File);
    }

    #[test]
    fn a_packet_becomes_the_same_object_in_both_notations() {
        let packet = "SEND|HR|return:A|aacp:1.2|enc:pct|subj:a%7Cb|word";
        let json = packet_json(packet).unwrap();
        assert_eq!(json.to_string(), r#"{"task":"SEND","dom":"HR","return":"A","aacp":"1.2","subj":"a|b"}"#);
        assert_eq!(packet_toon(packet).unwrap(), "task: SEND\ndom: HR\nreturn: A\naacp: \"1.2\"\nsubj: a|b");
        assert_eq!(packet_json("no packet"), None);
    }
}
