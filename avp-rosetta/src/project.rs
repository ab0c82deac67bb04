//! Projects a hidden state of one model to an input embedding of another.
//!
//! As in `avp` 0.6.2 (`rosetta/project.py`), a hidden state is projected in one of two ways:
//!
//! - through the vocabulary: the source's prediction weighs the target's embeddings,
//!   `softmax(hidden @ head^T / T) @ embedding`, over the shared tokens;
//! - through a learned matrix: `hidden @ W + b`.
//!
//! Both are then scaled to the mean norm of the target's embeddings.

use super::{
    RosettaError, Rows, Table,
    rows::{dot, norm},
};

/// Options of a projection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProjectOptions {
    /// Softmax temperature, above 0: below 1 sharpens the distribution, above 1 flattens it. The default is 1, as in `avp`
    /// 0.6.2.
    pub temperature: f32,
    /// Probability mass to leave out at most, in `[0, 1)`: rows are read in order of falling probability until no more than
    /// this is left. 0 reads all rows.
    pub tail: f32,
}

impl Default for ProjectOptions {
    fn default() -> Self {
        Self { temperature: 1.0, tail: 1e-6 }
    }
}

/// A vector in the target's input space, and figures of its projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// `[target hidden size]`.
    pub vector: Vec<f32>,
    /// Metrics of the source's prediction; `None` for a learned map.
    pub metrics: Option<ProjectionMetrics>,
    /// L2 norm of the projected hidden state.
    pub hidden_state_norm: f32,
    /// Number of rows of the target's embedding that were read.
    pub rows_read: usize,
    /// Upper bound of the L2 distance from `vector` to the result with all rows; see [`soft_embedding`].
    pub error_bound: f32,
}

/// The source's prediction as a distribution over the shared tokens; names and formulas as in `avp` 0.6.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProjectionMetrics {
    /// `-sum p ln p`, in nats.
    pub entropy: f32,
    /// Probability of the likeliest token.
    pub max_prob: f32,
    /// Difference of the two highest probabilities (not of logits, despite its name).
    pub logit_gap: f32,
}

/// Which rows of the source's head correspond to the rows of the target's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedTokens<'i> {
    /// Equal tokenizers: row `i` corresponds to row `i`, up to the shorter length. Tables of one family may differ in their
    /// padding.
    Prefix,
    /// Row `i` of the table corresponds to the `i`th listed row of the head.
    Listed(&'i [u32]),
}

/// Projects `hidden`, of the source's width, through the tokens that both models share.
///
/// ```
/// use avp_rosetta::{ProjectOptions, RosettaError, SharedTokens, Table, through_vocabulary};
///
/// let head = Table::new(2, vec![1., 0., 0., 1.])?;
/// let embedding = Table::new(3, vec![2., 0., 0., 0., 2., 0.])?;
/// let options = ProjectOptions { temperature: 0.01, ..ProjectOptions::default() };
/// let projection = through_vocabulary(&[1., 0.], &head, &embedding, SharedTokens::Prefix, None, &options)?;
/// assert_eq!((projection.vector, projection.rows_read), (vec![2., 0., 0.], 1));
/// # Ok::<(), RosettaError>(())
/// ```
///
/// # Errors
/// When an option is out of range, widths differ, a listed token is outside `head`, or `hidden` is not finite.
pub fn through_vocabulary(
    hidden: &[f32],
    head: &dyn Rows,
    table: &Table,
    shared: SharedTokens<'_>,
    target_norm: Option<f32>,
    options: &ProjectOptions,
) -> Result<Projection, RosettaError> {
    check("the hidden state", hidden, head.width())?;
    let logits = match shared {
        SharedTokens::Prefix => head.products(hidden, head.count().min(table.count())),
        SharedTokens::Listed(ids) => {
            width("the list of shared tokens", table.count(), ids.len())?;
            let mut row = vec![0.; head.width()];
            let mut logit = |&id: &u32| {
                let rows = head.count();
                let index = usize::try_from(id).ok().filter(|&index| index < rows);
                head.read(index.ok_or(RosettaError::UnknownToken { id, rows })?, &mut row);
                Ok(dot(&row, hidden))
            };
            ids.iter().map(&mut logit).collect::<Result<_, RosettaError>>()?
        }
    };
    let probabilities = softmax(logits, options.temperature)?;
    let metrics = ProjectionMetrics::of(&probabilities);
    let mut soft = soft_embedding(&probabilities, table, options.tail)?;
    if let Some(target_norm) = target_norm {
        let length = scale(&mut soft.vector, target_norm);
        // Two vectors x and y, each scaled to norm t, lie at most 2 t |x - y| / |y| apart.
        soft.error_bound *= 2. * target_norm / length;
    }
    Ok(Projection {
        vector: soft.vector,
        metrics: Some(metrics),
        hidden_state_norm: norm(hidden),
        rows_read: soft.rows_read,
        error_bound: soft.error_bound,
    })
}

