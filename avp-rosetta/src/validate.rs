//! Validates a map in two tiers, as in `avp` 0.6.2 (`rosetta/validate.py`): the cosine similarity of projected vectors,
//! then the target's perplexity.

use std::collections::HashMap;

use avp_core::Mode;

use super::{
    AvpMap, ProjectOptions, RosettaError,
    calibrate::{Side, read_token},
    project::cosine,
    vocabulary::Overlap,
};

/// Thresholds and texts of a validation; the defaults are those of `avp` 0.6.2.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidateOptions {
    /// Mean cosine similarity below which a map is refused without the second tier.
    pub cosine_threshold: f32,
    /// Pseudo-perplexity above which a map is refused.
    pub max_perplexity: f32,
    /// Texts to project, at least one.
    pub texts: Vec<String>,
}

impl Default for ValidateOptions {
    fn default() -> Self {
        let texts = TEXTS.iter().map(|&text| text.to_owned()).collect();
        Self { cosine_threshold: 0.5, max_perplexity: 100.0, texts }
    }
}

/// One of each kind; `tools/rosetta/record.py` has the same.
const TEXTS: [&str; 5] = [
    "The tides follow the moon more than the sun.",
    "Compare copper and aluminium as conductors.",
    "Half of a third is a sixth.",
    "for name in names: print(name.upper())",
    "Il fait trop chaud pour dormir.",
];

/// The result of a validation.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// Mean cosine similarity of projected vectors to the expected embeddings: of the next token for maps through a
    /// vocabulary, of the same token for learned maps.
    pub cosine_similarity: f32,
    /// The target's perplexity on each text behind the projected vector of its last token, mean over texts; `None` if the
    /// first tier refused the map, or the tokenizers differ.
    pub perplexity: Option<f32>,
    /// [`Mode::Latent`] or [`Mode::Json`].
    pub recommended_mode: Mode,
    /// The reason, worded as in `avp` 0.6.2.
    pub detail: String,
}

pub(super) fn validate(
    source: &dyn Side,
    target: &dyn Side,
    map: &AvpMap,
    options: &ValidateOptions,
) -> Result<Validation, RosettaError> {
    if options.texts.is_empty() {
        return Err(RosettaError::Option { option: "texts", expected: "at least one", got: 0. });
    }
    let same_tokenizer = source.identity().tokenizer_hash == target.identity().tokenizer_hash;
    let to_target = if same_tokenizer { None } else { Some(translation(source, target, map)?) };
    let mut cosines = Vec::new();
    let mut last = Vec::new();
    for text in &options.texts {
        let tokens = source.encode(text)?;
        let projected = source
            .hidden_states(&tokens)?
            .iter()
            .map(|hidden| Ok(map.project(hidden, source.head()?, &ProjectOptions::default())?.vector))
            .collect::<Result<Vec<_>, RosettaError>>()?;
        cosines.push(mean_cosine(target, map, &projected, &tokens, to_target.as_ref())?);
        last.push((projected.into_iter().next_back().unwrap_or_default(), tokens));
    }
    let cosine = mean(&cosines);
    let threshold = options.cosine_threshold;
    // NaN must not pass: every comparison with NaN is false.
    let passes = cosine >= threshold;
    if !passes {
        let detail =
            format!("cos_sim={cosine:.3} < {threshold:?} threshold — projection unreliable, using JSON");
        return Ok(Validation {
            cosine_similarity: cosine,
            perplexity: None,
            recommended_mode: Mode::Json,
            detail,
        });
    }
    if !same_tokenizer {
        let how = if cosine > 0.8 { "high" } else { "moderate" };
        let detail = format!(
            "cos_sim={cosine:.3} ({how}) — no shared tokenizer for perplexity check, recommending LATENT"
        );
        return Ok(Validation {
            cosine_similarity: cosine,
            perplexity: None,
            recommended_mode: Mode::Latent,
            detail,
        });
    }
    let perplexities = last
        .iter()
        .map(|(vector, tokens)| perplexity(target, vector, tokens))
        .collect::<Result<Vec<_>, _>>()?;
    let perplexity = mean(&perplexities);
    let limit = options.max_perplexity;
    let (recommended_mode, verdict) = if perplexity <= limit {
        (Mode::Latent, "— projection viable, using LATENT".to_owned())
    } else {
        (Mode::Json, format!("> {limit:?} — projection unreliable, using JSON"))
    };
    Ok(Validation {
        cosine_similarity: cosine,
        perplexity: Some(perplexity),
        recommended_mode,
        detail: format!("cos_sim={cosine:.3}, perplexity={perplexity:.1} {verdict}"),
    })
}

