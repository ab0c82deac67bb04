//! Computes a map between two models.

use avp_core::{MIN_SHARED_TOKENS, OwnedModelIdentity};

use super::{
    AvpMap, MapModel, Method, Pairs, RosettaError, Rows, Table,
    map::Body,
    project::{cosine, through_matrix},
    vocabulary::{Overlap, Vocabulary},
};

/// The model operations that calibration and validation use.
pub(super) trait Side {
    fn identity(&self) -> &OwnedModelIdentity;

    fn vocabulary(&self) -> Vocabulary;

    /// The input embeddings, one row per token.
    fn embedding(&self) -> Result<&dyn Rows, RosettaError>;

    /// The head, one row per token.
    fn head(&self) -> Result<&dyn Rows, RosettaError>;

    /// The ids of a plain text, with the special tokens that the tokenizer adds, as peers encode anchors.
    fn encode(&self, text: &str) -> Result<Vec<u32>, RosettaError>;

    /// The hidden state of the last position after the final norm.
    fn last_hidden_state(&self, tokens: &[u32]) -> Result<Vec<f32>, RosettaError>;

    /// The hidden state of every position.
    fn hidden_states(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError>;

    /// The logits that predict each of `tokens`, with `vector` in place of a token before the first.
    fn logits_behind(&self, vector: &[f32], tokens: &[u32]) -> Result<Vec<Vec<f32>>, RosettaError>;
}

/// Options of [`Rosetta::calibrate`](crate::Rosetta::calibrate).
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrateOptions {
    /// The method; by default [`Method::VocabMediated`] for equal tokenizers, else [`Method::VocabOverlap`].
    pub method: Option<Method>,
    /// Texts to fit a learned map to, at least 5; the last fifth is held out for the score. By default 100 short sentences
    /// in several languages, including questions, arithmetic and code.
    pub anchors: Vec<String>,
    /// Regularization of ridge regression; 1e-4 by default, as in `avp` 0.2.1.
    pub lambda: f64,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        let anchors = include_str!("anchors.txt").lines().map(str::to_owned).collect();
        Self { method: None, anchors, lambda: 1e-4 }
    }
}

const MIN_ANCHORS: usize = 5;

/// Anchors and validation texts are truncated to this number of tokens, as in both peers.
pub(super) const MAX_TEXT_TOKENS: usize = 128;

pub(super) fn calibrate(
    source: &dyn Side,
    target: &dyn Side,
    options: &CalibrateOptions,
) -> Result<AvpMap, RosettaError> {
    let (from, to) = (source.identity(), target.identity());
    let same_tokenizer = !from.tokenizer_hash.is_empty() && from.tokenizer_hash == to.tokenizer_hash;
    let method = match options.method {
        Some(method) => method,
        None if same_tokenizer => Method::VocabMediated,
        None => Method::VocabOverlap,
    };
    let embedding = target.embedding()?;
    let mut map = AvpMap {
        source: MapModel::from(from),
        target: MapModel::from(to),
        target_norm: 0.,
        anchor_count: 0,
        validation_score: 1.,
        body: Body::Linear { method, matrix: Vec::new(), bias: None },
    };
    match method {
        Method::VocabMediated => {
            if !same_tokenizer {
                let got = "different tokenizers".to_owned();
                return Err(RosettaError::Method { method, expected: "equal tokenizers", got });
            }
            let table = Table::copy(embedding)?;
            map.target_norm = table.mean_norm();
            map.body = Body::Mediated(table);
        }
        Method::VocabOverlap => {
            let (theirs, ours) = (source.vocabulary(), target.vocabulary());
            let ids = Overlap::of(&theirs, source.head()?.count(), &ours, embedding.count());
            let expected = MIN_SHARED_TOKENS as usize;
            if ids.len() < expected {
                return Err(RosettaError::TooFewSharedTokens { shared: ids.len(), expected });
            }
            map.validation_score = ids.len() as f32 / theirs.len().min(ours.len()) as f32;
            map.target_norm = mean_norm(embedding);
            let table = Table::gather(embedding, ids.target_ids.iter().map(|&id| id as usize))?;
            map.body = Body::Overlap { table, ids };
        }
        Method::Ridge | Method::Procrustes => {
            let fitted = fit(source, target, embedding, method, options)?;
            map.target_norm = mean_norm(embedding);
            map.anchor_count = fitted.anchor_count;
            map.validation_score = fitted.score;
            map.body = Body::Linear { method, matrix: fitted.matrix, bias: None };
        }
    }
    if map.target_norm.is_finite() && map.target_norm > 0. {
        Ok(map)
    } else {
        Err(RosettaError::NotFinite { what: "the target's embedding" })
    }
}

