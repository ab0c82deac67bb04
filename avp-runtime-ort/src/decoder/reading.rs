//! Reads a prompt.
//!
//! Most graphs read it in one run. Some graphs read only one token at a time with a cache: then each token is a run, and other
//! calls run in between.

use std::sync::Arc;

use super::{Decoder, Input, Outputs, Sequence, Want};
use crate::RunError;

/// A prompt of tokens or vectors, and the number of those already read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reading {
    source: Arc<Source>,
    len: usize,
    read: usize,
}

enum Source {
    Tokens(Vec<u32>),
    /// `[len, hidden_size]`.
    Vectors(Vec<f32>),
}

impl Reading {
    pub(crate) fn tokens(tokens: Vec<u32>) -> Self {
        Self { len: tokens.len(), source: Arc::new(Source::Tokens(tokens)), read: 0 }
    }

    /// `values` must hold `len` vectors.
    pub(crate) fn vectors(values: Vec<f32>, len: usize) -> Self {
        Self { source: Arc::new(Source::Vectors(values)), len, read: 0 }
    }

    /// Marks up to `count` items as read, because a context holds them. Returns the number.
    pub(crate) fn skip(&mut self, count: usize) -> usize {
        self.read = count.min(self.len);
        self.read
    }

    /// Total number of items.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Number of unread items.
    pub(crate) fn left(&self) -> usize {
        self.len - self.read
    }

    /// The unread tokens; `None` for vectors.
    pub(crate) fn unread_tokens(&self) -> Option<&[u32]> {
        match &*self.source {
            Source::Tokens(tokens) => Some(&tokens[self.read..]),
            Source::Vectors(_) => None,
        }
    }
}

impl Decoder {
    /// Runs once after `sequence`: reads all unread items, or one token if the graph reads only one with a cache. Returns the
    /// outputs after the last item, `None` before.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn read(
        &mut self,
        sequence: &mut Sequence,
        reading: &mut Reading,
        want: Want,
    ) -> Result<Option<Outputs>, RunError> {
        let left = reading.left();
        let now = if self.one_token_behind_cache && sequence.seq_len() > 0 { left.min(1) } else { left };
        let want = if now == left { want } else { Want::default() };
        let range = reading.read..reading.read + now;
        let outputs = match &*reading.source {
            Source::Tokens(tokens) => self.run(sequence, Input::Tokens(&tokens[range]), want)?,
            Source::Vectors(values) => {
                let vectors = &values[range.start * self.hidden_size..range.end * self.hidden_size];
                let latents = self.latents(vectors)?;
                self.run(sequence, Input::Latent(&latents), want)?
            }
        };
        reading.read += now;
        Ok((now == left).then_some(outputs))
    }
}
