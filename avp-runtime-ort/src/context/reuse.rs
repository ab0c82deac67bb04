//! Going on from what a longer prompt and a context have in common.

use super::{Context, Positions, cut};

/// What a call goes on from: the first positions of a context, or nothing.
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

    /// The beginning of `context` that `prompt` has too.
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

    /// Latent steps among them.
    pub(crate) fn num_steps(&self) -> usize {
        self.context.map_or(0, |context| cut::steps(&self.positions(), context.num_steps, self.seq_len))
    }

    /// What stands at each, where that is known.
    pub(super) fn positions(&self) -> Option<Positions> {
        match self.context {
            None => Some(Positions::default()),
            Some(context) => context.positions.as_ref().map(|positions| positions.slice(0..self.seq_len)),
        }
    }
}