/// From the source's ids to the target's ids of the shared tokens. The peer looks up the source's ids in the target's table,
/// where they belong to other tokens.
fn translation(
    source: &dyn Side,
    target: &dyn Side,
    map: &AvpMap,
) -> Result<HashMap<u32, u32>, RosettaError> {
    let pairs = |from: &[u32], to: &[u32]| from.iter().copied().zip(to.iter().copied()).collect();
    Ok(match map.overlap_ids() {
        Some((from, to)) => pairs(from, to),
        None => {
            let (from, to) = (source.vocabulary(), target.vocabulary());
            let ids = Overlap::of(&from, source.head()?.count(), &to, target.embedding()?.count());
            pairs(&ids.source_ids, &ids.target_ids)
        }
    })
}

/// The mean cosine between a projected vector and the target's embedding of its token, over the tokens that both vocabularies
/// have; 0 without a shared token.
fn mean_cosine(
    target: &dyn Side,
    map: &AvpMap,
    projected: &[Vec<f32>],
    tokens: &[u32],
    to_target: Option<&HashMap<u32, u32>>,
) -> Result<f32, RosettaError> {
    let ahead = usize::from(map.method().predicts_next_token());
    let embedding = target.embedding()?;
    let mut row = vec![0.; embedding.width()];
    let mut cosines = Vec::new();
    for (vector, &token) in projected.iter().zip(&tokens[ahead.min(tokens.len())..]) {
        let Some(token) = to_target.map_or(Some(token), |known| known.get(&token).copied()) else { continue };
        read_token(embedding, token, &mut row)?;
        cosines.push(cosine(vector, &row));
    }
    Ok(mean(&cosines))
}

/// `exp` of the mean cross-entropy of `tokens` behind `vector`; infinite for fewer than two tokens.
fn perplexity(target: &dyn Side, vector: &[f32], tokens: &[u32]) -> Result<f32, RosettaError> {
    if tokens.len() < 2 {
        return Ok(f32::INFINITY);
    }
    let mut loss = 0f64;
    for (logits, &token) in target.logits_behind(vector, tokens)?.iter().zip(tokens) {
        let rows = logits.len();
        let logit = *logits.get(token as usize).ok_or(RosettaError::UnknownToken { id: token, rows })?;
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
        loss += sum.ln() + f64::from(max) - f64::from(logit);
    }
    Ok((loss / tokens.len() as f64).exp() as f32)
}

