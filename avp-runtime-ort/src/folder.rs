//! The files of a model folder.

use std::{io, path::Path};

use serde::de::DeserializeOwned;

use crate::ModelError;

/// Reads a text file that the model needs.
///
/// # Errors
/// When it is missing or cannot be read; the path is named.
pub(crate) fn read_text(path: &Path) -> Result<String, ModelError> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ModelError::MissingFile { path: path.to_owned() },
        _ => ModelError::Unreadable { path: path.to_owned(), message: error.to_string() },
    })
}

/// Reads a JSON file that the model needs.
///
/// # Errors
/// As [`read_text`]; and when the JSON does not hold what `T` needs, with line and column.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    parse_json(path, &read_text(path)?)
}

/// Reads what `T` needs from the text of the file at `path`.
///
/// # Errors
/// When the JSON does not hold it, with line and column.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ModelError> {
    serde_json::from_str(text)
        .map_err(|error| ModelError::Json { path: path.to_owned(), message: error.to_string() })
}