/// Projects `hidden` by a learned `matrix`, `[hidden.len(), target hidden size]` in row-major order.
///
/// # Errors
/// When sizes do not match, or `hidden` is not finite.
pub fn through_matrix(
    hidden: &[f32],
    matrix: &[f32],
    bias: Option<&[f32]>,
    target_norm: f32,
) -> Result<Projection, RosettaError> {
    check("the hidden state", hidden, hidden.len())?;
    let target_width = matrix.len().checked_div(hidden.len()).unwrap_or(0).max(1);
    width("the matrix", hidden.len().max(1) * target_width, matrix.len())?;
    if let Some(bias) = bias {
        width("the bias", target_width, bias.len())?;
    }
    let mut sums = vec![0f64; target_width];
    for (&value, row) in hidden.iter().zip(matrix.chunks_exact(target_width)) {
        sums.iter_mut().zip(row).for_each(|(sum, &weight)| *sum += f64::from(value) * f64::from(weight));
    }
    let mut vector: Vec<f32> = match bias {
        Some(bias) => sums.iter().zip(bias).map(|(&sum, &bias)| (sum + f64::from(bias)) as f32).collect(),
        None => sums.iter().map(|&sum| sum as f32).collect(),
    };
    scale(&mut vector, target_norm);
    if !vector.iter().all(|value| value.is_finite()) {
        return Err(RosettaError::NotFinite { what: "the projected vector" });
    }
    Ok(Projection { vector, metrics: None, hidden_state_norm: norm(hidden), rows_read: 0, error_bound: 0. })
}

/// A probability-weighted sum of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftEmbedding {
    /// `[width]`.
    pub vector: Vec<f32>,
    /// Number of rows that were read.
    pub rows_read: usize,
    /// Upper bound of the L2 distance from `vector` to the sum over all rows, without rounding.
    pub error_bound: f32,
}

/// `sum p_i row_i` over the likeliest rows, until at most `tail` of the probability is left.
///
/// If the rows left out have the total probability `e`, their weighted sum has at most the norm `e` times the largest row
/// norm: the `error_bound`. The remaining weights are not renormalized, since that would double the bound.
///
/// # Errors
/// When there are more probabilities than rows, or `tail` is not in `[0, 1)`.
pub fn soft_embedding(
    probabilities: &[f32],
    table: &Table,
    tail: f32,
) -> Result<SoftEmbedding, RosettaError> {
    if !(0.0..1.0).contains(&tail) {
        return Err(RosettaError::Option { option: "tail", expected: "in [0, 1)", got: tail.into() });
    }
    if probabilities.len() > table.count() {
        return Err(RosettaError::Width {
            what: "the probabilities",
            expected: table.count(),
            got: probabilities.len(),
        });
    }
    let mut rising: Vec<u32> = (0..probabilities.len() as u32).collect();
    let probability = |index: u32| probabilities[index as usize];
    rising.sort_unstable_by(|&a, &b| probability(a).total_cmp(&probability(b)));
    let mut left_out = 0f64;
    let mut kept = 0;
    for &index in &rising {
        let with = left_out + f64::from(probability(index));
        if with > f64::from(tail) {
            break;
        }
        left_out = with;
        kept += 1;
    }
    let mut row = vec![0.; table.width()];
    let mut vector = vec![0.; table.width()];
    for &index in &rising[kept..] {
        table.read(index as usize, &mut row);
        let weight = probability(index);
        vector.iter_mut().zip(&row).for_each(|(sum, value)| *sum += weight * value);
    }
    let error_bound = (left_out * f64::from(table.max_norm())) as f32;
    Ok(SoftEmbedding { vector, rows_read: rising.len() - kept, error_bound })
}

