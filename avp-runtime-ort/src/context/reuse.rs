//! The common prefix of a context and a longer prompt.

use super::{Context, Positions, cut};

/// The part of a context that a call continues from: its first positions, or none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Before<'c> {
    context: Option<&'c Context>,
    seq_len: usize,
}

impl<'c> Before<'c> {
    /// All of `context`.
    pub(crate) fn all(context: Option<&'c Context>) -> Self {
        Self { context, seq_len: context.map_or(0, Context::seq_len) }
    }

    /// The common prefix of `context` and `prompt`.
    pub(crate) fn common(context: &'c Context, prompt: &[u32]) -> Self {
        match context.reusable_len(prompt) {
            0 => Self::default(),
            seq_len => Self { context: Some(context), seq_len },
        }
    }

    pub(crate) fn context(&self) -> Option<&'c Context> {
        self.context
    }

    pub(crate) fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Number of latent steps in the part.
    pub(crate) fn num_steps(&self) -> usize {
        self.context.map_or(0, |context| cut::steps(&self.positions(), context.num_steps, self.seq_len))
    }

    /// The positions, if known.
    pub(super) fn positions(&self) -> Option<Positions> {
        match self.context {
            None => Some(Positions::default()),
            Some(context) => context.positions.as_ref().map(|positions| positions.slice(0..self.seq_len)),
        }
    }
}