struct Fitted {
    matrix: Vec<f32>,
    anchor_count: u32,
    score: f32,
}

/// Fits the source's hidden states of the anchors' last tokens to the target's mean input embedding of the same text, as
/// `avp` 0.2.1 does.
fn fit(
    source: &dyn Side,
    target: &dyn Side,
    embedding: &dyn Rows,
    method: Method,
    options: &CalibrateOptions,
) -> Result<Fitted, RosettaError> {
    let anchors = &options.anchors;
    if anchors.len() < MIN_ANCHORS {
        let got = anchors.len().to_string();
        return Err(RosettaError::Method { method, expected: "at least 5 anchor texts", got });
    }
    if !(options.lambda > 0. && options.lambda.is_finite()) {
        return Err(RosettaError::Option { option: "lambda", expected: "above 0", got: options.lambda });
    }
    let held_back = (anchors.len() / 5).max(1);
    let (texts, others) = anchors.split_at(anchors.len() - held_back);
    let mut x = Vec::new();
    let mut y = Vec::new();
    for text in texts {
        x.extend(source.last_hidden_state(&source.encode(text)?)?);
        y.extend(mean_embedding(embedding, &target.encode(text)?)?);
    }
    let pairs = Pairs::new(texts.len(), &x, &y)?;
    let matrix =
        if method == Method::Procrustes { pairs.procrustes()? } else { pairs.ridge(options.lambda)? };
    let mut score = 0.;
    for text in others {
        let hidden = source.last_hidden_state(&source.encode(text)?)?;
        // Cosine similarity does not depend on the norm.
        let projected = through_matrix(&hidden, &matrix, None, 1.)?;
        score += cosine(&projected.vector, &mean_embedding(embedding, &target.encode(text)?)?);
    }
    Ok(Fitted { matrix, anchor_count: texts.len() as u32, score: score / held_back as f32 })
}

fn mean_embedding(embedding: &dyn Rows, tokens: &[u32]) -> Result<Vec<f32>, RosettaError> {
    let mut row = vec![0.; embedding.width()];
    let mut sums = vec![0f64; embedding.width()];
    for &id in tokens {
        read_token(embedding, id, &mut row)?;
        sums.iter_mut().zip(&row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = tokens.len().max(1) as f64;
    Ok(sums.into_iter().map(|sum| (sum / count) as f32).collect())
}

/// Reads the row of token `id`.
///
/// # Errors
/// When the id is out of range: a tokenizer may have more tokens than its model.
pub(super) fn read_token(rows: &dyn Rows, id: u32, into: &mut [f32]) -> Result<(), RosettaError> {
    let index = id as usize;
    if index >= rows.count() {
        return Err(RosettaError::UnknownToken { id, rows: rows.count() });
    }
    rows.read(index, into);
    Ok(())
}

/// Mean L2 norm of all rows including padding, as in the peers.
fn mean_norm(rows: &dyn Rows) -> f32 {
    let mut row = vec![0.; rows.width()];
    let mut norm = |index| {
        rows.read(index, &mut row);
        row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
    };
    let sum: f64 = (0..rows.count()).map(&mut norm).sum();
    (sum / rows.count().max(1) as f64) as f32
}
