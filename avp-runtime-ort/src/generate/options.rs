//! Options of a generation.

use std::{collections::BTreeMap, time::Duration};

use crate::RunError;

/// Options of [`Model::generate`](crate::Model::generate). The default is greedy: the same prompt gives the same text.
///
/// ```
/// use avp_runtime_ort::GenerateOptions;
///
/// let options = GenerateOptions { temperature: 0.7, top_k: 40, seed: 1, ..GenerateOptions::default() };
/// assert_eq!((options.max_tokens, options.top_p), (512, 1.0));
/// ```
///
/// # Order of processing
///
/// As the logits processors of the same names in Transformers' `generate`:
///
/// 1. `logit_bias`: added to a token's logit, as in the OpenAI API.
/// 2. `repetition_penalty`: a logit of a token in the prompt or the answer so far is divided by it where positive, and
///    multiplied where negative (Keskar et al., 2019). The prompt counts as in Transformers; the context does not, since
///    a received context does not carry its tokens.
/// 3. `frequency_penalty` and `presence_penalty`, as the OpenAI API defines them: the former is subtracted once per
///    occurrence of the token in the answer so far, the latter once if it occurs at all. The prompt does not count.
/// 4. With `temperature` 0 the likeliest token is chosen, and the following steps are skipped. Else logits are divided by it.
/// 5. `top_k`, then `top_p` of the remaining tokens, then `min_p`.
/// 6. One of the remaining tokens is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Maximum number of generated tokens, at least 1; 512 by default, as in `avp` 0.2.1.
    pub max_tokens: usize,
    /// 0 chooses the likeliest token; above 0, tokens are drawn, from a flatter distribution the higher it is.
    pub temperature: f32,
    /// Draw only from the `top_k` likeliest tokens, including ties with the last of them; 0 keeps all.
    pub top_k: usize,
    /// Draw only from the likeliest tokens that together have this probability, in `(0, 1]`; 1 keeps all.
    pub top_p: f32,
    /// Draw only from tokens at least this fraction as likely as the likeliest, in `[0, 1]`; 0 keeps all.
    pub min_p: f32,
    /// Above 1 makes tokens of the prompt and the answer less likely, below 1 more likely; 1 by default. Must be above 0.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit for each occurrence in the answer, in `[-2, 2]`.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of each token in the answer, in `[-2, 2]`.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens, by id; negative infinity forbids a token.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Texts that end the answer at their first occurrence, also across tokens; they are not part of it. The text of a special
    /// token ends the answer at that token.
    pub stop: Vec<String>,
    /// Tokens that end the answer, in addition to the model's end-of-turn tokens; they are not part of it.
    pub stop_tokens: Vec<u32>,
    /// Ignore end-of-turn tokens, as vLLM's `ignore_eos`: for benchmarks, with `max_tokens`.
    pub ignore_end_of_turn: bool,
    /// Seed of the draw.
    pub seed: u64,
    /// Time limit, counted from the call; `None` waits without limit. See also [`compare`](Self::compare).
    pub timeout: Option<Duration>,
    /// Start the prompt at the context's first token, not behind the context: the common prefix is taken from the context, and
    /// only the rest is computed. Without token ids in the context, nothing is reused.
    pub reuse_prefix: bool,
    /// Latent steps to take on the prompt before it is answered, as `avp.generate` does; 0 by default.
    pub steps: usize,
    /// Fill [`GenerateMetrics::diagnostics`](crate::GenerateMetrics::diagnostics): of the answer, and of the hidden state behind
    /// the prompt and each latent step.
    pub diagnostics: bool,
    /// Answer once more without the context, and report in the diagnostics how many words both answers share. Takes as long
    /// again. If that answer fails or the time is up before its end, the first one is returned with a warning in its
    /// diagnostics.
    pub compare: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 512,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_end_of_turn: false,
            seed: 0,
            timeout: None,
            reuse_prefix: false,
            steps: 0,
            diagnostics: false,
            compare: false,
        }
    }
}

