//! Text to token ids and back.

use std::{collections::HashMap, path::Path};

use avp_core::hash;
use tokenizers::{
    DecodeStream, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer,
};

use crate::{ModelError, RunError, folder::read_text};

const SKIP_SPECIAL_TOKENS: bool = true;

/// A model's tokenizer.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
}

impl Tokens {
    /// # Errors
    /// When `tokenizer.json` is missing or is no tokenizer.
    pub(crate) fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        Self::parse(&path, &read_text(&path)?)
    }

    /// # Errors
    /// When `json`, the text of the file at `path`, is no tokenizer.
    pub(crate) fn parse(path: &Path, json: &str) -> Result<Self, ModelError> {
        let tokenizer = Tokenizer::from_bytes(json)
            .map_err(|error| ModelError::Tokenizer { path: path.to_owned(), message: error.to_string() })?;
        Ok(Self { tokenizer })
    }

    /// The ids of `text`, without special tokens beyond those that the text spells out.
    ///
    /// # Errors
    /// When the tokenizer cannot read it.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, RunError> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(tokenizer_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`encode`](Self::encode), with the special tokens that the tokenizer puts around a text of its own.
    ///
    /// # Errors
    /// When the tokenizer cannot read it.
    pub(crate) fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>, RunError> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(tokenizer_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids by the token's text, added tokens among them.
    pub(crate) fn vocabulary(&self) -> HashMap<String, u32> {
        self.tokenizer.get_vocab(true).into_iter().collect()
    }

    /// SHA-256 of the vocabulary as peers compute it, in hex.
    pub(crate) fn hash(&self) -> String {
        let vocab = self.tokenizer.get_vocab(true);
        hash::tokenizer_hash_of(vocab.iter().map(|(token, &id)| (token.as_str(), id)))
    }

    /// A stream that gives each piece of text as soon as its tokens make whole characters.
    pub(crate) fn stream(&self) -> TextStream<'_> {
        TextStream { stream: self.tokenizer.decode_stream(SKIP_SPECIAL_TOKENS) }
    }

    /// The text of `ids`, without special tokens.
    ///
    /// # Errors
    /// When the tokenizer cannot write them.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, RunError> {
        self.tokenizer.decode(ids, SKIP_SPECIAL_TOKENS).map_err(tokenizer_error)
    }
}

/// Text that grows token by token.
pub(crate) struct TextStream<'t> {
    stream: DecodeStream<
        't,
        ModelWrapper,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >,
}

impl TextStream<'_> {
    /// Adds a token and gives the text that is now certain: a character spread over tokens waits for its last byte. A
    /// tokenizer that would change text already given gives no more.
    pub(crate) fn push(&mut self, id: u32) -> Option<String> {
        self.stream.step(id).ok().flatten()
    }
}

fn tokenizer_error(error: tokenizers::Error) -> RunError {
    RunError::Tokenizer { message: error.to_string() }
}
