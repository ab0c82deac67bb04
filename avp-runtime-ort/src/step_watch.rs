//! Notices while thinking that the state of the model has left what text leads to.

use serde::{Deserialize, Serialize};

/// What the state behind a latent step must be like for the next step to be taken.
///
/// ```
/// use avp_runtime_ort::{StepLimits, ThinkOptions};
///
/// let limits = StepLimits { max_entropy: 6.0, ..StepLimits::default() };
/// let options = ThinkOptions { limits: Some(limits), ..ThinkOptions::steps(20) };
/// assert_eq!(options.steps, 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLimits {
    /// Least norm of the hidden state after the final norm.
    pub min_norm: f32,
    /// Largest norm of the hidden state.
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    pub max_norm: f32,
    /// Largest entropy of the next token's distribution, in nats, at two positions in a row.
    #[serde(default = "unlimited", skip_serializing_if = "is_unlimited")]
    pub max_entropy: f32,
    /// Most positions in a row with the same likeliest token: the state then stands still.
    pub max_repeats: usize,
}

/// Why latent steps ended before their number was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Departure {
    /// The hidden state's norm is out of the limits.
    Norm,
    /// The next token is more uncertain than behind text, twice in a row.
    Entropy,
    /// The likeliest token is the same again and again.
    Repeats,
}

impl Default for StepLimits {
    /// Four equal tokens in a row end the steps. `avp calibrate` measures the other limits.
    fn default() -> Self {
        Self { min_norm: 0.0, max_norm: f32::INFINITY, max_entropy: f32::INFINITY, max_repeats: 4 }
    }
}

impl std::fmt::Display for Departure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Norm => "the norm of the hidden state is not that behind text",
            Self::Entropy => "the next token is more uncertain than behind text",
            Self::Repeats => "the likeliest token stays the same",
        })
    }
}

// JSON has no infinity: a limit that is none is left out.
fn unlimited() -> f32 {
    f32::INFINITY
}

fn is_unlimited(limit: &f32) -> bool {
    *limit == f32::INFINITY
}

/// The state of the model behind a position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepState {
    /// Norm of the hidden state after the final norm.
    pub norm: f32,
    /// Entropy of the next token's distribution, in nats.
    pub entropy: f32,
    /// The likeliest next token.
    pub token: u32,
}

impl StepState {
    /// The state of a hidden state with this norm and of these logits.
    pub(crate) fn new(norm: f32, logits: &[f32]) -> Self {
        let (token, entropy) = prediction(logits);
        Self { norm, entropy, token: token as u32 }
    }
}

/// The positions so far.
#[derive(Debug, Default)]
pub(crate) struct StepWatch {
    limits: Option<StepLimits>,
    pub(crate) states: Vec<StepState>,
}

impl StepWatch {
    pub(crate) fn new(limits: Option<StepLimits>) -> Self {
        Self { limits, states: Vec::new() }
    }

    /// Takes the state behind one more position.
    pub(crate) fn see(&mut self, norm: f32, logits: &[f32]) -> Option<Departure> {
        let state = StepState::new(norm, logits);
        self.states.push(state);
        let limits = self.limits?;
        let in_a_row =
            |is: &dyn Fn(&StepState) -> bool| self.states.iter().rev().take_while(|state| is(state)).count();
        if !(limits.min_norm..=limits.max_norm).contains(&norm) {
            Some(Departure::Norm)
        } else if in_a_row(&|state| state.entropy > limits.max_entropy) >= 2 {
            Some(Departure::Entropy)
        } else if in_a_row(&|other| other.token == state.token) > limits.max_repeats {
            Some(Departure::Repeats)
        } else {
            None
        }
    }
}

/// The likeliest token and the entropy of `softmax(logits)` in nats, in float64.
fn prediction(logits: &[f32]) -> (usize, f32) {
    let largest = logits.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other));
    let Some((token, &largest)) = largest else { return (0, 0.0) };
    // H = ln Z - sum(p (x - max)), with Z = sum(exp(x - max)).
    let (mut total, mut weighted) = (0.0_f64, 0.0_f64);
    for &logit in logits {
        let shifted = f64::from(logit - largest);
        let weight = shifted.exp();
        total += weight;
        // A forbidden token, at minus infinity, has no part in it.
        if weight > 0.0 {
            weighted += weight * shifted;
        }
    }
    (token, (total.ln() - weighted / total) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StepLimits = StepLimits { min_norm: 1.0, max_norm: 9.0, max_entropy: 0.5, max_repeats: 2 };

    #[test]
    fn the_entropy_of_a_prediction_is_that_of_its_formula() {
        assert_eq!(prediction(&[3.0]), (0, 0.0));
        let (token, entropy) = prediction(&[1.0, 1.0, 1.0, 1.0]);
        assert!((entropy - 4.0_f32.ln()).abs() < 1e-6 && token < 4);
        let (token, entropy) = prediction(&[f32::NEG_INFINITY, 0.0, 3.0_f32.ln()]);
        let expected = -(0.25_f32 * 0.25_f32.ln() + 0.75 * 0.75_f32.ln());
        assert_eq!(token, 2);
        assert!((entropy - expected).abs() < 1e-6);
        assert_eq!(prediction(&[]), (0, 0.0));
    }

    #[test]
    fn a_norm_out_of_the_limits_ends_the_steps_at_once() {
        for norm in [0.5, 9.5, f32::NAN] {
            assert_eq!(StepWatch::new(Some(LIMITS)).see(norm, &[9.0, 0.0]), Some(Departure::Norm));
        }
        assert_eq!(StepWatch::new(Some(LIMITS)).see(5.0, &[9.0, 0.0]), None);
    }

    #[test]
    fn uncertainty_ends_them_when_it_stays() {
        let mut watch = StepWatch::new(Some(LIMITS));
        let mut see = |logits: [f32; 3]| watch.see(5.0, &logits);
        assert_eq!(see([0.0, 0.1, 0.0]), None);
        assert_eq!(see([9.0, 0.0, 0.0]), None);
        assert_eq!(see([0.0, 0.0, 0.1]), None);
        assert_eq!(see([0.1, 0.0, 0.0]), Some(Departure::Entropy));
    }

    #[test]
    fn a_token_that_stays_the_likeliest_ends_them() {
        let mut watch = StepWatch::new(Some(LIMITS));
        let mut see = |logits: [f32; 2]| watch.see(5.0, &logits);
        assert_eq!((see([9.0, 0.0]), see([9.0, 0.0])), (None, None));
        assert_eq!(see([0.0, 9.0]), None);
        assert_eq!((see([9.0, 0.0]), see([9.0, 0.0])), (None, None));
        assert_eq!(see([9.0, 0.0]), Some(Departure::Repeats));
    }
}
