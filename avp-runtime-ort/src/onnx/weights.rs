//! Reads the weights of a graph, internal or external, as float32 row by row.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use half::{bf16, f16};

use super::{
    TensorProto,
    external::{external_file, unreadable},
    tensor_proto::DataLocation,
    tensor_proto::DataType,
};
use crate::prepare::PrepareError;

/// Reads the weights of one model, with external data in `folder`.
pub(crate) struct Weights<'p> {
    folder: &'p Path,
}

/// A matrix `[rows, cols]` as stored, in row-major order, of float32, float16 or bfloat16.
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    element: Element,
    bytes: Bytes,
}

/// The elements of an initializer of any shape, as stored; two 4-bit elements per byte, low half first.
pub(crate) struct Elements {
    pub(crate) element: Element,
    pub(crate) count: usize,
    pub(crate) bytes: Bytes,
}

/// The element type of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    Bf16,
    U8,
    I8,
    U4,
    I4,
}

impl<'p> Weights<'p> {
    pub(crate) fn new(folder: &'p Path) -> Self {
        Self { folder }
    }

    /// The shape of a two-dimensional float initializer, `(rows, cols)`. Checks that the data fills it, so that the caller may
    /// allocate by it.
    ///
    /// # Errors
    /// When it is not a float matrix, or its data does not fill its shape.
    pub(crate) fn shape(&self, tensor: &TensorProto) -> Result<(usize, usize), PrepareError> {
        let layout = self.check(tensor)?;
        match layout.dims[..] {
            [rows, cols] if layout.element.is_float() => Ok((rows, cols)),
            [_, _] => Err(refuse(tensor, "expected float32, float16 or bfloat16 elements")),
            _ => Err(refuse(tensor, "expected two dimensions")),
        }
    }

    /// Checks that the data fills the shape of an initializer, so that its dimensions can be trusted.
    ///
    /// # Errors
    /// When it does not, or the element type is not supported.
    pub(crate) fn check_filled(&self, tensor: &TensorProto) -> Result<(), PrepareError> {
        self.check(tensor).map(|_| ())
    }

    /// Reads a two-dimensional float initializer.
    ///
    /// # Errors
    /// As [`shape`](Self::shape), and when its file cannot be read.
    pub(crate) fn matrix(&self, tensor: &TensorProto) -> Result<Matrix, PrepareError> {
        let (rows, cols) = self.shape(tensor)?;
        let Elements { element, bytes, .. } = self.elements(tensor)?;
        Ok(Matrix { rows, cols, element, bytes })
    }

    /// Reads an initializer of any shape.
    ///
    /// # Errors
    /// When its element type is not supported, its data does not fill its shape, or its file cannot be read.
    pub(crate) fn elements(&self, tensor: &TensorProto) -> Result<Elements, PrepareError> {
        let Layout { element, count, size, .. } = self.check(tensor)?;
        Ok(Elements { element, count, bytes: self.bytes(tensor, element, size)? })
    }

    fn check(&self, tensor: &TensorProto) -> Result<Layout, PrepareError> {
        let layout = Layout::of(tensor)?;
        let Layout { element, size, .. } = layout;
        let stored = match (tensor.data_location(), &tensor.raw_data, element) {
            (DataLocation::External, ..) => {
                let (path, offset) = self.place(tensor)?;
                let file =
                    std::fs::metadata(&path).map_err(|error| unreadable(tensor.name(), &path, &error))?;
                let available = usize::try_from(file.len().saturating_sub(offset)).unwrap_or(usize::MAX);
                available.min(size)
            }
            (_, Some(raw), _) if !raw.is_empty() => raw.len(),
            (_, _, Element::F32) => tensor.float_data.len().saturating_mul(4),
            (_, _, Element::F16 | Element::Bf16) => tensor.int32_data.len().saturating_mul(2),
            (_, _, Element::U8 | Element::I8 | Element::U4 | Element::I4) => tensor.int32_data.len(),
        };
        if stored == size { Ok(layout) } else { Err(refuse(tensor, "the data does not fill the shape")) }
    }

