//! Reads embeddings and heads as float32 rows, in any storage format of an export.
//!
//! Embedding and head are tables with one row per token. Exports store them as plain floats, as 4- or 8-bit integers with a
//! scale for each block of a row (`GatherBlockQuantized`, `MatMulNBits`), as 8-bit integers with one scale
//! (`quantize_dynamic`), or as the 4-bit floats of bitsandbytes (`MatMulBnb4`). The rows are compared to detect tied weights,
//! and used to solve the realignment of untied ones.

use super::{
    GraphIndex, Matrix, TensorProto, Weights,
    weights::{Elements, refuse},
};
use crate::prepare::PrepareError;

/// The initializers of a table, and its storage format. Equal values denote the same weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Floats; `transposed` if stored as `[hidden_size, vocab_size]`.
    Float { tensor: String, transposed: bool },
    /// `(q - zero_point) * scale`, with a scale for each `block_size` elements of a row.
    Blocks(Blocks),
    /// `(q - zero_point) * scale`, with one scale, or one per row of the table.
    Linear { tensor: String, transposed: bool, scale: String, zero_point: Option<String> },
    /// `codebook[q] * absmax`, with two entries per byte, high half first, continuous over all rows.
    Bnb4 { tensor: String, absmax: String, block_size: usize, codebook: Codebook, rows: usize, cols: usize },
}

/// Integers quantized in blocks along a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) tensor: String,
    pub(crate) scales: String,
    pub(crate) zero_points: Option<String>,
    pub(crate) bits: usize,
    pub(crate) block_size: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

/// The 4-bit floats of bitsandbytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codebook {
    Fp4,
    Nf4,
}

/// A table `[vocab_size, hidden_size]` in memory.
pub(crate) struct Table {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    form: Form,
}

enum Form {
    Float {
        matrix: Matrix,
        transposed: bool,
    },
    Blocks {
        packed: Elements,
        bits: usize,
        row_len: usize,
        block_size: usize,
        scales: Vec<f32>,
        zeros: Vec<f32>,
    },
    Linear {
        values: Elements,
        transposed: bool,
        scale: Vec<f32>,
        zero: Vec<f32>,
    },
    Bnb4 {
        packed: Elements,
        absmax: Vec<f32>,
        block_size: usize,
        codebook: &'static [f32; 16],
    },
}

impl Stored {
    /// Reads the table.
    ///
    /// # Errors
    /// When an initializer is absent, cannot be read, or does not have the size that the others imply.
    pub(crate) fn load(&self, index: &GraphIndex<'_>, weights: &Weights<'_>) -> Result<Table, PrepareError> {
        let tensor = |name: &str| {
            let absent = || PrepareError::Weight { name: name.to_owned(), reason: "no such initializer" };
            index.initializer(name).ok_or_else(absent)
        };
        let floats = |name: &str| weights.elements(tensor(name)?).map(|values| values.to_f32());
        match self {
            Self::Float { tensor: name, transposed } => {
                Ok(Table::float(weights.matrix(tensor(name)?)?, *transposed))
            }
            Self::Blocks(blocks) => {
                let zeros = blocks.zero_points.as_deref().map(&tensor).transpose()?;
                blocks.load(weights, tensor(&blocks.tensor)?, floats(&blocks.scales)?, zeros)
            }
            Self::Linear { tensor: name, transposed, scale, zero_point } => {
                let stored = tensor(name)?;
                let (&[first, second], values) = (&stored.dims[..], weights.elements(stored)?) else {
                    return Err(refuse(stored, "expected two dimensions"));
                };
                // `elements` has checked that the dimensions are positive and small enough.
                let (first, second) = (first as usize, second as usize);
                let (rows, cols) = if *transposed { (second, first) } else { (first, second) };
                let scale = floats(scale)?;
                let zero = zero_point.as_deref().map_or_else(|| Ok(vec![0.0]), &floats)?;
                if [&scale, &zero].into_iter().any(|values| values.len() != 1 && values.len() != rows) {
                    return Err(refuse(stored, "expected one scale and zero point, or one for each row"));
                }
                Ok(Table { rows, cols, form: Form::Linear { values, transposed: *transposed, scale, zero } })
            }
            Self::Bnb4 { tensor: name, absmax, block_size, codebook, rows, cols } => {
                let stored = tensor(name)?;
                let (packed, absmax) = (weights.elements(stored)?, floats(absmax)?);
                let count = rows.checked_mul(*cols).filter(|_| *block_size > 0);
                let fits = count.is_some_and(|count| {
                    packed.bytes.len() >= count.div_ceil(2) && absmax.len() >= count.div_ceil(*block_size)
                });
                if !fits {
                    return Err(refuse(stored, "the data does not fill the shape"));
                }
                let form =
                    Form::Bnb4 { packed, absmax, block_size: *block_size, codebook: codebook.values() };
                Ok(Table { rows: *rows, cols: *cols, form })
            }
        }
    }

