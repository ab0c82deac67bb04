//! The ONNX Runtime library of this process, loaded with the first model or context.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use avp_runtime_ort::{LibraryError, OrtLibrary, Runtime};

use super::{fault::runtime_failure, options::Library};
use crate::failure::Failure;

static FOUND: Mutex<Option<Runtime>> = Mutex::new(None);

/// The library that is already loaded, or the one that the options name, or the one that the Rust runtime finds, or the first
/// usable one of an installed `onnxruntime-node`.
pub(super) fn runtime(options: &Library) -> Result<Runtime, Failure> {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*found {
        return Ok(runtime.clone());
    }
    let runtime = Runtime::load(&find(options.library.as_deref(), &options.packaged)?)
        .map_err(|error| runtime_failure("library", error))?;
    Ok(found.insert(runtime).clone())
}

fn find(named: Option<&Path>, packaged: &[PathBuf]) -> Result<OrtLibrary, Failure> {
    let missing = match OrtLibrary::find(named) {
        Ok(library) => return Ok(library),
        Err(error @ LibraryError::NotFound { .. }) => error,
        Err(error) => return Err(runtime_failure("library", error)),
    };
    let mut tried = Vec::new();
    for path in packaged {
        match OrtLibrary::find(Some(path)) {
            Ok(library) => return Ok(library),
            Err(error) => tried.push(error.to_string()),
        }
    }
    let package = match &tried[..] {
        [] => "the package onnxruntime-node is not installed".to_owned(),
        tried => format!("the package onnxruntime-node has no usable library: {}", tried.join("; ")),
    };
    Err(runtime_failure(
        "library_not_found",
        format!("{missing}, or `npm install onnxruntime-node` ({package})"),
    ))
}