    fn bytes(&self, tensor: &TensorProto, element: Element, expected: usize) -> Result<Bytes, PrepareError> {
        if tensor.data_location() == DataLocation::External {
            return self.external(tensor, expected);
        }
        Ok(match (&tensor.raw_data, element) {
            (Some(raw), _) if !raw.is_empty() => raw.clone(),
            (_, Element::F32) => tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            // ONNX stores smaller elements in the low bits of `int32_data`.
            (_, Element::F16 | Element::Bf16) => {
                tensor.int32_data.iter().flat_map(|&value| (value as u16).to_le_bytes()).collect()
            }
            _ => tensor.int32_data.iter().map(|&value| value as u8).collect(),
        })
    }

    fn external(&self, tensor: &TensorProto, size: usize) -> Result<Bytes, PrepareError> {
        let (path, offset) = self.place(tensor)?;
        let mut bytes = vec![0; size];
        File::open(&path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(&mut bytes)
            })
            .map_err(|error| unreadable(tensor.name(), &path, &error))?;
        Ok(bytes.into())
    }

    /// The file and offset of a tensor's external data.
    fn place(&self, tensor: &TensorProto) -> Result<(PathBuf, u64), PrepareError> {
        let path = external_file(tensor, self.folder)?;
        let offset = tensor.external_data.iter().find(|entry| entry.key() == "offset");
        let offset = offset.map_or(Ok(0), |entry| entry.value().parse());
        Ok((path, offset.map_err(|_| refuse(tensor, "the offset of the external data is not a number"))?))
    }
}

/// The layout of a tensor according to its initializer; `size` is in bytes.
struct Layout {
    dims: Vec<usize>,
    element: Element,
    count: usize,
    size: usize,
}

impl Layout {
    fn of(tensor: &TensorProto) -> Result<Self, PrepareError> {
        let element = Element::of(tensor).ok_or_else(|| {
            refuse(tensor, "expected float32, float16, bfloat16, or 8-bit or 4-bit integer elements")
        })?;
        let dims: Option<Vec<usize>> =
            tensor.dims.iter().map(|&dim| usize::try_from(dim).ok().filter(|&dim| dim > 0)).collect();
        let dims = dims.ok_or_else(|| refuse(tensor, "expected positive dimensions"))?;
        let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim));
        let sizes = count.and_then(|count| Some((count, count.checked_mul(element.bits())?.div_ceil(8))));
        let (count, size) = sizes.ok_or_else(|| refuse(tensor, "the shape is too large for this machine"))?;
        Ok(Self { dims, element, count, size })
    }
}

pub(super) fn refuse(tensor: &TensorProto, reason: &'static str) -> PrepareError {
    PrepareError::Weight { name: tensor.name().to_owned(), reason }
}

impl Matrix {
    /// Row `row` as float32.
    ///
    /// # Panics
    /// When `row` is not below `rows`.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = f32> + '_ {
        let width = self.cols * self.element.size();
        self.element.decode(&self.bytes[row * width..(row + 1) * width])
    }

    /// Element `[row, col]` as float32.
    pub(crate) fn at(&self, row: usize, col: usize) -> f32 {
        let start = (row * self.cols + col) * self.element.size();
        self.element.read(&self.bytes[start..start + self.element.size()])
    }

    pub(crate) fn element(&self) -> Element {
        self.element
    }
}

impl Elements {
    /// Every element as float32; integers are not scaled.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        (0..self.count).map(|position| self.at(position)).collect()
    }

    /// Element `position` as float32.
    ///
    /// # Panics
    /// When `position` is not below `count`.
    pub(crate) fn at(&self, position: usize) -> f32 {
        match self.element {
            Element::U4 | Element::I4 => {
                let half = self.bytes[position / 2] >> (position % 2 * 4) & 0xf;
                let signed = self.element == Element::I4 && half > 7;
                f32::from(half) - if signed { 16.0 } else { 0.0 }
            }
            element => {
                let start = position * element.size();
                element.read(&self.bytes[start..start + element.size()])
            }
        }
    }
}

