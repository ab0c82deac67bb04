//! Going on from what a longer prompt and a context have in common.

use super::Context;
use crate::{Model, RunError};

impl Model {
    /// What of `context` a reading of `prompt` from its first token on can go on from, and how many tokens that saves: see
    /// [`Context::reusable`].
    ///
    /// # Errors
    /// When the context is another model's, or there is no memory for its beginning.
    pub(crate) fn reuse(
        &self,
        context: Option<&Context>,
        prompt: &[u32],
    ) -> Result<(Option<Context>, usize), RunError> {
        let Some(context) = context else { return Ok((None, 0)) };
        // Whether or not anything of it can be used: a context of another model is a mistake.
        self.accepts(context)?;
        let reused = context.reusable(prompt)?;
        let tokens = reused.as_ref().map_or(0, Context::seq_len);
        Ok((reused, tokens))
    }
}
