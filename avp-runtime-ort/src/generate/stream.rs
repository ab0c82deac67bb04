//! The loop that drives an answer: runs what it asks for and passes the logits in.

use std::{sync::Arc, time::Instant};

use super::{
    GenerateOptions, Generation,
    machine::{Generating, Next, Usage},
};
use crate::{
    Context, Model, Prompt, RunError,
    decoder::{Input, Want, to_f32},
    kv::KvCache,
};

/// An answer, piece by piece; made by [`Model::generate_stream`].
///
/// The pieces together are the text, none is empty, and each is whole characters. To stop, drop it or ask for
/// [`into_generation`](Self::into_generation).
pub struct GenerationStream<'m> {
    model: &'m Model,
    generating: Generating,
    /// What to run next, behind which cache; `None` when it is done.
    pending: Option<(Vec<u32>, Arc<KvCache>)>,
}

impl<'m> GenerationStream<'m> {
    pub(super) fn new(
        model: &'m Model,
        prompt: &Prompt,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<Self, RunError> {
        let start = Instant::now();
        let prompt = model.tokenize(prompt)?;
        let past = model.past(context, prompt.len(), 1)?;
        let usage = Usage {
            prompt_tokens: prompt.len(),
            reused_tokens: 0,
            context_tokens: past.seq_len(),
            room: model.window().saturating_sub(past.seq_len() + prompt.len()),
        };
        let generating =
            Generating::new(options, model.tokens(), &prompt, model.end_of_turn(), usage, start)?;
        Ok(Self { model, generating, pending: Some((prompt, past)) })
    }

    /// The answer as far as it came: all of it when the iterator has ended, else [`Finish::Stopped`](super::Finish).
    pub fn into_generation(self) -> Generation {
        self.generating.into_generation()
    }

    /// Runs the model once; gives the text that is then certain.
    fn step(&mut self, tokens: &[u32], past: &KvCache) -> Result<String, RunError> {
        let step = self.model.decoder().run(Input::Tokens(tokens), past, Want::Logits)?;
        let (text, next) = self.generating.advance(&to_f32(&step.output)?, Instant::now())?;
        if let Next::Run(token) = next {
            self.pending = Some((vec![token], Arc::new(step.cache)));
        }
        Ok(text)
    }
}

impl Iterator for GenerationStream<'_> {
    type Item = Result<String, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((tokens, past)) = self.pending.take() {
            match self.step(&tokens, &past) {
                Ok(text) if text.is_empty() => {}
                other => return Some(other),
            }
        }
        None
    }
}

impl std::iter::FusedIterator for GenerationStream<'_> {}

impl std::fmt::Debug for GenerationStream<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GenerationStream")
            .field("done", &self.pending.is_none())
            .finish_non_exhaustive()
    }
}
