//! Checking the libraries of CUDA sessions before ONNX Runtime loads them.
//!
//! ONNX Runtime loads its CUDA provider at the first CUDA session, from its own folder. If that fails, its message describes
//! provider bridges; the errors of this module name the missing file.
//!
//! The provider itself is not loaded for this check, because its initializers need ONNX Runtime's functions. Its dependencies
//! are read from the file and loaded.

use std::path::Path;

use libloading::Library;

use super::{elf, loader_words};

/// ONNX Runtime's CUDA provider.
const PROVIDER: &str =
    if cfg!(windows) { "onnxruntime_providers_cuda.dll" } else { "libonnxruntime_providers_cuda.so" };

const MEND: &str = "run `pip install onnxruntime-gpu` and see that CUDA and cuDNN are where the loader looks";

/// Checks that the ONNX Runtime at `library` has its CUDA provider, and loads the provider's dependencies.
///
/// # Errors
/// The missing part, and how to install it.
pub(crate) fn check(library: &Path) -> Result<(), String> {
    if !cfg!(feature = "cuda") {
        return Err("this program was built without the `cuda` feature of avp-runtime-ort".to_owned());
    }
    check_libraries(library)
}

fn check_libraries(library: &Path) -> Result<(), String> {
    let provider = library.with_file_name(PROVIDER);
    if !provider.is_file() {
        let library = library.display();
        return Err(format!("{library} is ONNX Runtime without CUDA (no {PROVIDER} beside it): {MEND}"));
    }
    let unreadable = |error| format!("cannot read {} ({error}): {MEND}", provider.display());
    if let Some((expected, got)) = elf::cut_off(&provider).map_err(unreadable)? {
        return Err(format!("{} is cut off at {got} of {expected} bytes: {MEND}", provider.display()));
    }
    // Only ELF libraries are read; on other systems, ONNX Runtime reports missing libraries.
    for name in elf::needed(&provider).map_err(unreadable)? {
        // SAFETY: loading runs the library's initializers. It is one that ONNX Runtime's CUDA part names as needed, found
        // where the system's loader looks: loading that part, which is next, loads it too.
        let needed = unsafe { Library::new(&name) }.map_err(|error| {
            let words = loader_words(&error, Path::new(&name));
            format!("{name}, which {PROVIDER} needs, does not load ({words}): {MEND}")
        })?;
        // Stays loaded, so that ONNX Runtime uses the same library.
        std::mem::forget(needed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_library_without_its_cuda_part_is_told_by_the_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let message = check_libraries(&folder.path().join("libonnxruntime.so")).unwrap_err();
        assert!(message.contains("without CUDA") && message.contains(PROVIDER), "{message}");
    }

    /// A small library of this system, which needs `libc.so.6`, as the CUDA part, changed by `change`.
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_env = "gnu"))]
    fn check_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut paths = maps.split_whitespace().filter(|word| word.ends_with("/libgcc_s.so.1"));
        let mut bytes = fs::read(paths.next().unwrap()).unwrap();
        change(&mut bytes);
        fs::write(folder.path().join(PROVIDER), bytes).unwrap();
        check_libraries(&folder.path().join("libonnxruntime.so"))
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_env = "gnu"))]
    fn a_cuda_part_whose_needs_are_met_passes_and_one_whose_are_not_is_told_by_the_missing_file() {
        assert_eq!(check_changed(|_| {}), Ok(()));
        let message = check_changed(|library| {
            let name = library.windows(9).position(|bytes| bytes == b"libc.so.6").unwrap();
            library[name..name + 9].copy_from_slice(b"libno.so.");
        });
        let message = message.unwrap_err();
        assert!(message.starts_with("libno.so."), "{message}");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_env = "gnu"))]
    fn a_cuda_part_that_is_cut_off_is_told_by_its_size() {
        let message = check_changed(|library| library.truncate(4096)).unwrap_err();
        assert!(message.contains("cut off at 4096"), "{message}");
    }
}