/// The largest cosine similarity of `vector` to a row: 1 for the embedding of a token. Reads all rows.
///
/// # Errors
/// When the widths of `vector` and the rows differ.
pub fn nearest_cosine(vector: &[f32], rows: &dyn Rows) -> Result<f32, RosettaError> {
    width("the vector", rows.width(), vector.len())?;
    let mut row = vec![0.; rows.width()];
    let mut cosine = |index| {
        rows.read(index, &mut row);
        cosine(vector, &row)
    };
    Ok((0..rows.count()).map(&mut cosine).fold(f32::NEG_INFINITY, f32::max))
}

/// Cosine similarity; 0 if either vector is 0.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b) / (norm(a).max(SMALLEST_NORM) * norm(b).max(SMALLEST_NORM))
}

/// Lower bound of a norm used as a divisor, as in `avp` 0.6.2.
const SMALLEST_NORM: f32 = 1e-6;

/// Scales `vector` to the norm `target_norm`; returns its previous norm.
fn scale(vector: &mut [f32], target_norm: f32) -> f32 {
    let length = norm(vector).max(SMALLEST_NORM);
    let factor = target_norm / length;
    vector.iter_mut().for_each(|value| *value *= factor);
    length
}

/// Probabilities of `logits` at `temperature`.
fn softmax(mut logits: Vec<f32>, temperature: f32) -> Result<Vec<f32>, RosettaError> {
    if !(temperature > 0. && temperature.is_finite()) {
        return Err(RosettaError::Option {
            option: "temperature",
            expected: "above 0",
            got: temperature.into(),
        });
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f64;
    for logit in &mut logits {
        *logit = ((*logit - max) / temperature).exp();
        sum += f64::from(*logit);
    }
    if !sum.is_finite() || sum == 0. {
        return Err(RosettaError::NotFinite { what: "the source's logits" });
    }
    logits.iter_mut().for_each(|value| *value = (f64::from(*value) / sum) as f32);
    Ok(logits)
}

impl ProjectionMetrics {
    fn of(probabilities: &[f32]) -> Self {
        let mut entropy = 0f64;
        let (mut first, mut second) = (0f32, 0f32);
        for &probability in probabilities {
            entropy -= f64::from(probability) * f64::from(probability.max(1e-12)).ln();
            if probability > first {
                (first, second) = (probability, first);
            } else if probability > second {
                second = probability;
            }
        }
        Self { entropy: entropy as f32, max_prob: first, logit_gap: first - second }
    }
}

fn check(what: &'static str, vector: &[f32], expected: usize) -> Result<(), RosettaError> {
    width(what, expected, vector.len())?;
    if vector.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(RosettaError::NotFinite { what }) }
}

