//! The form of a latent step: which vector is fed in place of a token.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::RunError;

/// The vector that a latent step feeds, computed from the last position's hidden state `h` and logits.
///
/// `E` is the input embedding, `p = softmax(logits / temperature)`, and *scaled* means: multiplied to the mean norm of the rows
/// of `E`, which is the norm that the model expects of an input.
///
/// | text | vector | |
/// |---|---|---|
/// | `peer` | `soft` for tied embeddings, else `hidden` | as `avp` 0.2.1 and LatentMAS; the default |
/// | `soft` | `p @ E` | the expected next embedding |
/// | `soft:rescale` | `p @ E`, scaled | a mean of embeddings is shorter than an embedding |
/// | `soft:temperature=0.3` | with another temperature | nearer to the likeliest token |
/// | `soft:top_k=8` | the 8 likeliest tokens only, `p` renormalized | |
/// | `token` | the likeliest token's embedding | `soft:top_k=1` |
/// | `hidden` | `h @ W`, scaled | `W` is the realignment matrix of untied embeddings, else the identity |
/// | `mixed:hidden=0.5,rescale` | 0.5 `hidden` + 0.5 `soft:rescale`, scaled | |
///
/// ```
/// use avp_runtime_ort::{Soft, StepForm, ThinkOptions};
///
/// let form: StepForm = "soft:temperature=0.3,rescale".parse()?;
/// assert_eq!(form, StepForm::Soft(Soft { temperature: 0.3, rescale: true, ..Soft::default() }));
/// let options = ThinkOptions { form, ..ThinkOptions::steps(8) };
/// # Ok::<(), avp_runtime_ort::UnknownStepForm>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum StepForm {
    /// As `avp` 0.2.1 and LatentMAS: [`Soft::default`] for tied embeddings, [`Hidden`](Self::Hidden) for others.
    #[default]
    Peer,
    /// A mean of embeddings.
    Soft(Soft),
    /// The hidden state, realigned if embedding and head differ, at the embeddings' mean norm.
    Hidden,
    /// A sum of both.
    Mixed {
        /// The share of [`Hidden`](Self::Hidden), between 0 and 1. The rest is `soft`.
        hidden: f32,
        /// The other part. If it is rescaled, so is the sum.
        soft: Soft,
    },
}

/// A mean of embeddings, weighted by the model's prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Soft {
    /// Divides the logits before the softmax; above 0.
    pub temperature: f32,
    /// Only so many likeliest tokens, with their probabilities renormalized; 0 for all.
    pub top_k: usize,
    /// Scale the mean to the mean norm of the embeddings.
    pub rescale: bool,
}

impl Default for Soft {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, rescale: false }
    }
}

/// A text that names no [`StepForm`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown form of latent steps at {at:?}: expected peer, hidden, token, soft or mixed, \
     the last two with options as in `soft:temperature=0.3,top_k=8,rescale` and `mixed:hidden=0.5`"
)]
pub struct UnknownStepForm {
    /// The part that was not understood.
    pub at: String,
}

/// The numbers that a prepared graph takes for a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepInputs {
    pub(crate) temperature: f32,
    /// Number of likeliest tokens in the mean; all if it is not below the size of the vocabulary.
    pub(crate) rows: i64,
    /// Share of the hidden state.
    pub(crate) hidden: f32,
    pub(crate) rescale: bool,
}

impl StepInputs {
    /// Those of [`StepForm::Hidden`].
    pub(crate) const HIDDEN: Self = Self { temperature: 1.0, rows: i64::MAX, hidden: 1.0, rescale: false };
}

impl StepForm {
    /// The form's inputs for a model with tied embeddings, or without.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub(crate) fn inputs(self, tied: bool) -> Result<StepInputs, RunError> {
        let (hidden, soft) = match self {
            Self::Peer if tied => (0.0, Soft::default()),
            Self::Peer | Self::Hidden => (1.0, Soft::default()),
            Self::Soft(soft) => (0.0, soft),
            Self::Mixed { hidden, soft } => (hidden, soft),
        };
        let out_of_range =
            |option, expected, got: f32| Err(RunError::Option { option, expected, got: got.into() });
        if !(soft.temperature.is_finite() && soft.temperature > 0.0) {
            return out_of_range("temperature", "above 0", soft.temperature);
        }
        if !(0.0..=1.0).contains(&hidden) {
            return out_of_range("hidden", "between 0 and 1", hidden);
        }
        Ok(StepInputs {
            temperature: soft.temperature,
            rows: if soft.top_k == 0 { i64::MAX } else { i64::try_from(soft.top_k).unwrap_or(i64::MAX) },
            hidden,
            rescale: soft.rescale,
        })
    }
}

impl FromStr for StepForm {
    type Err = UnknownStepForm;