    /// Whether the floats of the table went through a quantizer.
    pub(crate) fn is_quantized(&self) -> bool {
        !matches!(self, Self::Float { .. })
    }
}

impl Blocks {
    fn load(
        &self,
        weights: &Weights<'_>,
        stored: &TensorProto,
        scales: Vec<f32>,
        zeros: Option<&TensorProto>,
    ) -> Result<Table, PrepareError> {
        let Self { bits, block_size, rows, cols, .. } = *self;
        let packed = weights.elements(stored)?;
        if !matches!(bits, 2 | 4 | 8) || block_size == 0 || packed.element.is_float() {
            return Err(refuse(stored, "expected blocks of 2-, 4- or 8-bit integers"));
        }
        // Both exporters store the blocks of a row contiguously; MatMulNBits pads the last block.
        let blocks = cols.div_ceil(block_size);
        let bytes_of =
            |row_len: usize| rows.checked_mul(row_len)?.checked_mul(bits).map(|bits| bits.div_ceil(8));
        let row_len = [cols, blocks.saturating_mul(block_size)]
            .into_iter()
            .find(|&row_len| bytes_of(row_len) == Some(packed.bytes.len()))
            .ok_or_else(|| refuse(stored, "the data does not fill the shape"))?;
        let count = rows.saturating_mul(blocks);
        let zeros = match zeros {
            Some(zeros) => zero_points(weights, zeros, bits, rows, blocks)?,
            // Default zero points of ONNX Runtime: mid-range for unsigned integers, 0 for signed ones.
            None => {
                let unsigned = packed.element == super::weights::Element::U8;
                vec![if unsigned { (1_u32 << (bits - 1)) as f32 } else { 0.0 }]
            }
        };
        if scales.len() != count || (zeros.len() != 1 && zeros.len() != count) {
            return Err(refuse(stored, "expected one scale for each block"));
        }
        Ok(Table { rows, cols, form: Form::Blocks { packed, bits, row_len, block_size, scales, zeros } })
    }
}

/// One zero point per block: floats, 4-bit elements, or packed bytes; each row starts at a whole byte.
fn zero_points(
    weights: &Weights<'_>,
    tensor: &TensorProto,
    bits: usize,
    rows: usize,
    blocks: usize,
) -> Result<Vec<f32>, PrepareError> {
    let zeros = weights.elements(tensor)?;
    if zeros.element != super::weights::Element::U8 {
        return Ok(zeros.to_f32());
    }
    let row_bytes = blocks.saturating_mul(bits).div_ceil(8);
    if rows.checked_mul(row_bytes) != Some(zeros.bytes.len()) {
        return Err(refuse(tensor, "the data does not fill the shape"));
    }
    let row = |bytes: &[u8]| (0..blocks).map(|block| unpack(bytes, block, bits).into()).collect::<Vec<f32>>();
    Ok(zeros.bytes.chunks_exact(row_bytes).flat_map(row).collect())
}