fn mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().copied().map(f64::from).sum();
    (sum / values.len().max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use avp_core::OwnedModelIdentity;

    use super::*;
    use crate::{
        CalibrateOptions, Rows, Table, Vocabulary,
        calibrate::{Side, calibrate},
    };

    const TOKENS: u32 = 128;

    /// A model whose tokens are characters, with one dimension each. Its hidden states point at the next token, with the
    /// share `doubt` on a wrong one; its logits give every token the same `perplexity`.
    struct Oracle {
        identity: OwnedModelIdentity,
        table: Table,
        doubt: f32,
        perplexity: f32,
    }

    impl Oracle {
        fn new(name: &str, tokenizer_hash: &str, doubt: f32, perplexity: f32) -> Self {
            let width = TOKENS as usize;
            let one = |at: usize| if at.is_multiple_of(width + 1) { 1. } else { 0. };
            Self {
                identity: OwnedModelIdentity {
                    model_hash: name.repeat(16),
                    tokenizer_hash: tokenizer_hash.to_owned(),
                    hidden_dim: TOKENS,
                    ..OwnedModelIdentity::default()
                },
                table: Table::new(width, (0..width * width).map(one).collect()).unwrap(),
                doubt,
                perplexity,
            }
        }
    }

    impl Side for Oracle {
        fn identity(&self) -> &OwnedModelIdentity {
            &self.identity
        }

        fn vocabulary(&self) -> Vocabulary {
            (0..TOKENS).map(|id| (id.to_string(), id)).collect()
        }

        fn embedding(&self) -> Result<&dyn Rows, RosettaError> {
            Ok(&self.table)
        }

        fn head(&self) -> Result<&dyn Rows, RosettaError> {
            Ok(&self.table)
        }

        fn encode(&self, text: &str) -> Result<Vec<u32>, RosettaError> {
            Ok(text.bytes().map(u32::from).collect())
        }

        fn last_hidden_state(&self, tokens: &[u32]) -> Result<Vec<f32>, RosettaError> {
            Ok(self.hidden_states(tokens)?.pop().unwrap())
        }

        fn hidden_states(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
            let next = tokens.iter().skip(1).chain([&0]);
            Ok(next
                .map(|&id| {
                    let mut state = vec![0.; TOKENS as usize];
                    state[id as usize] = 100.;
                    state[id as usize ^ 1] = 100. * self.doubt;
                    state
                })
                .collect())
        }

        fn logits_behind(&self, _: &[f32], tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError> {
            let others = (self.perplexity - 1.) / (TOKENS - 1) as f32;
            Ok(tokens
                .iter()
                .map(|&token| (0..TOKENS).map(|id| if id == token { 0. } else { others.ln() }).collect())
                .collect())
        }
    }

    fn verdict(doubt: f32, perplexity: f32, target_tokenizer: &str) -> Validation {
        let source = Oracle::new("a", "tokens", doubt, 1.);
        let target = Oracle::new("b", target_tokenizer, 0., perplexity);
        let map = calibrate(&source, &target, &CalibrateOptions::default()).unwrap();
        validate(&source, &target, &map, &ValidateOptions::default()).unwrap()
    }

    #[test]
    fn a_map_that_finds_the_next_token_is_viable_up_to_a_perplexity_of_100() {
        let viable = verdict(0., 99.9, "tokens");
        assert_eq!(viable.recommended_mode, Mode::Latent);
        assert_eq!(viable.detail, "cos_sim=1.000, perplexity=99.9 — projection viable, using LATENT");
        let too_high = verdict(0., 100.2, "tokens");
        assert_eq!(too_high.recommended_mode, Mode::Json);
        assert_eq!(
            too_high.detail,
            "cos_sim=1.000, perplexity=100.2 > 100.0 — projection unreliable, using JSON"
        );
    }

    #[test]
    fn a_low_cosine_refuses_the_map_without_a_perplexity() {
        let refused = verdict(2., 1.5, "tokens");
        assert_eq!((refused.recommended_mode, refused.perplexity), (Mode::Json, None));
        assert_eq!(refused.detail, "cos_sim=0.000 < 0.5 threshold — projection unreliable, using JSON");
    }

    #[test]
    fn without_a_shared_tokenizer_the_cosine_alone_decides() {
        let high = verdict(0., 1000., "other tokens");
        assert_eq!((high.recommended_mode, high.perplexity), (Mode::Latent, None));
        assert_eq!(
            high.detail,
            "cos_sim=1.000 (high) — no shared tokenizer for perplexity check, recommending LATENT"
        );
        // Half of the probability on a wrong token: 45 degrees off.
        let moderate = verdict(1., 1000., "other tokens");
        assert!((moderate.cosine_similarity - 0.5f32.sqrt()).abs() < 1e-5);
        assert!(moderate.detail.starts_with("cos_sim=0.707 (moderate) — no shared tokenizer"));
    }

    #[test]
    fn no_texts_are_an_error_and_one_token_refuses_the_map() {
        let (source, target) = (Oracle::new("a", "t", 0., 1.), Oracle::new("b", "t", 0., 1.));
        let map = calibrate(&source, &target, &CalibrateOptions::default()).unwrap();
        let with = |texts: &[&str], cosine_threshold| {
            let texts = texts.iter().map(|&text| text.to_owned()).collect();
            validate(
                &source,
                &target,
                &map,
                &ValidateOptions { texts, cosine_threshold, ..Default::default() },
            )
        };
        assert!(matches!(with(&[], 0.5), Err(RosettaError::Option { option: "texts", .. })));
        // A single token has no next token: no cosine, and an infinite perplexity.
        let one = with(&["x"], -1.).unwrap();
        assert_eq!((one.cosine_similarity, one.perplexity), (0., Some(f32::INFINITY)));
        assert_eq!(one.recommended_mode, Mode::Json);
    }
}
