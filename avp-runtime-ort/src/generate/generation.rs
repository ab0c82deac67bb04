//! The result of a generation.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::machine::Usage;
use crate::{metrics::GenerateMetrics, think::StepsTime};

/// Generated text.
///
/// Serialized, it has the fields from [`text`](Self::text) to [`total_time`](Self::total_time) in this order, then
/// `generated_tokens` and `tokens_per_second`; times are in seconds, as `first_token_s` and `total_s`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Generation {
    /// The text, without what ended it.
    pub text: String,
    /// All generated tokens, including those of a stop text, without an end-of-turn or stop token.
    pub tokens: Vec<u32>,
    /// The reason for the end.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were taken from the context.
    pub reused_tokens: usize,
    /// Tokens of the context, including reused ones.
    pub context_tokens: usize,
    /// Time from the call to the first token.
    pub first_token_time: Duration,
    /// Time from the call to the last token.
    pub total_time: Duration,
    /// Time of the tokens after the first, which is computed with the prompt.
    pub steps_time: StepsTime,
    /// Metrics of the call, as reported by `avp` 0.6.
    pub metrics: GenerateMetrics,
}

/// The reason for the end of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finish {
    /// The model ended its turn.
    EndOfTurn,
    /// The answer reached a stop text or a stop token.
    Stop,
    /// `max_tokens` was reached.
    MaxTokens,
    /// The window was full.
    Window,
    /// The caller stopped it.
    Stopped,
}

impl Generation {
    /// An answer without text yet.
    pub(super) fn begun(usage: Usage) -> Self {
        Self {
            text: String::new(),
            tokens: Vec::new(),
            finish: Finish::Stopped,
            prompt_tokens: usage.prompt_tokens,
            reused_tokens: usage.reused_tokens,
            context_tokens: usage.context_tokens,
            first_token_time: Duration::ZERO,
            total_time: Duration::ZERO,
            steps_time: StepsTime::default(),
            metrics: GenerateMetrics::default(),
        }
    }

    /// Tokens per second after the first token, without the time to read the prompt. `None` for fewer than two tokens.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.total_time.saturating_sub(self.first_token_time).as_secs_f64();
        let steps = self.tokens.len().checked_sub(1).filter(|&steps| steps > 0)?;
        (seconds > 0.0).then(|| steps as f64 / seconds)
    }
}

impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'g> {
            text: &'g str,
            tokens: &'g [u32],
            finish: Finish,
            prompt_tokens: usize,
            reused_tokens: usize,
            context_tokens: usize,
            first_token_s: f64,
            total_s: f64,
            generated_tokens: usize,
            tokens_per_second: Option<f64>,
        }
        let flat = Flat {
            text: &self.text,
            tokens: &self.tokens,
            finish: self.finish,
            prompt_tokens: self.prompt_tokens,
            reused_tokens: self.reused_tokens,
            context_tokens: self.context_tokens,
            first_token_s: self.first_token_time.as_secs_f64(),
            total_s: self.total_time.as_secs_f64(),
            generated_tokens: self.tokens.len(),
            tokens_per_second: self.tokens_per_second(),
        };
        flat.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(tokens: usize) -> Generation {
        Generation {
            text: "hi".into(),
            tokens: vec![7; tokens],
            finish: Finish::EndOfTurn,
            prompt_tokens: 3,
            reused_tokens: 1,
            context_tokens: 2,
            first_token_time: Duration::from_millis(500),
            total_time: Duration::from_millis(1500),
            steps_time: StepsTime { total: Duration::from_secs(1), inside_runtime: Duration::ZERO },
            metrics: GenerateMetrics::default(),
        }
    }

    #[test]
    fn the_speed_excludes_the_first_token() {
        assert_eq!(generation(11).tokens_per_second(), Some(10.0));
        assert_eq!(generation(1).tokens_per_second(), None);
        assert_eq!(generation(0).tokens_per_second(), None);
    }

    #[test]
    fn its_json_is_flat_with_times_in_seconds() {
        let json = serde_json::to_value(generation(2)).unwrap();
        let expected = serde_json::json!({
            "text": "hi", "tokens": [7, 7], "finish": "end_of_turn", "prompt_tokens": 3, "reused_tokens": 1,
            "context_tokens": 2, "first_token_s": 0.5, "total_s": 1.5, "generated_tokens": 2, "tokens_per_second": 1.0,
        });
        assert_eq!(json, expected);
    }
}
