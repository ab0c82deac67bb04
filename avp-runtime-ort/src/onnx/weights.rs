//! The weights a graph carries, inside the file or beside it, read as float32 one row at a time.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use half::{bf16, f16};

use super::{TensorProto, tensor_proto::DataLocation, tensor_proto::DataType};
use crate::prepare::PrepareError;

/// Reads weights of one model, whose external data files lie in `folder`.
pub(crate) struct Weights<'p> {
    folder: &'p Path,
}

/// A matrix as it lies in the file, `[rows, cols]`, row-major, float32, float16 or bfloat16.
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    element: Element,
    bytes: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    F32,
    F16,
    Bf16,
}

impl<'p> Weights<'p> {
    pub(crate) fn new(folder: &'p Path) -> Self {
        Self { folder }
    }

    /// The shape of a two-dimensional float initializer, `(rows, cols)`, once it is clear that data fills it: nothing may be
    /// allocated by a number that stands in the file alone.
    ///
    /// # Errors
    /// When it is not a float matrix, or its data does not fill its shape.
    pub(crate) fn shape(&self, tensor: &TensorProto) -> Result<(usize, usize), PrepareError> {
        let Layout { rows, cols, element, size } = Layout::of(tensor)?;
        let stored = match (tensor.data_location(), &tensor.raw_data, element) {
            (DataLocation::External, ..) => {
                let (path, offset) = self.place(tensor)?;
                let file = std::fs::metadata(&path).map_err(|error| unreadable(tensor, &path, &error))?;
                let available = usize::try_from(file.len().saturating_sub(offset)).unwrap_or(usize::MAX);
                available.min(size)
            }
            (_, Some(raw), _) if !raw.is_empty() => raw.len(),
            (_, _, Element::F32) => tensor.float_data.len().saturating_mul(element.size()),
            (_, _, Element::F16 | Element::Bf16) => tensor.int32_data.len().saturating_mul(element.size()),
        };
        if stored == size {
            Ok((rows, cols))
        } else {
            Err(refuse(tensor, "the data does not fill the shape"))
        }
    }

    /// Reads a two-dimensional float initializer.
    ///
    /// # Errors
    /// As [`shape`](Self::shape), and when its file cannot be read.
    pub(crate) fn matrix(&self, tensor: &TensorProto) -> Result<Matrix, PrepareError> {
        self.shape(tensor)?;
        let Layout { rows, cols, element, size } = Layout::of(tensor)?;
        let bytes = self.bytes(tensor, element, size)?;
        Ok(Matrix { rows, cols, element, bytes })
    }

    fn bytes(&self, tensor: &TensorProto, element: Element, expected: usize) -> Result<Bytes, PrepareError> {
        if tensor.data_location() == DataLocation::External {
            return self.external(tensor, expected);
        }
        match (&tensor.raw_data, element) {
            (Some(raw), _) if !raw.is_empty() => Ok(raw.clone()),
            (_, Element::F32) => Ok(tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect()),
            // ONNX keeps half-precision elements in the low 16 bits of `int32_data`.
            (_, Element::F16 | Element::Bf16) => {
                Ok(tensor.int32_data.iter().flat_map(|&value| (value as u16).to_le_bytes()).collect())
            }
        }
    }

    fn external(&self, tensor: &TensorProto, size: usize) -> Result<Bytes, PrepareError> {
        let (path, offset) = self.place(tensor)?;
        let mut bytes = vec![0; size];
        File::open(&path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(&mut bytes)
            })
            .map_err(|error| unreadable(tensor, &path, &error))?;
        Ok(bytes.into())
    }

    /// The file and the byte in it where a tensor's external data begins.
    fn place(&self, tensor: &TensorProto) -> Result<(PathBuf, u64), PrepareError> {
        let path = self.folder.join(external_location(tensor)?);
        let offset = tensor.external_data.iter().find(|entry| entry.key() == "offset");
        let offset = offset.map_or(Ok(0), |entry| entry.value().parse());
        Ok((path, offset.map_err(|_| refuse(tensor, "the external data's offset is no number"))?))
    }
}

/// A matrix as its initializer describes it; `size` is in bytes.
struct Layout {
    rows: usize,
    cols: usize,
    element: Element,
    size: usize,
}

