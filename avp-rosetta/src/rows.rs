//! Matrices with one row per token.

use half::{bf16, f16};

use super::RosettaError;

/// A matrix that is read row by row, in any storage format.
pub trait Rows {
    /// The number of rows.
    fn count(&self) -> usize;

    /// The number of values in each row.
    fn width(&self) -> usize;

    /// Reads row `row` as float32 into `into`.
    ///
    /// # Panics
    /// When `row` is out of range, or `into` is not [`width`](Self::width) long.
    fn read(&self, row: usize, into: &mut [f32]);

    /// The dot products of the first `count` rows with `vector`. Override it if rows are not contiguous in memory.
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

/// A matrix `[count, width]` in memory, in the smallest lossless number format.
///
/// ```
/// use avp_rosetta::{RosettaError, Rows, Table};
///
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
    /// A table of `values` in row-major order.
    ///
    /// # Errors
    /// When the number of values is 0 or not a multiple of `width`, or a value is not finite.
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

    /// Copies all rows.
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
    /// When an index is out of range.
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

/// Compares bits, so that -0 is kept; NaN is refused later, with an error.
fn is_exact(value: f32, rounded: f32) -> bool {
    value.to_bits() == rounded.to_bits()
}

/// Dot product in eight running sums, which the compiler keeps in one register; they also round less than one sum.
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
    fn a_table_uses_the_smallest_lossless_format() {
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
        /// The number cut to the bits of a bfloat16.
        fn to_bits_truncated(self) -> f32 {
            f32::from_bits(self.to_bits() & 0xffff_0000)
        }
    }

    #[test]
    fn partial_and_non_finite_rows_are_refused() {
        assert!(matches!(Table::new(2, vec![1.; 3]), Err(RosettaError::Width { .. })));
        assert!(matches!(Table::new(0, vec![]), Err(RosettaError::Width { .. })));
        for value in [f32::NAN, f32::INFINITY] {
            assert!(matches!(Table::new(1, vec![value]), Err(RosettaError::NotFinite { .. })));
        }
    }

    #[test]
    fn products_cover_every_row() {
        let table = Table::new(9, (0..27u8).map(f32::from).collect()).unwrap();
        let vector: Vec<f32> = (0..9u8).map(f32::from).collect();
        assert_eq!(table.products(&vector, 3), [204., 528., 852.]);
    }
}
