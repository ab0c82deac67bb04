//! The files of a model folder.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::de::DeserializeOwned;

use crate::ModelError;

/// The variant of a model in a folder with several graphs.
///
/// ```
/// use avp_runtime_ort::Dtype;
///
/// assert_eq!("q4f16".parse(), Ok(Dtype::Q4F16));
/// assert_eq!(Dtype::Q4F16.file_name(), "model_q4f16.onnx");
/// ```
///
/// The names are those of Transformers.js and of onnx-community's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// `model.onnx`
    Fp32,
    /// `model_fp16.onnx`
    Fp16,
    /// `model_q4.onnx`: 4-bit weights in blocks, the rest float32
    Q4,
    /// `model_q4f16.onnx`: 4-bit weights in blocks, the rest float16
    Q4F16,
    /// `model_int8.onnx`
    Int8,
    /// `model_uint8.onnx`
    Uint8,
    /// `model_bnb4.onnx`: the 4-bit floats of bitsandbytes
    Bnb4,
    /// `model_quantized.onnx`: 8 bits; also called `q8`
    Quantized,
}

/// The name of an unknown [`Dtype`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype {name:?}: expected fp32, fp16, q4, q4f16, int8, uint8, bnb4 or quantized")]
pub struct UnknownDtype {
    name: String,
}

impl Dtype {
    const ALL: [(Self, &str); 8] = [
        (Self::Fp32, "fp32"),
        (Self::Fp16, "fp16"),
        (Self::Q4, "q4"),
        (Self::Q4F16, "q4f16"),
        (Self::Int8, "int8"),
        (Self::Uint8, "uint8"),
        (Self::Bnb4, "bnb4"),
        (Self::Quantized, "quantized"),
    ];

    /// The file name of this variant.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Self::Fp32 => "model.onnx".to_owned(),
            other => format!("model_{other}.onnx"),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(dtype, _)| dtype == self).map_or("", |(_, name)| name);
        formatter.write_str(name)
    }
}

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, UnknownDtype> {
        let found =
            Self::ALL.iter().find(|(_, known)| *known == if name == "q8" { "quantized" } else { name });
        found.map(|&(dtype, _)| dtype).ok_or_else(|| UnknownDtype { name: name.to_owned() })
    }
}

/// The graph of a model folder, in the folder itself or in its `onnx` subfolder; `model.onnx` by default.
///
/// # Errors
/// When it does not exist. The error lists the existing graphs.
pub(crate) fn graph(folder: &Path, dtype: Option<Dtype>) -> Result<PathBuf, ModelError> {
    let wanted = dtype.unwrap_or(Dtype::Fp32).file_name();
    let places = [folder.to_owned(), folder.join("onnx")];
    if let Some(path) = places.iter().map(|place| place.join(&wanted)).find(|path| path.is_file()) {
        return Ok(path);
    }
    let mut there: Vec<String> = places
        .iter()
        .filter_map(|place| place.read_dir().ok())
        .flatten()
        .filter_map(|file| file.ok()?.path().strip_prefix(folder).ok()?.to_str().map(str::to_owned))
        .filter(|name| name.ends_with(".onnx"))
        .collect();
    there.sort();
    if there.is_empty() {
        return Err(ModelError::MissingFile { path: folder.join(wanted) });
    }
    Err(ModelError::NoSuchGraph { wanted, there })
}

/// Reads a text file of the model.
///
/// # Errors
/// When it is missing or cannot be read. The error has the path.
pub(crate) fn read_text(path: &Path) -> Result<String, ModelError> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ModelError::MissingFile { path: path.to_owned() },
        _ => ModelError::Unreadable { path: path.to_owned(), message: error.to_string() },
    })
}

/// Reads a JSON file of the model.
///
/// # Errors
/// As [`read_text`], and when the JSON is not a valid `T`, with line and column.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    parse_json(path, &read_text(path)?)
}

/// Parses the text of the file at `path`.
///
/// # Errors
/// When the JSON is not a valid `T`, with line and column.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ModelError> {
    serde_json::from_str(text)
        .map_err(|error| ModelError::Json { path: path.to_owned(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_found_in_the_folder_or_its_onnx_subfolder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(graph(folder.path(), None), Err(ModelError::MissingFile { .. })));
        std::fs::create_dir(folder.path().join("onnx")).unwrap();
        std::fs::write(folder.path().join("onnx/model_q4.onnx"), b"").unwrap();
        assert_eq!(graph(folder.path(), Some(Dtype::Q4)), Ok(folder.path().join("onnx/model_q4.onnx")));
        let error = graph(folder.path(), None).unwrap_err();
        let there = vec![Path::new("onnx").join("model_q4.onnx").to_str().unwrap().to_owned()];
        assert_eq!(error, ModelError::NoSuchGraph { wanted: "model.onnx".into(), there });
        std::fs::write(folder.path().join("model.onnx"), b"").unwrap();
        assert_eq!(graph(folder.path(), None), Ok(folder.path().join("model.onnx")));
    }

    #[test]
    fn every_dtype_parses_its_own_name() {
        for (dtype, name) in Dtype::ALL {
            assert_eq!(name.parse(), Ok(dtype));
            assert_eq!(dtype.to_string(), name);
        }
        assert_eq!("q8".parse(), Ok(Dtype::Quantized));
    }
}
