//! Matrices whose rows belong to tokens.

use half::{bf16, f16};

use super::RosettaError;

/// Rows of a matrix that may be large, stored anyhow: read one at a time.
pub trait Rows {
    /// How many rows there are.
    fn count(&self) -> usize;

    /// Values in each row.
    fn width(&self) -> usize;

    /// Reads row `row` as float32 into `into`.
    ///
    /// # Panics
    /// When there is no such row, or `into` is not [`width`](Self::width) long.
    fn read(&self, row: usize, into: &mut [f32]);

    /// The dot products of the first `count` rows with `vector`. Worth writing anew where rows do not lie together.
    ///
    /// # Panics
    /// When there are fewer rows, or `vector` is not [`width`](Self::width) long.
    fn products(&self, vector: &[f32], count: usize) -> Vec<f32> {
        let mut row = vec![0.; self.width()];
        let mut product = |index| {
            self.read(index, &mut row);
            dot(&row, vector)
        };
        (0..count).map(&mut product).collect()
    }
}

/// A matrix `[count, width]` in memory, in the smallest number format that loses nothing.
///
/// ```
/// # use avp_rosetta::{RosettaError, Rows, Table};
/// let table = Table::new(2, vec![3., 4., 0., 1.])?;
/// assert_eq!((table.count(), table.mean_norm(), table.max_norm()), (2, 3., 5.));
/// # Ok::<(), RosettaError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    width: usize,
    values: Values,
    mean_norm: f32,
    max_norm: f32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Table {
    /// Takes `values` row by row.
    ///
    /// # Errors
    /// When `values` are no whole rows of `width`, or not all of them are finite.
    pub fn new(width: usize, values: Vec<f32>) -> Result<Self, RosettaError> {
        let values = if values.iter().all(|&value| is_exact(value, f16::from_f32(value).to_f32())) {
            Values::F16(values.into_iter().map(f16::from_f32).collect())
        } else if values.iter().all(|&value| is_exact(value, bf16::from_f32(value).to_f32())) {
            Values::Bf16(values.into_iter().map(bf16::from_f32).collect())
        } else {
            Values::F32(values)
        };
        Self::from_values(width, values)
    }

    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn from_values(width: usize, values: Values) -> Result<Self, RosettaError> {
        let length = values.len();
        if width == 0 || length == 0 || !length.is_multiple_of(width) {
            return Err(RosettaError::Width { what: "a table", expected: width, got: length });
        }
        let mut table = Self { width, values, mean_norm: 0., max_norm: 0. };
        let mut row = vec![0.; width];
        let (mut sum, mut max) = (0f64, 0f64);
        for index in 0..table.count() {
            table.read(index, &mut row);
            let norm = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
            if !norm.is_finite() {
                return Err(RosettaError::NotFinite { what: "a table" });
            }
            sum += norm;
            max = max.max(norm);
        }
        table.mean_norm = (sum / table.count() as f64) as f32;
        table.max_norm = max as f32;
        Ok(table)
    }

    /// Copies all of `rows`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn copy(rows: &dyn Rows) -> Result<Self, RosettaError> {
        Self::gather(rows, 0..rows.count())
    }

    /// Copies the rows at `indices`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// # Panics
    /// When there is no row at an index.
    pub fn gather(rows: &dyn Rows, indices: impl IntoIterator<Item = usize>) -> Result<Self, RosettaError> {
        let mut values = Vec::new();
        for index in indices {
            let start = values.len();
            values.resize(start + rows.width(), 0.);
            rows.read(index, &mut values[start..]);
        }
        Self::new(rows.width(), values)
    }

    /// Mean L2 norm of the rows.
    pub fn mean_norm(&self) -> f32 {
        self.mean_norm
    }

    /// Largest L2 norm of a row.
    pub fn max_norm(&self) -> f32 {
        self.max_norm
    }

    pub(super) fn values(&self) -> &Values {
        &self.values
    }
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }
}

impl Rows for Table {
    fn count(&self) -> usize {
        self.values.len() / self.width
    }

    fn width(&self) -> usize {
        self.width
    }

    fn read(&self, row: usize, into: &mut [f32]) {
        let range = row * self.width..(row + 1) * self.width;
        match &self.values {
            Values::F32(values) => into.copy_from_slice(&values[range]),
            Values::F16(values) => {
                into.iter_mut().zip(&values[range]).for_each(|(to, from)| *to = from.to_f32());
            }
            Values::Bf16(values) => {
                into.iter_mut().zip(&values[range]).for_each(|(to, from)| *to = from.to_f32());
            }
        }
    }
}

/// Bit for bit, so that -0 stays what it is; NaN is refused later, where it can be named.
fn is_exact(value: f32, rounded: f32) -> bool {
    value.to_bits() == rounded.to_bits()
}

/// Eight running sums, which the compiler keeps in one register; they also round less than one would.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_parts, a_rest) = a.as_chunks::<8>();
    let (b_parts, b_rest) = b.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (a, b) in a_parts.iter().zip(b_parts) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// L2 norm, summed in float64.
pub(super) fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_smallest_format_that_loses_nothing() {
        let format = |value: f32| Table::new(1, vec![value, -0.0]).unwrap().values;
        assert!(matches!(format(0.5), Values::F16(_)));
        assert!(matches!(format(1e30_f32.to_bits_truncated()), Values::Bf16(_)));
        assert!(matches!(format(0.1), Values::F32(_)));
        for value in [0.5, 0.1, 3e38, 1e-40, 1e30_f32.to_bits_truncated()] {
            let mut row = [0.];
            Table::new(1, vec![value]).unwrap().read(0, &mut row);
            assert_eq!(row[0].to_bits(), value.to_bits());
        }
    }

    trait Truncated {
        fn to_bits_truncated(self) -> f32;
    }

    impl Truncated for f32 {
        /// The same number with a bfloat16's bits only.
        fn to_bits_truncated(self) -> f32 {
            f32::from_bits(self.to_bits() & 0xffff_0000)
        }
    }

    #[test]
    fn rows_that_are_not_whole_or_not_finite_are_refused() {
        assert!(matches!(Table::new(2, vec![1.; 3]), Err(RosettaError::Width { .. })));
        assert!(matches!(Table::new(0, vec![]), Err(RosettaError::Width { .. })));
        for value in [f32::NAN, f32::INFINITY] {
            assert!(matches!(Table::new(1, vec![value]), Err(RosettaError::NotFinite { .. })));
        }
    }

    #[test]
    fn products_are_those_of_every_row() {
        let table = Table::new(9, (0..27u8).map(f32::from).collect()).unwrap();
        let vector: Vec<f32> = (0..9u8).map(f32::from).collect();
        assert_eq!(table.products(&vector, 3), [204., 528., 852.]);
    }
}
