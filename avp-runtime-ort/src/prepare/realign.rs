//! The realignment matrix of a model with an untied head.

use std::thread;

use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

use super::PrepareError;
use crate::onnx::Table;

/// `W`, and the target norm of `h @ W`.
pub(super) struct Realignment {
    /// `[hidden_size, hidden_size]`, row-major.
    pub(super) matrix: Vec<f32>,
    pub(super) hidden_size: usize,
    /// Mean L2 norm of the rows of the input embedding.
    pub(super) target_norm: f32,
}

/// Mean L2 norm of the rows of `table`, summed in float64.
pub(super) fn mean_norm(table: &Table) -> f32 {
    let mut row = vec![0.0; table.cols];
    let norm = |at| {
        table.read_row(at, &mut row);
        row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
    };
    ((0..table.rows).map(norm).sum::<f64>() / table.rows.max(1) as f64) as f32
}

/// Ridge added to the Gram matrix; LatentMAS and `avp` 0.2.1 both use 1e-5.
const RIDGE: f64 = 1e-5;

/// Rows per block, which limits memory to two blocks for any vocabulary.
const BLOCK: usize = 1024;

/// Solves `W = (Eo^T Eo + 1e-5 I)^-1 Eo^T Ei` in float64, with the embedding `Ei` and the head `Eo`.
///
/// # Errors
/// When the Gram matrix is not positive definite, which requires NaN or infinite weights.
pub(super) fn solve(input: &Table, output: &Table) -> Result<Realignment, PrepareError> {
    let (vocab_size, hidden_size) = (input.rows, input.cols);
    let mut gram = DMatrix::<f64>::identity(hidden_size, hidden_size) * RIDGE;
    let mut cross = DMatrix::<f64>::zeros(hidden_size, hidden_size);
    let mut norms = 0.0;
    for start in (0..vocab_size).step_by(BLOCK) {
        let end = vocab_size.min(start + BLOCK);
        let input = block(input, start, end);
        let output = block(output, start, end);
        norms += input.row_iter().map(|row| row.norm()).sum::<f64>();
        // A product with the transposed matrix is blocked and vectorised; `gemm_tr` works column by column.
        let transposed = output.transpose();
        add_product(&mut gram, &transposed, &output);
        add_product(&mut cross, &transposed, &input);
    }
    let solution = gram.cholesky().ok_or(PrepareError::Realignment)?.solve(&cross);
    Ok(Realignment {
        // nalgebra is column-major: the transpose's storage is the solution row by row.
        matrix: solution.transpose().iter().map(|&value| value as f32).collect(),
        hidden_size,
        target_norm: (norms / vocab_size.max(1) as f64) as f32,
    })
}

/// Adds `left @ right` to `sum`. Columns are distributed over cores; the result does not depend on the number of cores.
fn add_product(sum: &mut DMatrix<f64>, left: &DMatrix<f64>, right: &DMatrix<f64>) {
    let (rows, inner, columns) = (left.nrows(), left.ncols(), right.ncols());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // The minimum width for an efficient `gemm`; small models use one thread.
    let width = columns.div_ceil(cores).max(128);
    let stripes = sum.as_mut_slice().chunks_mut((rows * width).max(1));
    let rights = right.as_slice().chunks((inner * width).max(1));
    let add = |sum: &mut [f64], right: &[f64]| {
        let columns = right.len() / inner;
        DMatrixViewMut::from_slice(sum, rows, columns).gemm(
            1.0,
            left,
            &DMatrixView::from_slice(right, inner, columns),
            1.0,
        );
    };
    thread::scope(|scope| {
        for (sum, right) in stripes.zip(rights) {
            scope.spawn(move || add(sum, right));
        }
    });
}

/// Rows `[start, end)` of a table.
fn block(table: &Table, start: usize, end: usize) -> DMatrix<f64> {
    let mut values = vec![0.0; (end - start) * table.cols];
    for (row, values) in (start..end).zip(values.chunks_exact_mut(table.cols)) {
        table.read_row(row, values);
    }
    DMatrix::from_row_iterator(end - start, table.cols, values.into_iter().map(f64::from))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::onnx::{Weights, float_tensor};

    fn table(rows: i64, cols: i64, transposed: bool, values: &[f32]) -> Table {
        let matrix = Weights::new(Path::new(".")).matrix(&float_tensor("w", &[rows, cols], values)).unwrap();
        Table::float(matrix, transposed)
    }

    #[test]
    fn equal_tables_realign_to_the_identity() {
        let same = table(3, 2, false, &[1., 0., 0., 2., 3., 4.]);
        let found = solve(&same, &same).unwrap();
        for (value, expected) in found.matrix.iter().zip([1., 0., 0., 1.]) {
            assert!((value - expected).abs() < 1e-4, "{:?}", found.matrix);
        }
        assert!((found.target_norm - (1. + 2. + 5.) / 3.).abs() < 1e-6);
    }

    #[test]
    fn a_transposed_table_gives_the_same_matrix() {
        let input = table(3, 2, false, &[1., 0.5, 0., 2., 3., 4.]);
        let output = table(3, 2, false, &[2., 1., 0.5, 1., 1., 3.]);
        let turned = table(2, 3, true, &[2., 0.5, 1., 1., 1., 3.]);
        let one = solve(&input, &output).unwrap();
        let other = solve(&input, &turned).unwrap();
        assert_eq!(one.matrix, other.matrix);
    }

    #[test]
    fn the_product_does_not_depend_on_the_number_of_cores() {
        // More columns than one core takes, and not a multiple of it.
        let filled = |rows, cols, scale: f64| {
            DMatrix::from_fn(rows, cols, |row, col| ((row * 31 + col * 7) as f64 * scale).sin())
        };
        let (left, right) = (filled(5, 40, 0.3), filled(40, 301, 0.7));
        let mut sum = filled(5, 301, 0.1);
        let expected = &sum + &left * &right;
        add_product(&mut sum, &left, &right);
        assert!((sum - expected).amax() < 1e-12);
    }

    #[test]
    fn nan_weights_have_no_solution() {
        let broken = table(1, 2, false, &[f32::NAN, 1.]);
        assert!(matches!(solve(&broken, &broken), Err(PrepareError::Realignment)));
    }
}
