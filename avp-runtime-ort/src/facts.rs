//! The properties of a loaded model without its session, shared by calls in flight.

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use avp_core::{OwnedModelIdentity, Rule};

use crate::{
    CacheLayout, Context, ContextError, Prompt, Rendered, RunError,
    chat::ChatTemplate,
    context::{Before, Fingerprint},
    decoder::Reading,
    kv::{KvCache, Past},
    tokens::Tokens,
};

pub(crate) struct Facts {
    pub(crate) tokens: Tokens,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) identity: Arc<OwnedModelIdentity>,
    pub(crate) fingerprint: Arc<Fingerprint>,
    /// Tokens that end a turn.
    pub(crate) end_of_turn: Vec<u32>,
    pub(crate) layout: CacheLayout,
    /// Whether the head is the embedding transposed, so that a latent step is a softmax over tokens.
    pub(crate) tied: bool,
    /// Tokens the model can attend to.
    pub(crate) window: usize,
    /// The export, which carries the weights.
    pub(crate) graph_path: PathBuf,
}

impl Facts {
    /// The ids of a prompt of text.
    ///
    /// # Errors
    /// When the template refuses the messages or the tokenizer the text, or the prompt is vectors.
    pub(crate) fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, RunError> {
        if let Prompt::Raw(text) = prompt {
            return self.tokens.encode(text);
        }
        self.tokens.encode_parts(&*prompt.render(self.template.as_ref(), self.tokens.special())?)
    }

    /// The text of `prompt`.
    ///
    /// # Errors
    /// When the template refuses the messages, or the prompt is vectors.
    pub(crate) fn render(&self, prompt: &Prompt) -> Result<Rendered, RunError> {
        prompt.render(self.template.as_ref(), self.tokens.special()).map(Cow::into_owned)
    }

    /// `prompt` as the decoder reads it.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize); when vectors have another width or are not finite.
    pub(crate) fn read(&self, prompt: Prompt) -> Result<Reading, RunError> {
        let Prompt::Vectors(vectors) = prompt else { return self.tokenize(&prompt).map(Reading::tokens) };
        let hidden_dim = self.identity.hidden_dim as usize;
        if !vectors.len().is_multiple_of(hidden_dim) {
            return Err(RunError::Vectors { hidden_dim, got: vectors.len() });
        }
        if !vectors.iter().all(|value| value.is_finite()) {
            return Err(RunError::NotFinite { step: 0 });
        }
        let len = vectors.len() / hidden_dim;
        Ok(Reading::vectors(vectors, len))
    }

    /// The handshake rule by which `context` fits.
    ///
    /// # Errors
    /// When it does not; the first field that differs is named.
    pub(crate) fn accepts(&self, context: &Context) -> Result<Rule, ContextError> {
        context.fits(&self.identity, &self.layout, &self.fingerprint)
    }

    /// The part of `context` that a reading of `prompt` from its first token on can continue from: see
    /// [`Context::reusable`]. Nothing is copied.
    ///
    /// # Errors
    /// When the context is another model's, whether or not any of it can be used.
    pub(crate) fn reuse<'c>(
        &self,
        context: Option<&'c Context>,
        prompt: &[u32],
    ) -> Result<Before<'c>, RunError> {
        let Some(context) = context else { return Ok(Before::default()) };
        self.accepts(context)?;
        Ok(Before::common(context, prompt))
    }

    /// Checks that `context` tokens, then `prompt` tokens and `steps` fit the window.
    ///
    /// # Errors
    /// When the prompt is empty or something does not fit.
    pub(crate) fn check_window(&self, context: usize, prompt: usize, steps: usize) -> Result<(), RunError> {
        let window = self.window;
        if prompt == 0 {
            return Err(RunError::EmptyPrompt);
        }
        if prompt > window {
            return Err(RunError::PromptTooLong { tokens: prompt, window });
        }
        if context.saturating_add(prompt).saturating_add(steps) > window {
            return Err(RunError::ContextTooLong { context, prompt, steps, window });
        }
        Ok(())
    }

    /// The KV-cache to start from, once it is clear that everything fits the window: `before`, then `prompt` tokens and
    /// `steps`.
    ///
    /// # Errors
    /// When the prompt is empty, something does not fit, or the context is another model's.
    pub(crate) fn past(&self, before: Before<'_>, prompt: usize, steps: usize) -> Result<Past, RunError> {
        let seq_len = before.seq_len();
        self.check_window(seq_len, prompt, steps)?;
        match before.context() {
            None => Ok(Arc::new(KvCache::empty(self.layout)?).into()),
            Some(context) => {
                self.accepts(context)?;
                Ok(Past::new(context.cache_in(self.layout.dtype)?, seq_len))
            }
        }
    }
}