/// Element `position` with `bits` bits (2, 4 or 8), lowest bits first.
fn unpack(bytes: &[u8], position: usize, bits: usize) -> u8 {
    let bit = position * bits;
    let mask = ((1_u16 << bits) - 1) as u8;
    bytes[bit / 8] >> (bit % 8) & mask
}

impl Table {
    /// A table of floats; `transposed` if `matrix` is `[hidden_size, vocab_size]`.
    pub(crate) fn float(matrix: Matrix, transposed: bool) -> Self {
        let (rows, cols) = if transposed { (matrix.cols, matrix.rows) } else { (matrix.rows, matrix.cols) };
        Self { rows, cols, form: Form::Float { matrix, transposed } }
    }

    /// Writes row `row` into `into`, which has `cols` elements.
    ///
    /// # Panics
    /// When `row` is not below `rows`.
    pub(crate) fn read_row(&self, row: usize, into: &mut [f32]) {
        let cols = self.cols;
        match &self.form {
            Form::Float { matrix, transposed: false } => {
                for (value, element) in into.iter_mut().zip(matrix.row(row)) {
                    *value = element;
                }
            }
            Form::Float { matrix, transposed: true } => {
                for (col, value) in into.iter_mut().enumerate() {
                    *value = matrix.at(col, row);
                }
            }
            Form::Blocks { packed, bits, row_len, block_size, scales, zeros } => {
                let signed = packed.element == super::weights::Element::I4;
                for (col, value) in into.iter_mut().enumerate() {
                    let block = row * cols.div_ceil(*block_size) + col / block_size;
                    let position = row * row_len + col;
                    let element = if signed {
                        packed.at(position)
                    } else {
                        unpack(&packed.bytes, position, *bits).into()
                    };
                    let zero = if zeros.len() == 1 { zeros[0] } else { zeros[block] };
                    *value = (element - zero) * scales[block];
                }
            }
            Form::Linear { values, transposed, scale, zero } => {
                let of_row = |values: &[f32]| if values.len() == 1 { values[0] } else { values[row] };
                for (col, value) in into.iter_mut().enumerate() {
                    let position = if *transposed { col * self.rows + row } else { row * cols + col };
                    *value = (values.at(position) - of_row(zero)) * of_row(scale);
                }
            }
            Form::Bnb4 { packed, absmax, block_size, codebook } => {
                for (col, value) in into.iter_mut().enumerate() {
                    let position = row * cols + col;
                    let code = packed.bytes[position / 2] >> (4 - position % 2 * 4) & 0xf;
                    *value = codebook[usize::from(code)] * absmax[position / block_size];
                }
            }
        }
    }

    /// The norm of the difference to `other`, divided by the norm of this table. 0 only if all elements are equal.
    pub(crate) fn relative_difference(&self, other: &Table) -> f64 {
        let (mut left, mut right) = (vec![0.0; self.cols], vec![0.0; self.cols]);
        let (mut difference, mut norm) = (0.0_f64, 0.0_f64);
        for row in 0..self.rows {
            self.read_row(row, &mut left);
            other.read_row(row, &mut right);
            for (&left, &right) in left.iter().zip(&right) {
                difference += f64::from(left - right).powi(2);
                norm += f64::from(left).powi(2);
            }
        }
        if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
    }

    /// Whether both tables are floats of one type with equal elements.
    pub(crate) fn equals(&self, other: &Table) -> bool {
        let (Form::Float { matrix: left, .. }, Form::Float { matrix: right, .. }) = (&self.form, &other.form)
        else {
            return false;
        };
        let mut rows = (vec![0.0; self.cols], vec![0.0; self.cols]);
        left.element() == right.element()
            && (self.rows, self.cols) == (other.rows, other.cols)
            && (0..self.rows).all(|row| {
                self.read_row(row, &mut rows.0);
                other.read_row(row, &mut rows.1);
                rows.0.iter().zip(&rows.1).all(|(left, right)| left.to_bits() == right.to_bits())
            })
    }
}

