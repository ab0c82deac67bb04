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
    load_provider(library)
}

fn load_provider(library: &Path) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_library_without_its_cuda_part_is_told_by_the_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let message = load_provider(&folder.path().join("libonnxruntime.so")).unwrap_err();
        assert!(message.contains("without CUDA") && message.contains(PROVIDER), "{message}");
    }

    #[test]
    fn a_cuda_part_that_does_not_load_is_told_by_the_loaders_words() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(PROVIDER), "no library").unwrap();
        let message = load_provider(&folder.path().join("libonnxruntime.so")).unwrap_err();
        assert!(message.contains("does not load"), "{message}");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn a_cuda_part_that_is_cut_off_is_not_even_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        fs::write(folder.path().join(PROVIDER), &own[..4096]).unwrap();
        let message = load_provider(&folder.path().join("libonnxruntime.so")).unwrap_err();
        assert!(message.contains("cut off at"), "{message}");
    }
}