fn width(what: &'static str, expected: usize, got: usize) -> Result<(), RosettaError> {
    if expected == got { Ok(()) } else { Err(RosettaError::Width { what, expected, got }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `sum p row` over all rows, in float64.
    fn exact(probabilities: &[f32], table: &Table) -> Vec<f64> {
        let mut sums = vec![0f64; table.width()];
        let mut row = vec![0.; table.width()];
        for (index, &probability) in probabilities.iter().enumerate() {
            table.read(index, &mut row);
            for (sum, &value) in sums.iter_mut().zip(&row) {
                *sum += f64::from(probability) * f64::from(value);
            }
        }
        sums
    }

    fn distance(a: &[f32], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum::<f64>().sqrt()
    }

    fn scaled(vector: Vec<f64>, target: f64) -> Vec<f64> {
        let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        vector.iter().map(|value| value * target / norm).collect()
    }

    proptest! {
        #[test]
        fn the_error_of_omitted_rows_stays_within_the_bound(
            (logits, values) in (1usize..200).prop_flat_map(|rows| (
                proptest::collection::vec(-20f32..20., rows),
                proptest::collection::vec(-3f32..3., rows * 5),
            )),
            tail in 0f32..0.5,
            target_norm in 0.1f32..10.,
        ) {
            let table = Table::new(5, values).unwrap();
            let probabilities = softmax(logits.clone(), 1.).unwrap();
            let all = exact(&probabilities, &table);
            let soft = soft_embedding(&probabilities, &table, tail).unwrap();
            let rounding = 1e-5 * f64::from(table.max_norm());
            prop_assert!(distance(&soft.vector, &all) <= f64::from(soft.error_bound) + rounding);
            prop_assert!(soft.error_bound <= tail * table.max_norm() * 1.000_001);

            // The same bound after scaling: a head of one column gives exactly these logits for the hidden state 1.
            let head = Table::new(1, logits).unwrap();
            let options = ProjectOptions { tail, ..ProjectOptions::default() };
            let projection = through_vocabulary(
                &[1.], &head, &table, SharedTokens::Prefix, Some(target_norm), &options,
            ).unwrap();
            let length = all.iter().map(|value| value * value).sum::<f64>().sqrt();
            prop_assume!(length > 1e-3);
            let rounding = rounding * f64::from(target_norm) / length * 4.;
            let off = distance(&projection.vector, &scaled(all, target_norm.into()));
            prop_assert!(off <= f64::from(projection.error_bound) * 1.000_01 + rounding, "{off} {projection:?}");
        }

        #[test]
        fn without_a_tail_all_rows_are_read(
            logits in proptest::collection::vec(-5f32..5., 1..100),
        ) {
            let table = Table::new(1, logits.clone()).unwrap();
            let rows = logits.len();
            let soft = soft_embedding(&softmax(logits, 1.).unwrap(), &table, 0.).unwrap();
            prop_assert_eq!((soft.rows_read, soft.error_bound), (rows, 0.));
        }
    }

    #[test]
    fn a_sure_prediction_reads_few_rows() {
        let logits: Vec<f32> = (0..10_000u16).map(|row| if row < 3 { 30. } else { 0. }).collect();
        let table = Table::new(1, vec![1.; 10_000]).unwrap();
        let soft = soft_embedding(&softmax(logits, 1.).unwrap(), &table, 1e-6).unwrap();
        assert_eq!(soft.rows_read, 3);
    }

    #[test]
    fn invalid_options_and_vectors_are_refused() {
        let table = Table::new(2, vec![1., 2., 3., 4.]).unwrap();
        let project = |hidden: &[f32], shared, options: ProjectOptions| {
            through_vocabulary(hidden, &table, &table, shared, None, &options).unwrap_err()
        };
        let options = ProjectOptions::default();
        for temperature in [0., -1., f32::NAN, f32::INFINITY] {
            let refused = project(&[1., 1.], SharedTokens::Prefix, ProjectOptions { temperature, ..options });
            assert!(matches!(refused, RosettaError::Option { option: "temperature", .. }));
        }
        for tail in [-0.1, 1., f32::NAN] {
            let refused = project(&[1., 1.], SharedTokens::Prefix, ProjectOptions { tail, ..options });
            assert!(matches!(refused, RosettaError::Option { option: "tail", .. }));
        }
        assert!(matches!(project(&[1.], SharedTokens::Prefix, options), RosettaError::Width { .. }));
        assert!(matches!(
            project(&[f32::NAN, 1.], SharedTokens::Prefix, options),
            RosettaError::NotFinite { .. }
        ));
        assert!(matches!(
            project(&[f32::MAX; 2], SharedTokens::Prefix, options),
            RosettaError::NotFinite { .. }
        ));
        let refused = project(&[1., 1.], SharedTokens::Listed(&[0, 2]), options);
        assert_eq!(refused, RosettaError::UnknownToken { id: 2, rows: 2 });
        assert!(matches!(
            project(&[1., 1.], SharedTokens::Listed(&[0]), options),
            RosettaError::Width { .. }
        ));
        assert!(matches!(through_matrix(&[], &[], None, 1.), Err(RosettaError::Width { .. })));
        assert!(matches!(
            through_matrix(&[1., 2.], &[1., 2., 3.], None, 1.),
            Err(RosettaError::Width { .. })
        ));
        assert!(matches!(through_matrix(&[1.], &[1.], Some(&[]), 1.), Err(RosettaError::Width { .. })));
    }
}