    fn from_str(text: &str) -> Result<Self, UnknownStepForm> {
        let unknown = |at: &str| UnknownStepForm { at: at.to_owned() };
        let (name, options) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let mut soft = Soft::default();
        let mut share = None;
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |value: &str| value.parse::<f32>().map_err(|_| unknown(option));
            match (name, key) {
                ("soft" | "mixed", "temperature") => soft.temperature = number(value)?,
                ("soft" | "mixed", "top_k") => soft.top_k = value.parse().map_err(|_| unknown(option))?,
                ("soft" | "mixed", "rescale") if value.is_empty() => soft.rescale = true,
                ("mixed", "hidden") => share = Some(number(value)?),
                _ => return Err(unknown(option)),
            }
        }
        Ok(match (name, share) {
            ("peer", _) => Self::Peer,
            ("hidden", _) => Self::Hidden,
            ("token", _) => Self::Soft(Soft { top_k: 1, ..soft }),
            ("soft", _) => Self::Soft(soft),
            ("mixed", Some(hidden)) => Self::Mixed { hidden, soft },
            _ => return Err(unknown(text)),
        })
    }
}

impl fmt::Display for StepForm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, share, soft) = match self {
            Self::Peer => return out.write_str("peer"),
            Self::Hidden => return out.write_str("hidden"),
            Self::Soft(soft) if *soft == (Soft { top_k: 1, ..Soft::default() }) => {
                return out.write_str("token");
            }
            Self::Soft(soft) => ("soft", None, soft),
            Self::Mixed { hidden, soft } => ("mixed", Some(hidden), soft),
        };
        let default = Soft::default();
        let options = [
            share.map(|share| format!("hidden={share}")),
            (soft.temperature != default.temperature).then(|| format!("temperature={}", soft.temperature)),
            (soft.top_k != default.top_k).then(|| format!("top_k={}", soft.top_k)),
            soft.rescale.then(|| "rescale".to_owned()),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        out.write_str(name)?;
        if options.is_empty() { Ok(()) } else { write!(out, ":{}", options.join(",")) }
    }
}

impl From<StepForm> for String {
    fn from(form: StepForm) -> Self {
        form.to_string()
    }
}

impl TryFrom<String> for StepForm {
    type Error = UnknownStepForm;

    fn try_from(text: String) -> Result<Self, UnknownStepForm> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_names_no_form_is_refused_at_the_part_that_is_wrong() {
        for (text, at) in [
            ("", ""),
            ("sofd", "sofd"),
            ("soft:", ""),
            ("soft:temperature=", "temperature="),
            ("soft:temperature=hot", "temperature=hot"),
            ("soft:top_k=-1", "top_k=-1"),
            ("soft:rescale=no", "rescale=no"),
            ("soft:hidden=0.5", "hidden=0.5"),
            ("hidden:rescale", "rescale"),
            ("mixed", "mixed"),
            ("mixed:rescale", "mixed:rescale"),
        ] {
            assert_eq!(text.parse::<StepForm>(), Err(UnknownStepForm { at: at.to_owned() }), "{text:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (form, message) in [
            ("soft:temperature=0", "temperature must be above 0, got 0"),
            ("soft:temperature=-1", "temperature must be above 0, got -1"),
            ("mixed:hidden=0.5,temperature=NaN", "temperature must be above 0, got NaN"),
            ("mixed:hidden=1.5", "hidden must be between 0 and 1, got 1.5"),
            ("mixed:hidden=NaN", "hidden must be between 0 and 1, got NaN"),
        ] {
            let refused = form.parse::<StepForm>().unwrap().inputs(true).unwrap_err();
            assert_eq!(refused.to_string(), message);
        }
    }

    #[test]
    fn the_peers_form_depends_on_the_embeddings() {
        let inputs = |form: StepForm, tied| form.inputs(tied).unwrap();
        assert_eq!(inputs(StepForm::Peer, true), inputs(StepForm::Soft(Soft::default()), true));
        assert_eq!(inputs(StepForm::Peer, false), inputs(StepForm::Hidden, false));
        assert_ne!(inputs(StepForm::Hidden, true), inputs(StepForm::Peer, true));
    }

    proptest! {
        #[test]
        fn a_form_is_read_back_as_it_is_written(
            temperature in 0.01_f32..9.0, top_k in 0..9_usize, rescale: bool, hidden in 0.0_f32..1.0, kind in 0..4,
        ) {
            let soft = Soft { temperature, top_k, rescale };
            let form = match kind {
                0 => StepForm::Peer,
                1 => StepForm::Hidden,
                2 => StepForm::Soft(soft),
                _ => StepForm::Mixed { hidden, soft },
            };
            prop_assert_eq!(form.to_string().parse::<StepForm>(), Ok(form));
        }
    }
}