impl GenerateOptions {
    /// Checks the options for a tokenizer with ids below `vocab_size`. The error names the option.
    pub(super) fn check(&self, vocab_size: usize) -> Result<(), RunError> {
        let number = |option, value: f32, fits: bool, expected| {
            let refused = RunError::Option { option, expected, got: value.into() };
            if fits { Ok(()) } else { Err(refused) }
        };
        let penalty =
            |option, value: f32| number(option, value, (-2.0..=2.0).contains(&value), "between -2 and 2");
        number("max_tokens", self.max_tokens as f32, self.max_tokens > 0, "at least 1")?;
        let temperature = self.temperature;
        number("temperature", temperature, temperature >= 0.0 && temperature.is_finite(), "zero or more")?;
        number("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1")?;
        number("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1")?;
        let repetition = self.repetition_penalty;
        number("repetition_penalty", repetition, repetition > 0.0 && repetition.is_finite(), "above 0")?;
        penalty("frequency_penalty", self.frequency_penalty)?;
        penalty("presence_penalty", self.presence_penalty)?;
        for (&id, &bias) in &self.logit_bias {
            known("logit_bias", id, vocab_size)?;
            number("logit_bias", bias, bias < f32::INFINITY, "a number below infinity")?;
        }
        for &id in &self.stop_tokens {
            known("stop_tokens", id, vocab_size)?;
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(RunError::EmptyStop);
        }
        Ok(())
    }
}

fn known(option: &'static str, id: u32, vocab_size: usize) -> Result<(), RunError> {
    if (id as usize) < vocab_size {
        return Ok(());
    }
    Err(RunError::UnknownToken { option, id, vocab_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &GenerateOptions) -> &'static str {
        match options.check(10) {
            Err(RunError::Option { option, .. } | RunError::UnknownToken { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let default = GenerateOptions::default;
        assert_eq!(default().check(0), Ok(()));
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            assert_eq!(refused(&GenerateOptions { temperature: bad, ..default() }), "temperature");
            assert_eq!(refused(&GenerateOptions { min_p: bad, ..default() }), "min_p");
            assert_eq!(
                refused(&GenerateOptions { repetition_penalty: bad, ..default() }),
                "repetition_penalty"
            );
        }
        for bad in [f32::NAN, 0.0, 1.5] {
            assert_eq!(refused(&GenerateOptions { top_p: bad, ..default() }), "top_p");
        }
        for bad in [f32::NAN, -2.1, 2.1] {
            assert_eq!(
                refused(&GenerateOptions { frequency_penalty: bad, ..default() }),
                "frequency_penalty"
            );
            assert_eq!(refused(&GenerateOptions { presence_penalty: bad, ..default() }), "presence_penalty");
        }
        assert_eq!(refused(&GenerateOptions { repetition_penalty: 0.0, ..default() }), "repetition_penalty");
        assert_eq!(refused(&GenerateOptions { max_tokens: 0, ..default() }), "max_tokens");
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_refused() {
        let bias =
            |id, bias| GenerateOptions { logit_bias: [(id, bias)].into(), ..GenerateOptions::default() };
        assert_eq!(bias(9, f32::NEG_INFINITY).check(10), Ok(()));
        assert_eq!(refused(&bias(10, 1.0)), "logit_bias");
        assert_eq!(refused(&bias(1, f32::NAN)), "logit_bias");
        assert_eq!(refused(&bias(1, f32::INFINITY)), "logit_bias");
        let stop = GenerateOptions { stop_tokens: vec![3, 10], ..GenerateOptions::default() };
        assert_eq!(
            stop.check(10),
            Err(RunError::UnknownToken { option: "stop_tokens", id: 10, vocab_size: 10 })
        );
    }

    #[test]
    fn an_empty_stop_text_is_refused() {
        let options = GenerateOptions { stop: vec!["a".into(), String::new()], ..GenerateOptions::default() };
        assert_eq!(options.check(10), Err(RunError::EmptyStop));
    }
}
