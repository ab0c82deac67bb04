//! The two hashes of a model identity: SHA-256 of what Python's `json.dumps` writes, in lowercase hex.

use alloc::string::String;
use core::fmt::{self, Write};

use sha2::{Digest, Sha256};

use crate::{
    hex,
    json::{Json, JsonError},
};

/// The model hash of a config: SHA-256 of `json.dumps(config, sort_keys=True, separators=(",", ":"))`.
///
/// `config` is the text of a `config.json`. The Python package hashes the config as Transformers fills it in, with
/// defaults that the file may lack, so pass that text if the hashes have to agree.
///
/// # Examples
///
/// ```
/// use avp_core::hash::model_hash;
///
/// assert_eq!(model_hash(r#"{"b": 1e-6, "a": 2}"#)?, model_hash(r#"{"a":2,"b":1e-06}"#)?);
/// # Ok::<(), avp_core::json::JsonError>(())
/// ```
///
/// # Errors
///
/// [`JsonError`] if the text is not JSON.
pub fn model_hash(config: &str) -> Result<String, JsonError> {
    Json::parse(config).map(|config| model_hash_of(&config))
}

/// The model hash of a parsed config.
#[must_use]
pub fn model_hash_of(config: &Json) -> String {
    sha256(|out| config.write_canonical(out))
}

/// The tokenizer hash of a vocabulary: SHA-256 of `json.dumps(sorted(vocab.items()), separators=(",", ":"))`.
///
/// `vocab` is the text of a JSON object from token to id. `None` for any other value.
///
/// # Examples
///
/// ```
/// use avp_core::hash::{tokenizer_hash, tokenizer_hash_of};
///
/// assert_eq!(tokenizer_hash(r#"{"b": 1, "a": 0}"#)?, Some(tokenizer_hash_of([("a", 0), ("b", 1)])));
/// # Ok::<(), avp_core::json::JsonError>(())
/// ```
///
/// # Errors
///
/// [`JsonError`] if the text is not JSON.
pub fn tokenizer_hash(vocab: &str) -> Result<Option<String>, JsonError> {
    let vocab = Json::parse(vocab)?;
    Ok(vocab.is_object().then(|| sha256(|out| vocab.write_sorted_items(out).unwrap_or(Ok(())))))
}

/// The tokenizer hash of a vocabulary given as pairs of token and id, in any order.
#[must_use]
pub fn tokenizer_hash_of<'a>(vocab: impl IntoIterator<Item = (&'a str, u32)>) -> String {
    let vocab = Json::object(vocab.into_iter().map(|(token, id)| (token, Json::from(u64::from(id)))));
    sha256(|out| vocab.write_sorted_items(out).unwrap_or(Ok(())))
}

/// SHA-256 of the output of `write`, in hex.
fn sha256(write: impl FnOnce(&mut dyn Write) -> fmt::Result) -> String {
    struct Sink(Sha256);

    impl Write for Sink {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text);
            Ok(())
        }
    }

    let mut sink = Sink(Sha256::new());
    let written = write(&mut sink);
    debug_assert!(written.is_ok(), "hashing does not fail");
    hex::encode(&sink.0.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_config_hashes_like_two_braces() {
        // `printf '{}' | sha256sum`
        assert_eq!(
            model_hash(" { } ").unwrap(),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }

    #[test]
    fn a_vocabulary_that_is_no_object_has_no_hash() {
        assert_eq!(tokenizer_hash("[]"), Ok(None));
        assert!(tokenizer_hash("{").is_err());
    }
}
