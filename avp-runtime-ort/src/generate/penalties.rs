//! Logit biases and penalties, applied before a token is chosen.

use std::collections::{BTreeMap, BTreeSet};

use super::GenerateOptions;

/// Biases and penalties, with the counted tokens.
#[derive(Debug, Clone)]
pub(super) struct Penalties {
    bias: BTreeMap<u32, f32>,
    repetition: f32,
    frequency: f32,
    presence: f32,
    /// Tokens of the prompt and the answer.
    seen: BTreeSet<u32>,
    /// The count of each token in the answer.
    generated: BTreeMap<u32, u32>,
}

impl Penalties {
    pub(super) fn new(options: &GenerateOptions, prompt: &[u32]) -> Self {
        Self {
            bias: options.logit_bias.clone(),
            repetition: options.repetition_penalty,
            frequency: options.frequency_penalty,
            presence: options.presence_penalty,
            seen: prompt.iter().copied().collect(),
            generated: BTreeMap::new(),
        }
    }

    /// Whether no option changes any logit.
    pub(super) fn are_none(&self) -> bool {
        self.bias.is_empty() && self.repetition == 1.0 && self.frequency == 0.0 && self.presence == 0.0
    }

    /// The option that can make a finite logit infinite, and its value: the lowest bias, else the repetition penalty. The
    /// other penalties are too small.
    pub(super) fn strongest(&self) -> (&'static str, f32) {
        let lowest = self.bias.values().copied().min_by(f32::total_cmp);
        match lowest {
            Some(bias) => ("logit_bias", bias),
            None => ("repetition_penalty", self.repetition),
        }
    }

    /// Counts a token of the answer.
    pub(super) fn count(&mut self, token: u32) {
        self.seen.insert(token);
        *self.generated.entry(token).or_default() += 1;
    }

    /// Applies biases and penalties in the order documented by [`GenerateOptions`].
    pub(super) fn apply(&self, logits: &mut [f32]) {
        let mut change = |id: u32, change: &dyn Fn(f32) -> f32| {
            // The prompt may hold ids outside the head.
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = change(*logit);
            }
        };
        for (&id, bias) in &self.bias {
            change(id, &|logit| logit + bias);
        }
        if self.repetition != 1.0 {
            for &id in &self.seen {
                change(id, &|logit| {
                    if logit < 0.0 { logit * self.repetition } else { logit / self.repetition }
                });
            }
        }
        if self.frequency != 0.0 || self.presence != 0.0 {
            for (&id, &count) in &self.generated {
                change(id, &|logit| logit - count as f32 * self.frequency - self.presence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(options: GenerateOptions, prompt: &[u32], answer: &[u32], mut logits: Vec<f32>) -> Vec<f32> {
        let mut penalties = Penalties::new(&options, prompt);
        answer.iter().for_each(|&token| penalties.count(token));
        penalties.apply(&mut logits);
        logits
    }

    #[test]
    fn nothing_is_changed_by_default() {
        assert!(Penalties::new(&GenerateOptions::default(), &[1]).are_none());
    }

    #[test]
    fn repetition_counts_each_token_once_and_lowers_both_signs() {
        let options = GenerateOptions { repetition_penalty: 2.0, ..GenerateOptions::default() };
        // Token 9 of the prompt has no row.
        let logits = applied(options, &[0, 0, 9], &[1, 1], vec![4.0, -4.0, 4.0]);
        assert_eq!(logits, [2.0, -8.0, 4.0]);
    }

    #[test]
    fn frequency_and_presence_count_only_the_answer() {
        let options =
            GenerateOptions { frequency_penalty: 0.5, presence_penalty: 0.25, ..GenerateOptions::default() };
        assert_eq!(applied(options, &[0], &[1, 1], vec![1.0, 1.0]), [1.0, -0.25]);
    }

    #[test]
    fn a_bias_comes_before_the_penalty() {
        let options = GenerateOptions {
            logit_bias: [(0, 3.0), (1, f32::NEG_INFINITY)].into(),
            repetition_penalty: 2.0,
            ..GenerateOptions::default()
        };
        assert_eq!(applied(options, &[0, 1], &[], vec![1.0, 1.0]), [2.0, f32::NEG_INFINITY]);
    }
}
