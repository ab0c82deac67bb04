//! The quality gate: advises before a transfer whether one vector suffices.

use nalgebra::DMatrix;

use super::RosettaError;

/// Limits of the quality gate; the defaults are those of `avp` 0.6.2 (`rosetta/quality.py`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityConfig {
    /// Maximum tokens of a prompt; longer prompts do not fit one vector. Measured by the authors of `avp` on GSM8K across
    /// model families: 65 % correct below 300 tokens, 41 % from 300 to 500.
    pub max_prompt_tokens: usize,
    /// Maximum effective rank of the hidden states as a share of the full rank. Used only if hidden states are given.
    pub max_effective_rank_ratio: f64,
}

impl Default for QualityConfig {
    fn default() -> Self {
        Self { max_prompt_tokens: 300, max_effective_rank_ratio: 0.8 }
    }
}

/// The result of the quality gate.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferQuality {
    /// Whether to transfer a vector; if false, send text.
    pub recommend_latent: bool,
    /// Tokens of the source's prompt.
    pub prompt_tokens: usize,
    /// The reason, worded as in `avp` 0.6.2.
    pub reason: String,
    /// From 0 (all in one direction) to 1 (spread evenly); `None` if not computed.
    pub effective_rank_ratio: Option<f64>,
}

/// Assesses a transfer by the length of the source's prompt and, if given, the hidden states of its positions: rows of
/// `width` values.
///
/// ```
/// use avp_rosetta::{QualityConfig, RosettaError, assess_transfer};
///
/// let quality = assess_transfer(301, None, &QualityConfig::default())?;
/// assert!(!quality.recommend_latent);
/// # Ok::<(), RosettaError>(())
/// ```
///
/// # Errors
/// When the number of values is not a multiple of `width`, or a value is not finite.
pub fn assess_transfer(
    prompt_tokens: usize,
    hidden_states: Option<(&[f32], usize)>,
    config: &QualityConfig,
) -> Result<TransferQuality, RosettaError> {
    let max = config.max_prompt_tokens;
    let advice = |recommend_latent, reason, effective_rank_ratio| TransferQuality {
        recommend_latent,
        prompt_tokens,
        reason,
        effective_rank_ratio,
    };
    if prompt_tokens > max {
        let reason = format!(
            "prompt_tokens={prompt_tokens} exceeds max_prompt_tokens={max}; \
             single embedding unlikely to capture sufficient information"
        );
        return Ok(advice(false, reason, None));
    }
    let ratio = hidden_states.map(|(values, width)| effective_rank_ratio(values, width)).transpose()?;
    if let Some(ratio) = ratio.filter(|&ratio| ratio > config.max_effective_rank_ratio) {
        let reason = format!(
            "effective_rank_ratio={ratio:.3} exceeds max={:?}; \
             information too spread for single-embedding transfer",
            config.max_effective_rank_ratio
        );
        return Ok(advice(false, reason, Some(ratio)));
    }
    Ok(advice(true, "transfer within quality thresholds".to_owned(), ratio))
}

/// Entropy of the normalized singular values over its maximum (Roy and Vetterli 2007).
///
/// # Errors
/// When the number of values is not a multiple of `width`, or a value is not finite.
fn effective_rank_ratio(values: &[f32], width: usize) -> Result<f64, RosettaError> {
    let what = "the hidden states";
    if width == 0 || !values.len().is_multiple_of(width) {
        return Err(RosettaError::Width { what, expected: width, got: values.len() });
    }
    if !values.iter().all(|value| value.is_finite()) {
        return Err(RosettaError::NotFinite { what });
    }
    let rows = values.len() / width;
    let most = rows.min(width) as f64;
    if rows < 2 || width < 2 {
        return Ok(0.);
    }
    let singular =
        DMatrix::from_row_iterator(rows, width, values.iter().copied().map(f64::from)).singular_values();
    let sum = singular.sum();
    if sum == 0. {
        return Ok(0.);
    }
    let entropy: f64 = singular.iter().map(|value| value / sum).map(|p| -p * (p + 1e-12).ln()).sum();
    Ok(entropy / most.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_ratio_is_0_for_one_direction_and_1_for_all() {
        let ratio = |values: &[f32], width| effective_rank_ratio(values, width).unwrap();
        assert!(ratio(&[1., 2., 2., 4., 3., 6.], 2) < 1e-6);
        assert!((ratio(&[1., 0., 0., 1.], 2) - 1.).abs() < 1e-6);
        assert_eq!((ratio(&[0.; 4], 2), ratio(&[1., 2.], 2), ratio(&[1., 2.], 1)), (0., 0., 0.));
    }

    #[test]
    fn partial_rows_and_nan_are_refused() {
        assert!(matches!(effective_rank_ratio(&[1.; 3], 2), Err(RosettaError::Width { .. })));
        assert!(matches!(effective_rank_ratio(&[], 0), Err(RosettaError::Width { .. })));
        assert!(matches!(effective_rank_ratio(&[f32::NAN; 4], 2), Err(RosettaError::NotFinite { .. })));
    }
}