impl Element {
    /// The element type of an initializer; `None` if not supported.
    pub(crate) fn of(tensor: &TensorProto) -> Option<Self> {
        Some(match DataType::try_from(tensor.data_type()).ok()? {
            DataType::Float => Self::F32,
            DataType::Float16 => Self::F16,
            DataType::Bfloat16 => Self::Bf16,
            DataType::Uint8 => Self::U8,
            DataType::Int8 => Self::I8,
            DataType::Uint4 => Self::U4,
            DataType::Int4 => Self::I4,
            _ => return None,
        })
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::U8 | Self::I8 => 8,
            Self::U4 | Self::I4 => 4,
        }
    }

    /// Bytes of one element, rounded up.
    fn size(self) -> usize {
        self.bits().div_ceil(8)
    }

    fn decode(self, bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
        bytes.chunks_exact(self.size()).map(move |element| self.read(element))
    }

    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (Self::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            (Self::U8, &[a]) => a.into(),
            (Self::I8, &[a]) => (a as i8).into(),
            // Callers pass slices of exactly `size()` bytes, and unpack 4-bit elements themselves.
            _ => f32::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{external::tests::external, float_tensor};

    #[test]
    fn rows_are_read_from_inside_the_file() {
        let weights = Weights::new(Path::new("."));
        let matrix = weights.matrix(&float_tensor("w", &[2, 3], &[1., 2., 3., 4., 5., 6.])).unwrap();
        assert_eq!(matrix.row(1).collect::<Vec<_>>(), [4., 5., 6.]);
        assert_eq!(matrix.at(0, 2), 3.);
    }

    #[test]
    fn small_integers_are_read_unscaled() {
        let tensor = |data_type: DataType, dims: &[i64], bytes: &'static [u8]| TensorProto {
            dims: dims.to_vec(),
            data_type: Some(data_type as i32),
            raw_data: Some(Bytes::from_static(bytes)),
            ..TensorProto::default()
        };
        let weights = Weights::new(Path::new("."));
        let read = |tensor: &TensorProto| weights.elements(tensor).unwrap().to_f32();
        assert_eq!(read(&tensor(DataType::Uint8, &[2], &[1, 255])), [1., 255.]);
        assert_eq!(read(&tensor(DataType::Int8, &[2], &[1, 255])), [1., -1.]);
        assert_eq!(read(&tensor(DataType::Uint4, &[3], &[0x21, 0x0f])), [1., 2., 15.]);
        assert_eq!(read(&tensor(DataType::Int4, &[1, 3], &[0x81, 0x0f])), [1., -8., -1.]);
        assert_eq!(read(&tensor(DataType::Uint8, &[], &[7])), [7.]);
        assert!(weights.elements(&tensor(DataType::Uint4, &[3], &[0x21])).is_err());
        assert!(weights.elements(&tensor(DataType::Double, &[1], &[0; 8])).is_err());
    }

    #[test]
    fn rows_are_read_from_beside_the_file_at_the_offset() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![9; 8];
        bytes.extend([1f32, 2., 3., 4.].iter().flat_map(|value| value.to_le_bytes()));
        std::fs::write(folder.path().join("w.data"), bytes).unwrap();
        let weights = Weights::new(folder.path());
        let matrix = weights.matrix(&external(&[("location", "w.data"), ("offset", "8")])).unwrap();
        assert_eq!(matrix.row(0).collect::<Vec<_>>(), [1., 2.]);
        assert!(weights.matrix(&external(&[("location", "w.data"), ("offset", "12")])).is_err());
        assert!(
            weights.matrix(&external(&[("location", "w.data"), ("offset", "18446744073709551615")])).is_err()
        );
        assert!(weights.matrix(&external(&[("location", "none")])).is_err());
    }

    #[test]
    fn data_that_does_not_fill_its_shape_is_refused() {
        let weights = Weights::new(Path::new("."));
        for dims in
            [vec![2, 2], vec![i64::MAX, i64::MAX], vec![-1, 3], vec![3], vec![0, 1 << 40], vec![1 << 40, 0]]
        {
            let tensor = TensorProto { dims, ..float_tensor("w", &[1, 3], &[1., 2., 3.]) };
            assert!(weights.matrix(&tensor).is_err() && weights.shape(&tensor).is_err());
        }
    }
}