impl Layout {
    fn of(tensor: &TensorProto) -> Result<Self, PrepareError> {
        let [rows, cols] = tensor.dims[..] else { return Err(refuse(tensor, "expected two dimensions")) };
        let element = match DataType::try_from(tensor.data_type()) {
            Ok(DataType::Float) => Element::F32,
            Ok(DataType::Float16) => Element::F16,
            Ok(DataType::Bfloat16) => Element::Bf16,
            _ => return Err(refuse(tensor, "expected float32, float16 or bfloat16 elements")),
        };
        let dim = |dim: i64| usize::try_from(dim).ok().filter(|&dim| dim > 0);
        let sizes = dim(rows).zip(dim(cols));
        let (rows, cols) = sizes.ok_or_else(|| refuse(tensor, "expected positive dimensions"))?;
        let size = rows.checked_mul(cols).and_then(|count| count.checked_mul(element.size()));
        let size = size.ok_or_else(|| refuse(tensor, "the shape is too large for this machine"))?;
        Ok(Self { rows, cols, element, size })
    }
}

fn refuse(tensor: &TensorProto, reason: &'static str) -> PrepareError {
    PrepareError::Weight { name: tensor.name().to_owned(), reason }
}

fn unreadable(tensor: &TensorProto, path: &Path, error: &std::io::Error) -> PrepareError {
    PrepareError::ExternalData {
        name: tensor.name().to_owned(),
        path: path.to_owned(),
        message: error.to_string(),
    }
}

/// Where a tensor's external data lies, relative to the model's folder.
///
/// # Errors
/// When the path is missing, absolute, or leaves the folder: a model file must not read what it does not own.
pub(crate) fn external_location(tensor: &TensorProto) -> Result<PathBuf, PrepareError> {
    let location = tensor.external_data.iter().find(|entry| entry.key() == "location");
    let path = PathBuf::from(location.map(|entry| entry.value()).unwrap_or_default());
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if path.as_os_str().is_empty() || !inside {
        return Err(PrepareError::ExternalPath { name: tensor.name().to_owned(), path });
    }
    Ok(path)
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

    /// Whether both matrices hold the same bytes in the same shape.
    pub(crate) fn same_as(&self, other: &Matrix) -> bool {
        (self.rows, self.cols, self.element) == (other.rows, other.cols, other.element)
            && self.bytes == other.bytes
    }

    /// Whether `other` is this matrix transposed, element for element.
    pub(crate) fn is_transpose_of(&self, other: &Matrix) -> bool {
        (self.rows, self.cols) == (other.cols, other.rows)
            && (0..self.rows).all(|row| {
                self.row(row).enumerate().all(|(col, value)| value.to_bits() == other.at(col, row).to_bits())
            })
    }
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    fn decode(self, bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
        bytes.chunks_exact(self.size()).map(move |element| self.read(element))
    }

    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (Self::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            // Callers cut slices of exactly `size()` bytes.
            _ => f32::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{float_tensor, proto::StringStringEntryProto};

    fn external(entries: &[(&str, &str)]) -> TensorProto {
        TensorProto {
            name: Some("w".into()),
            dims: vec![2, 2],
            data_type: Some(DataType::Float as i32),
            data_location: Some(DataLocation::External as i32),
            external_data: entries
                .iter()
                .map(|&(key, value)| StringStringEntryProto {
                    key: Some(key.into()),
                    value: Some(value.into()),
                })
                .collect(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn rows_are_read_from_inside_the_file() {
        let weights = Weights::new(Path::new("."));
        let matrix = weights.matrix(&float_tensor("w", &[2, 3], &[1., 2., 3., 4., 5., 6.])).unwrap();
        assert_eq!(matrix.row(1).collect::<Vec<_>>(), [4., 5., 6.]);
        let transposed = weights.matrix(&float_tensor("t", &[3, 2], &[1., 4., 2., 5., 3., 6.])).unwrap();
        assert!(matrix.is_transpose_of(&transposed) && !matrix.same_as(&transposed));
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
    fn external_paths_stay_inside_the_folder() {
        for path in ["../w", "/etc/passwd", "a/../../w", ""] {
            let refused = external_location(&external(&[("location", path)]));
            assert!(matches!(refused, Err(PrepareError::ExternalPath { .. })), "{path}");
        }
        assert!(external_location(&external(&[("location", "./sub/w")])).is_ok());
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
