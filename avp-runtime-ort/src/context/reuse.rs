//! Going on from what a longer prompt and a context have in common.

use super::{Context, Positions, cut};
use crate::{Model, RunError};

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

impl Model {
    /// What of `context` a reading of `prompt` from its first token on can go on from: see [`Context::reusable`]. Nothing is
    /// copied.
    ///
    /// # Errors
    /// When the context is another model's.
    pub(crate) fn reuse<'c>(
        &self,
        context: Option<&'c Context>,
        prompt: &[u32],
    ) -> Result<Before<'c>, RunError> {
        let Some(context) = context else { return Ok(Before::default()) };
        // Whether or not anything of it can be used: a context of another model is a mistake.
        self.accepts(context)?;
        Ok(match context.reusable_len(prompt) {
            0 => Before::default(),
            seq_len => Before { context: Some(context), seq_len },
        })
    }
}
