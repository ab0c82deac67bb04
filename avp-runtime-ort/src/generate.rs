//! What a generation is asked for, what it gives, and the loop that makes it.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use crate::{
    Context, Model, Prompt, RunError,
    decoder::{Input, Outputs, Sequence, Want},
    sample::Sampler,
};

/// How to generate. The default is greedy: the same prompt gives the same text.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Tokens to generate at most; 512 by default, as `avp` 0.2.1 has it.
    pub max_tokens: usize,
    /// 0 takes the likeliest token; above, tokens are drawn, and the flatter the higher it is.
    pub temperature: f32,
    /// Draw only from the likeliest tokens that together have this probability, in `(0, 1]`; 1 takes all.
    pub top_p: f32,
    /// Seeds the draw.
    pub seed: u64,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: 512, temperature: 0.0, top_p: 1.0, seed: 0 }
    }
}

/// Generated text and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The text, without the token that ended it.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt, all of them evaluated.
    pub prompt_tokens: usize,
    /// Tokens of the context, none of them evaluated again.
    pub context_tokens: usize,
    /// From the call to the first token.
    pub first_token_time: Duration,
    /// From the call to the last token.
    pub total_time: Duration,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn.
    EndOfTurn,
    /// `max_tokens` was reached.
    MaxTokens,
    /// The window was full.
    Window,
    /// The caller stopped it.
    Stopped,
}

impl Model {
    /// Reads `prompt` behind `context` and generates text until the model ends its turn.
    ///
    /// # Errors
    /// When the prompt is empty, does not fit the window with the context, an option is out of range, or the context is
    /// another model's.
    pub fn generate(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
    ) -> Result<Generation, RunError> {
        self.generate_streaming(prompt, context, options, |_| ControlFlow::Continue(()))
    }

    /// As [`generate`](Self::generate), calling `on_text` with each piece of text as soon as it is certain: a character
    /// that is spread over tokens comes whole. `ControlFlow::Break` ends the generation.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_streaming(
        &self,
        prompt: impl Into<Prompt>,
        context: Option<&Context>,
        options: &GenerateOptions,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation, RunError> {
        let start = Instant::now();
        let mut sampler = Sampler::new(options)?;
        if options.max_tokens == 0 {
            return Err(RunError::Option { option: "max_tokens", expected: "at least 1", got: 0.0 });
        }
        let prompt = self.tokenize(&prompt.into())?;
        let past = self.past(context, prompt.len(), 1)?;
        let mut stream = self.tokens().stream();
        let mut streamed = String::new();
        let mut tokens = Vec::new();
        let mut first_token_time = None;

        let prompt_tokens = prompt.len();
        let expected = prompt_tokens.saturating_add(options.max_tokens).min(self.window());
        let sequence = self.with_decoder(move |decoder| Ok(decoder.begin(past, expected)))?;
        let (mut sequence, mut outputs) = self.read(sequence, prompt)?;
        let finish = loop {
            let logits = outputs.logits()?;
            let token = sampler.next(&logits).ok_or(RunError::NotFinite { step: tokens.len() })?;
            first_token_time.get_or_insert_with(|| start.elapsed());
            if self.end_of_turn().contains(&token) {
                break Finish::EndOfTurn;
            }
            tokens.push(token);
            if let Some(piece) = stream.push(token) {
                streamed += &piece;
                if on_text(&piece).is_break() {
                    break Finish::Stopped;
                }
            }
            if tokens.len() == options.max_tokens {
                break Finish::MaxTokens;
            }
            if sequence.seq_len() >= self.window() {
                break Finish::Window;
            }
            (sequence, outputs) = self.read(sequence, vec![token])?;
        };
        let total_time = start.elapsed();
        let text = self.tokens().decode(&tokens)?;
        // What still waited for the rest of a character will not get it any more.
        if let Some(rest) = text.strip_prefix(&streamed).filter(|rest| !rest.is_empty())
            && finish != Finish::Stopped
        {
            // The generation has ended: there is nothing left to break off.
            let _ended = on_text(rest);
        }
        Ok(Generation {
            text,
            tokens,
            finish,
            prompt_tokens,
            context_tokens: context.map_or(0, Context::seq_len),
            first_token_time: first_token_time.unwrap_or(total_time),
            total_time,
        })
    }

    fn read(&self, mut sequence: Sequence, tokens: Vec<u32>) -> Result<(Sequence, Outputs), RunError> {
        self.with_decoder(move |decoder| {
            let outputs = decoder.run(&mut sequence, Input::Tokens(&tokens), Want::LOGITS)?;
            Ok((sequence, outputs))
        })
    }
}
