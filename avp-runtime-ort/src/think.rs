//! Thinking: a prompt read, latent steps taken, all of it kept as a context.

use crate::{
    Context, Model, Prompt, RunError,
    decoder::{Input, Want, last_row},
};

impl Model {
    /// Reads `prompt` behind `context` and thinks for `steps` latent steps; gives all of it as a new context.
    ///
    /// A latent step feeds the model's expected next embedding back instead of a token. With 0 steps the prompt is only
    /// read. `context` stays as it was and can be used again.
    ///
    /// # Errors
    /// When the prompt is empty, does not fit the window with context and steps, the context is another model's, or the
    /// model's last hidden state holds no finite numbers.
    pub fn think(
        &self,
        prompt: impl Into<Prompt>,
        steps: usize,
        context: Option<&Context>,
    ) -> Result<Context, RunError> {
        let tokens = self.tokenize(&prompt.into())?;
        let past = self.past(context, tokens.len(), steps)?;
        let want = |left| if left == 0 { Want::Hidden } else { Want::NextLatent };
        let mut step = self.decoder().run(Input::Tokens(&tokens), &past, want(steps))?;
        for left in (0..steps).rev() {
            let latent = step.output;
            step = self.decoder().run(Input::Latent(&latent), &step.cache, want(left))?;
        }
        let last_hidden_state = last_row(&step.output, self.identity().hidden_dim as usize)?;
        if !last_hidden_state.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { step: steps });
        }
        let before = context.map_or(0, Context::num_steps);
        let made = Context::new(step.cache, self.shared_identity(), before + steps, last_hidden_state);
        Ok(made.computed_from(self.fingerprint(), context, &tokens, steps))
    }
}
