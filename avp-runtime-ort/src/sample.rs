//! Picks the next token from logits: greedy, or drawn at a temperature from the likeliest tokens.

use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

use crate::{GenerateOptions, RunError};

/// A sampler with its own stream of random numbers: the same seed and logits give the same tokens on every machine.
pub(crate) struct Sampler {
    temperature: f32,
    top_p: f32,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// # Errors
    /// When the temperature is negative or no number, or `top_p` is not in `(0, 1]`.
    pub(crate) fn new(options: &GenerateOptions) -> Result<Self, RunError> {
        let refuse = |option, expected, got: f32| RunError::Option { option, expected, got: got.into() };
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            return Err(refuse("temperature", "zero or more", options.temperature));
        }
        if !(options.top_p > 0.0 && options.top_p <= 1.0) {
            return Err(refuse("top_p", "above 0 and at most 1", options.top_p));
        }
        let rng = ChaCha8Rng::seed_from_u64(options.seed);
        Ok(Self { temperature: options.temperature, top_p: options.top_p, rng })
    }

    /// The next token; `None` where no logit is a finite number.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Option<u32> {
        let (best, top) = logits
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, logit)| logit.is_finite())
            // The first of equals, as Transformers' argmax has it.
            .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        if self.temperature == 0.0 {
            return u32::try_from(best).ok();
        }
        let mut weights: Vec<(usize, f32)> = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| logit.is_finite())
            .map(|(id, logit)| (id, ((logit - top) / self.temperature).exp()))
            .collect();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
        let kept = nucleus(&weights, self.top_p * total);
        u32::try_from(self.draw(kept)).ok()
    }

    fn draw(&mut self, weights: &[(usize, f32)]) -> usize {
        let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
        // 24 bits are what a float32 holds between 0 and 1.
        let uniform = (self.rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
        let mut left = uniform * total;
        for &(id, weight) in weights {
            left -= weight;
            if left < 0.0 {
                return id;
            }
        }
        // Rounding can leave a crumb behind the last token.
        weights.last().map_or(0, |&(id, _)| id)
    }
}

/// The shortest run of the likeliest tokens that weighs at least `mass`.
fn nucleus(weights: &[(usize, f32)], mass: f32) -> &[(usize, f32)] {
    let mut sum = 0.0;
    let length = weights.iter().position(|(_, weight)| {
        sum += weight;
        sum >= mass
    });
    &weights[..length.map_or(weights.len(), |last| last + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(&GenerateOptions { temperature, top_p, seed, ..GenerateOptions::default() }).unwrap()
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_largest() {
        assert_eq!(sampler(0.0, 1.0, 1).next(&[0.5, 2.0, f32::NAN, 2.0]), Some(1));
    }

    #[test]
    fn logits_without_a_number_give_no_token() {
        assert_eq!(sampler(0.0, 1.0, 1).next(&[f32::NAN, f32::INFINITY]), None);
        assert_eq!(sampler(1.0, 1.0, 1).next(&[]), None);
    }

    #[test]
    fn a_small_nucleus_is_greedy_whatever_the_seed() {
        for seed in 0..20 {
            assert_eq!(sampler(1.5, 1e-6, seed).next(&[0.1, 0.3, 0.2]), Some(1));
        }
    }

    #[test]
    fn draws_follow_the_distribution_and_repeat_with_the_seed() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let mut one = sampler(1.0, 1.0, 7);
        let mut other = sampler(1.0, 1.0, 7);
        let mut counts = [0u32; 3];
        for _ in 0..8000 {
            let id = one.next(&logits).unwrap();
            assert_eq!(other.next(&logits), Some(id));
            counts[id as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([1000.0, 2000.0, 5000.0]) {
            assert!((f64::from(*count) - expected).abs() < 200.0, "{counts:?}");
        }
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        for (temperature, top_p, name) in [
            (-1.0, 1.0, "temperature"),
            (f32::NAN, 1.0, "temperature"),
            (1.0, 0.0, "top_p"),
            (1.0, 1.5, "top_p"),
        ] {
            let options = GenerateOptions { temperature, top_p, ..GenerateOptions::default() };
            let refused = Sampler::new(&options).err();
            assert!(matches!(refused, Some(RunError::Option { option, .. }) if option == name));
        }
    }
}
