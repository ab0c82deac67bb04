//! What a generation is asked for and what it gives.

use std::time::Duration;

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
