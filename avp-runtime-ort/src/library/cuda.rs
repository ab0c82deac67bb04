//! Whether a CUDA session has the libraries it needs, asked before ONNX Runtime is.
//!
//! ONNX Runtime loads its CUDA part at the first session that wants it, from the folder it was itself loaded from. Where
//! that fails its own words are of provider bridges; the loader's name the file that is missing.

use std::path::Path;

use libloading::Library;

use super::loader_words;

/// ONNX Runtime's CUDA part.
const PROVIDER: &str =
    if cfg!(windows) { "onnxruntime_providers_cuda.dll" } else { "libonnxruntime_providers_cuda.so" };

const MEND: &str = "run `pip install onnxruntime-gpu` and see that CUDA and cuDNN are where the loader looks";

/// Loads the CUDA part of the ONNX Runtime at `library`, and with it what it needs.
///
/// # Errors
/// What is missing, and the mend.
pub(crate) fn check(library: &Path) -> Result<(), String> {
    if !cfg!(feature = "cuda") {
        return Err("this program was built without the `cuda` feature of avp-runtime-ort".to_owned());
    }
    let provider = library.with_file_name(PROVIDER);
    if !provider.is_file() {
        return Err(format!(
            "{} is a build of ONNX Runtime without CUDA (no {PROVIDER} beside it): {MEND}",
            library.display()
        ));
    }
    if let Ok(Some((expected, got))) = super::elf::cut_off(&provider) {
        return Err(format!("{} is cut off at {got} of {expected} bytes: {MEND}", provider.display()));
    }
    // SAFETY: loading runs the initializers of a library that lies beside the ONNX Runtime in use, and that ONNX Runtime
    // itself is about to load from there; the file is whole, so that mapping it cannot fault.
    let loaded = unsafe { Library::new(&provider) }.map_err(|error| {
        format!("{} does not load ({}): {MEND}", provider.display(), loader_words(&error, &provider))
    })?;
    // ONNX Runtime loads it next: unloading it in between would end what its initializers began.
    std::mem::forget(loaded);
    Ok(())
}
