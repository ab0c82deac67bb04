//! Linear maps between two spaces, fitted to pairs of vectors in float64: ridge regression and orthogonal Procrustes.

use nalgebra::DMatrix;

use super::{Method, RosettaError};

/// Pairs of vectors to fit a map to: the map should send row `i` of `x` to row `i` of `y`.
///
/// ```
/// use avp_rosetta::{Pairs, RosettaError};
///
/// let pairs = Pairs::new(2, &[1., 0., 0., 1.], &[3., 5.])?;
/// assert_eq!(pairs.ridge(1e-9)?, [3., 5.]);
/// # Ok::<(), RosettaError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    x: DMatrix<f64>,
    y: DMatrix<f64>,
}

impl Pairs {
    /// Pairs of `count` rows of `x` and `y`, in row-major order.
    ///
    /// # Errors
    /// When `count` is 0 or a length is not a multiple of `count`.
    pub fn new(count: usize, x: &[f32], y: &[f32]) -> Result<Self, RosettaError> {
        let matrix = |what, values: &[f32]| {
            if count == 0 || values.is_empty() || !values.len().is_multiple_of(count) {
                return Err(RosettaError::Width { what, expected: count, got: values.len() });
            }
            let values = values.iter().copied().map(f64::from);
            Ok(DMatrix::from_row_iterator(count, values.len() / count, values))
        };
        Ok(Self { x: matrix("the source's vectors", x)?, y: matrix("the target's vectors", y)? })
    }

    /// Ridge regression: `W = (X^T X + lambda I)^-1 X^T Y`, `[width of x, width of y]` in row-major order.
    ///
    /// # Errors
    /// When the equations have no solution, such as with NaN. With finite values, `lambda` above 0 guarantees a solution.
    pub fn ridge(&self, lambda: f64) -> Result<Vec<f32>, RosettaError> {
        let transposed = self.x.transpose();
        let width = self.x.ncols();
        let gram = &transposed * &self.x + DMatrix::identity(width, width) * lambda;
        let cholesky = gram.cholesky().ok_or(RosettaError::NoSolution { method: Method::Ridge })?;
        finish(&cholesky.solve(&(transposed * &self.y)), Method::Ridge)
    }

    /// Orthogonal Procrustes (Schönemann 1966): with `Y^T X = U S V^T`, `W = V U^T`, `[width, width]` in row-major order.
    /// Time grows with the cube of the width.
    ///
    /// # Errors
    /// When the widths differ, or the decomposition does not converge, such as with NaN.
    pub fn procrustes(&self) -> Result<Vec<f32>, RosettaError> {
        let method = Method::Procrustes;
        if self.x.ncols() != self.y.ncols() {
            let got = format!("{} and {}", self.x.ncols(), self.y.ncols());
            return Err(RosettaError::Method { method, expected: "models of equal hidden size", got });
        }
        let product = self.y.transpose() * &self.x;
        // The order of the singular values does not matter here, and sorting them panics on NaN.
        let decomposed = product
            .iter()
            .all(|value| value.is_finite())
            .then(|| product.try_svd_unordered(true, true, f64::EPSILON, MAX_SWEEPS))
            .flatten();
        let (u, v_t) =
            decomposed.and_then(|svd| svd.u.zip(svd.v_t)).ok_or(RosettaError::NoSolution { method })?;
        finish(&(v_t.transpose() * u.transpose()), method)
    }
}

/// The limit on iterations; a decomposition that converges takes a few per column.
const MAX_SWEEPS: usize = 100_000;

fn finish(solution: &DMatrix<f64>, method: Method) -> Result<Vec<f32>, RosettaError> {
    // nalgebra is column-major: the transpose's storage is the solution row by row.
    let matrix: Vec<f32> = solution.transpose().iter().map(|&value| value as f32).collect();
    if matrix.iter().all(|value| value.is_finite()) {
        Ok(matrix)
    } else {
        Err(RosettaError::NoSolution { method })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(rows: usize, values: &[f64]) -> DMatrix<f64> {
        DMatrix::from_row_slice(rows, values.len() / rows, values)
    }

    fn found(rows: usize, values: &[f32]) -> DMatrix<f64> {
        DMatrix::from_row_slice(rows, values.len() / rows, values).map(f64::from)
    }

    proptest! {
        #[test]
        fn ridge_finds_the_map_that_made_the_pairs(
            x in proptest::collection::vec(-2f64..2., 40 * 3),
            w in proptest::collection::vec(-2f64..2., 3 * 4),
        ) {
            let (x, w) = (matrix(40, &x), matrix(3, &w));
            prop_assume!(x.singular_values().min() > 0.5);
            let pairs = Pairs { y: &x * &w, x };
            prop_assert!((found(3, &pairs.ridge(1e-9).unwrap()) - w).norm() < 1e-5);
        }

        #[test]
        fn procrustes_finds_the_rotation_that_made_the_pairs(
            x in proptest::collection::vec(-2f64..2., 20 * 4),
            turn in proptest::collection::vec(-2f64..2., 4 * 4),
        ) {
            let (x, turn) = (matrix(20, &x), matrix(4, &turn));
            prop_assume!(x.singular_values().min() > 0.5 && turn.singular_values().min() > 0.1);
            let rotation = turn.qr().q();
            let pairs = Pairs { y: &x * &rotation, x };
            prop_assert!((found(4, &pairs.procrustes().unwrap()) - rotation).norm() < 1e-5);
        }
    }

    #[test]
    fn fewer_pairs_than_columns_still_give_an_orthogonal_map() {
        let x = DMatrix::from_fn(3, 8, |row, col| ((row * 8 + col) as f64).sin());
        let y = DMatrix::from_fn(3, 8, |row, col| ((row * 8 + col) as f64).cos());
        let pairs = Pairs { x, y };
        let map = found(8, &pairs.procrustes().unwrap());
        assert!((&map * map.transpose() - DMatrix::identity(8, 8)).norm() < 1e-5);
        assert_eq!(pairs.ridge(1e-4).unwrap().len(), 64);
    }

    #[test]
    fn nan_and_unequal_widths_are_errors() {
        let pairs = |x: &[f32], y: &[f32]| Pairs::new(2, x, y).unwrap();
        let broken = pairs(&[f32::NAN, 1., 2., 3.], &[1., 2., 3., 4.]);
        assert!(matches!(broken.ridge(1e-4), Err(RosettaError::NoSolution { .. })));
        assert!(matches!(broken.procrustes(), Err(RosettaError::NoSolution { .. })));
        let unequal = pairs(&[1., 2., 3., 4.], &[1., 2.]);
        assert!(matches!(unequal.procrustes(), Err(RosettaError::Method { .. })));
        assert!(matches!(Pairs::new(2, &[1.], &[1., 2.]), Err(RosettaError::Width { .. })));
        assert!(matches!(Pairs::new(0, &[], &[]), Err(RosettaError::Width { .. })));
    }
}