impl Codebook {
    /// The values of bitsandbytes' `fp4` and `nf4`, as in ONNX Runtime's `MatMulBnb4`.
    fn values(self) -> &'static [f32; 16] {
        match self {
            Self::Fp4 => &[
                0.0,
                5.208_333_4e-3,
                0.666_666_7,
                1.0,
                0.333_333_34,
                0.5,
                0.166_666_67,
                0.25, //
                -0.0,
                -5.208_333_4e-3,
                -0.666_666_7,
                -1.0,
                -0.333_333_34,
                -0.5,
                -0.166_666_67,
                -0.25,
            ],
            Self::Nf4 => &[
                -1.0,
                -0.696_192_8,
                -0.525_073_05,
                -0.394_917_5,
                -0.284_441_38,
                -0.184_773_43,
                -0.091_050_036,
                0.0,
                0.079_580_3,
                0.160_930_2,
                0.246_112_3,
                0.337_915_24,
                0.440_709_83,
                0.562_617,
                0.722_956_84,
                1.0,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use ort::session::{Session, SessionInputValue};
    use prost::Message;

    use super::*;
    use crate::{
        Runtime,
        onnx::{
            GraphProto, ModelProto, NodeProto, float_tensor, int64_tensor, node, proto::OperatorSetIdProto,
            tensor_proto::DataType, tensor_value,
        },
    };

    const ROWS: usize = 6;

    /// Runs one node of ONNX Runtime's own domain over stored tensors.
    fn run(node: NodeProto, initializer: &[TensorProto]) -> Vec<f32> {
        let opset = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        let model = ModelProto {
            ir_version: Some(10),
            opset_import: vec![opset("", 21), opset("com.microsoft", 1)],
            graph: Some(GraphProto {
                name: Some("g".to_owned()),
                node: vec![NodeProto { domain: Some("com.microsoft".to_owned()), ..node }],
                initializer: initializer.to_vec(),
                output: vec![tensor_value("y", DataType::Float as i32, &[Err("rows"), Err("cols")])],
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        let mut session = Session::builder(runtime.environment())
            .unwrap()
            .commit_from_memory(&model.encode_to_vec())
            .unwrap();
        let outputs = session.run(Vec::<(&str, SessionInputValue<'_>)>::new()).unwrap();
        outputs["y"].try_extract_tensor::<f32>().unwrap().1.to_vec()
    }

    fn noise(count: usize, seed: u32) -> impl Iterator<Item = u32> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        })
        .take(count)
    }

    fn bytes(name: &str, data_type: DataType, dims: &[usize], count: usize, seed: u32) -> TensorProto {
        TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(data_type as i32),
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            raw_data: Some(Bytes::from_iter(noise(count, seed).map(|value| value as u8))),
            ..TensorProto::default()
        }
    }

    fn scales(name: &str, dims: &[usize]) -> TensorProto {
        let values: Vec<f32> =
            noise(dims.iter().product(), 7).map(|value| value as f32 / 1e5 + 0.01).collect();
        float_tensor(name, &dims.iter().map(|&dim| dim as i64).collect::<Vec<_>>(), &values)
    }

    /// `[size, size]`, so that a product with it is the weight itself.
    fn identity(size: usize) -> TensorProto {
        let values: Vec<f32> =
            (0..size * size).map(|at| if at % (size + 1) == 0 { 1.0 } else { 0.0 }).collect();
        float_tensor("x", &[size as i64, size as i64], &values)
    }

    fn table(stored: &Stored, initializer: &[TensorProto]) -> Table {
        let graph = GraphProto { initializer: initializer.to_vec(), ..GraphProto::default() };
        stored.load(&GraphIndex::new(&graph), &Weights::new(Path::new("."))).unwrap()
    }

    /// Compares row by row with ONNX Runtime's values: those of `[rows, cols]`, or of a product, `[cols, rows]`.
    fn assert_same(what: &str, table: &Table, expected: &[f32], product: bool) {
        assert_eq!(expected.len(), table.rows * table.cols, "{what}");
        let mut row = vec![0.0; table.cols];
        for at in 0..table.rows {
            table.read_row(at, &mut row);
            for (col, &value) in row.iter().enumerate() {
                let expected = expected[if product { col * table.rows + at } else { at * table.cols + col }];
                assert!(
                    (value - expected).abs() <= 1e-6 * expected.abs(),
                    "{what}, [{at}, {col}]: {value}, {expected}"
                );
            }
        }
    }

    fn stored_blocks(bits: usize, cols: usize, block_size: usize, zero_points: bool) -> Stored {
        Stored::Blocks(Blocks {
            tensor: "w".to_owned(),
            scales: "s".to_owned(),
            zero_points: zero_points.then(|| "z".to_owned()),
            bits,
            block_size,
            rows: ROWS,
            cols,
        })
    }

    #[test]
    fn blocks_of_a_head_are_read_as_onnx_runtime_reads_them() {
        for (bits, cols, zero_points) in [
            (4_usize, 64_usize, false),
            (4, 64, true),
            (4, 48, true),
            (8, 64, false),
            (8, 64, true),
            (4, 96, true),
        ] {
            let (block_size, blocks) = (32_usize, cols.div_ceil(32));
            let block_bytes = block_size * bits / 8;
            let packed = ROWS * blocks * block_bytes;
            let zeros = blocks * bits;
            let mut initializer = vec![
                identity(cols),
                bytes("w", DataType::Uint8, &[ROWS, blocks, block_bytes], packed, 3),
                scales("s", &[ROWS, blocks]),
            ];
            let mut inputs = vec!["x", "w", "s"];
            if zero_points {
                let row = zeros.div_ceil(8);
                initializer.push(bytes("z", DataType::Uint8, &[ROWS, row], ROWS * row, 5));
                inputs.push("z");
            }
            let mut product = node("MatMulNBits", "n", [], ["y"])
                .with_int("K", cols as i64)
                .with_int("N", ROWS as i64)
                .with_int("bits", bits as i64)
                .with_int("block_size", block_size as i64);
            product.input = inputs.into_iter().map(str::to_owned).collect();
            let table = table(&stored_blocks(bits, cols, block_size, zero_points), &initializer);
            let what = format!("{bits} bits, {cols} columns, zero points {zero_points}");
            assert_same(&what, &table, &run(product, &initializer), true);
        }
    }

    #[test]
    fn blocks_of_an_embedding_are_read_as_onnx_runtime_reads_them() {
        let (cols, block_size) = (64_usize, 32_usize);
        for (data_type, bits, zero_points) in [
            (DataType::Uint8, 4, false),
            (DataType::Uint8, 4, true),
            (DataType::Uint8, 8, false),
            (DataType::Uint8, 8, true),
            (DataType::Uint4, 4, false),
            (DataType::Uint4, 4, true),
            (DataType::Int4, 4, false),
            (DataType::Int4, 4, true),
        ] {
            let packed = data_type == DataType::Uint8;
            let in_byte = if packed { 8 / bits } else { 1 };
            let blocks = cols / block_size;
            let mut initializer = vec![
                bytes("w", data_type, &[ROWS, cols / in_byte], ROWS * cols * bits / 8, 3),
                int64_tensor("x", &(0..ROWS as i64).collect::<Vec<_>>()),
                scales("s", &[ROWS, blocks]),
            ];
            let mut inputs = vec!["w", "x", "s"];
            if zero_points {
                initializer.push(bytes(
                    "z",
                    data_type,
                    &[ROWS, blocks / in_byte],
                    ROWS * blocks * bits / 8,
                    5,
                ));
                inputs.push("z");
            }
            let mut gather = node("GatherBlockQuantized", "n", [], ["y"])
                .with_int("gather_axis", 0)
                .with_int("quantize_axis", 1)
                .with_int("block_size", block_size as i64);
            if packed {
                gather = gather.with_int("bits", bits as i64);
            }
            gather.input = inputs.into_iter().map(str::to_owned).collect();
            let table = table(&stored_blocks(bits, cols, block_size, zero_points), &initializer);
            let what = format!("{data_type:?}, {bits} bits, zero points {zero_points}");
            assert_same(&what, &table, &run(gather, &initializer), false);
        }
    }

    #[test]
    fn four_bit_floats_are_read_as_onnx_runtime_reads_them() {
        let (cols, block_size) = (64_usize, 32_usize);
        for (kind, codebook) in [(0, Codebook::Fp4), (1, Codebook::Nf4)] {
            let count = ROWS * cols;
            let initializer = [
                identity(cols),
                bytes("w", DataType::Uint8, &[count / 2], count / 2, 3),
                scales("s", &[count / block_size]),
            ];
            let product = node("MatMulBnb4", "n", ["x", "w", "s"], ["y"])
                .with_int("K", cols as i64)
                .with_int("N", ROWS as i64)
                .with_int("block_size", block_size as i64)
                .with_int("quant_type", kind);
            let (tensor, absmax) = ("w".to_owned(), "s".to_owned());
            let table =
                table(&Stored::Bnb4 { tensor, absmax, block_size, codebook, rows: ROWS, cols }, &initializer);
            assert_same(&format!("{codebook:?}"), &table, &run(product, &initializer), true);
        }
    }

    #[test]
    fn integers_with_one_scale_or_one_for_each_row_are_dequantized() {
        let weight = |dims: [usize; 2]| bytes("w", DataType::Uint8, &dims, dims[0] * dims[1], 3);
        let stored = |transposed| Stored::Linear {
            tensor: "w".to_owned(),
            transposed,
            scale: "s".to_owned(),
            zero_point: Some("z".to_owned()),
        };
        let zero = TensorProto {
            raw_data: Some(Bytes::from_static(&[9])),
            ..bytes("z", DataType::Uint8, &[], 0, 0)
        };
        let values: Vec<f32> = noise(8, 3).map(|value| f32::from(value as u8) - 9.0).collect();
        let straight = table(&stored(false), &[weight([4, 2]), float_tensor("s", &[], &[0.5]), zero.clone()]);
        let mut row = [0.0; 2];
        straight.read_row(1, &mut row);
        assert_eq!(row, [values[2] * 0.5, values[3] * 0.5]);
        let turned =
            table(&stored(true), &[weight([2, 4]), float_tensor("s", &[4], &[1., 2., 3., 4.]), zero]);
        turned.read_row(1, &mut row);
        assert_eq!(row, [values[1] * 2.0, values[5] * 2.0]);
    }

    #[test]
    fn tables_are_compared_by_their_elements() {
        let floats = |values: &[f32], transposed| {
            let dims = if transposed { [2, 3] } else { [3, 2] };
            Table::float(
                Weights::new(Path::new(".")).matrix(&float_tensor("w", &dims, values)).unwrap(),
                transposed,
            )
        };
        let straight = floats(&[1., 2., 3., 4., 5., 6.], false);
        let turned = floats(&[1., 3., 5., 2., 4., 6.], true);
        let other = floats(&[1., 2., 3., 4., 5., 6.5], false);
        assert!(straight.equals(&turned) && !straight.equals(&other));
        assert_eq!(straight.relative_difference(&turned), 0.0);
        assert!((straight.relative_difference(&other) - 0.5 / 91_f64.sqrt()).abs() < 1e-12);
    }
}
