//! Finding and checking the ONNX Runtime library.
//!
//! Places are searched in this order. A library named by 1 or 2 is used or refused; there is no fallback.
//!
//! 1. The path from the caller.
//! 2. The environment variable `ORT_DYLIB_PATH`.
//! 3. The cache of `cargo xtask setup`: `AVP_ONNXRUNTIME_CACHE`, or `.cache/onnxruntime` beside the program's `target`
//!    folder.
//! 4. The `onnxruntime` package of the Python on the `PATH`.
//! 5. The program's own folder and the folders of the system's loader.
//!
//! A candidate is usable if it loads, exports `OrtGetApiBase`, and its release supports the API level of this crate
//! ([`ort::MINOR_VERSION`]). Loading a library runs its initializers, so only trusted folders are searched.

mod cuda;
mod elf;
mod places;

use std::{
    ffi::{CStr, c_char},
    fmt,
    path::{Path, PathBuf},
};

pub(crate) use cuda::check as check_cuda;
use libloading::Library;

/// A usable ONNX Runtime library.
///
/// ```no_run
/// let library = avp_runtime_ort::OrtLibrary::find(None)?;
/// println!("ONNX Runtime {} from {}", library.version(), library.source());
/// # Ok::<(), avp_runtime_ort::LibraryError>(())
/// ```
#[derive(Debug)]
pub struct OrtLibrary {
    path: PathBuf,
    version: String,
    source: LibrarySource,
    /// Keeps the library mapped, so that loading it again is cheap and does not repeat its initializers.
    _mapped: Library,
}

/// The place in which a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LibrarySource {
    /// The path from the caller.
    Explicit,
    /// `ORT_DYLIB_PATH`.
    Environment,
    /// The cache of `cargo xtask setup`.
    Cache,
    /// Python's `onnxruntime` package.
    Python,
    /// The program's folder or a folder of the system's loader.
    System,
}

/// There is no usable ONNX Runtime library. Each message is one sentence and ends with a solution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// No usable candidate was found.
    #[error("no ONNX Runtime library found, having looked at {}: {MEND}", looked_at.join(", "))]
    NotFound {
        /// Each searched place, with the fault of a candidate there.
        looked_at: Vec<String>,
    },
    /// The path does not exist or cannot be read.
    #[error("cannot read the ONNX Runtime library {} ({message}): {MEND}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The message of the operating system.
        message: String,
    },
    /// The path is a folder, a pipe or a device.
    #[error("the ONNX Runtime library {} is {got}, expected a file: {MEND}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// The kind of file.
        got: &'static str,
    },
    /// The file is truncated; loading it would end the process.
    #[error("the ONNX Runtime library {} is cut off at {got} of {expected} bytes: {MEND}", path.display())]
    CutOff {
        /// The file.
        path: PathBuf,
        /// Its length according to its headers, in bytes.
        expected: u64,
        /// Its length in bytes.
        got: u64,
    },
    /// The system's loader refuses the file.
    #[error("{} does not load as a library ({message}): {MEND}", path.display())]
    NotLoadable {
        /// The file.
        path: PathBuf,
        /// The loader's message.
        message: String,
    },
    /// The library is not ONNX Runtime.
    #[error("{} is a library but not ONNX Runtime (it exports no OrtGetApiBase): {MEND}", path.display())]
    NotOnnxRuntime {
        /// The file.
        path: PathBuf,
    },
    /// The release of ONNX Runtime is too old.
    #[error("{} is ONNX Runtime {got}, expected 1.{expected} or newer: {MEND}", path.display())]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its release.
        got: String,
        /// The oldest usable minor release.
        expected: u32,
    },
    /// ONNX Runtime does not start.
    #[error("ONNX Runtime from {} does not start ({message}): {MEND}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// ONNX Runtime's message.
        message: String,
    },
}

/// What to do about any of the errors.
const MEND: &str =
    "run `pip install onnxruntime`, or set ORT_DYLIB_PATH to the library file of a current release";

impl OrtLibrary {
    /// The oldest usable release is 1.`OLDEST_MINOR`.
    pub const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

    /// Finds a usable library: `explicit` if given, else in the order of the module's list.
    ///
    /// # Errors
    /// When the named library is not usable, or no usable one is found.
    pub fn find(explicit: Option<&Path>) -> Result<Self, LibraryError> {
        let environment = std::env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty());
        match (explicit, environment) {
            (Some(path), _) => Self::open(path, LibrarySource::Explicit),
            (None, Some(path)) => Self::open(Path::new(&path), LibrarySource::Environment),
            (None, None) => Self::first_usable(&places::all()),
        }
    }

    /// The library file, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The release, such as `1.31.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The place in which it was found.
    pub fn source(&self) -> LibrarySource {
        self.source
    }

    fn first_usable(places: &[places::Place]) -> Result<Self, LibraryError> {
        let mut looked_at = Vec::new();
        for place in places {
            let candidates = place.candidates();
            if candidates.is_empty() {
                looked_at.push(place.to_string());
            }
            for candidate in candidates {
                match Self::open(&candidate, place.source()) {
                    Ok(library) => return Ok(library),
                    Err(error) => looked_at.push(format!("{} ({})", candidate.display(), error.in_brief())),
                }
            }
        }
        Err(LibraryError::NotFound { looked_at })
    }

    fn open(path: &Path, source: LibrarySource) -> Result<Self, LibraryError> {
        let unreadable = |error: std::io::Error| LibraryError::Unreadable {
            path: path.to_owned(),
            message: error.to_string(),
        };
        // Absolute, since the loader takes a bare name for one to be searched.
        let path = std::path::absolute(path).map_err(unreadable)?;
        let file_type = std::fs::metadata(&path).map_err(unreadable)?.file_type();
        if !file_type.is_file() {
            // Opening a pipe would wait for its other end.
            let got = if file_type.is_dir() { "a folder" } else { "a pipe or device" };
            return Err(LibraryError::NotAFile { path, got });
        }
        if let Some((expected, got)) = elf::cut_off(&path).map_err(unreadable)? {
            return Err(LibraryError::CutOff { path, expected, got });
        }
        // SAFETY: loading runs the file's initializers. The path is one that the user named or where the system keeps
        // libraries, which is what gives a program the right to run a library's code; the file is whole, so that
        // mapping it cannot fault.
        let library = unsafe { Library::new(&path) }.map_err(|error| LibraryError::NotLoadable {
            message: loader_words(&error, &path),
            path: path.clone(),
        })?;
        let Some(version) = version(&library) else {
            return Err(LibraryError::NotOnnxRuntime { path });
        };
        if !serves_api(&version) {
            return Err(LibraryError::TooOld { path, got: version, expected: ort::MINOR_VERSION });
        }
        Ok(Self { path, version, source, _mapped: library })
    }
}

impl LibraryError {
    /// The finding without path and mend, for a list of candidates.
    fn in_brief(&self) -> String {
        match self {
            Self::NotFound { .. } => "not found".to_owned(),
            Self::Unreadable { message, .. }
            | Self::NotLoadable { message, .. }
            | Self::Unusable { message, .. } => message.clone(),
            Self::NotAFile { got, .. } => (*got).to_owned(),
            Self::CutOff { .. } => "cut off".to_owned(),
            Self::NotOnnxRuntime { .. } => "not ONNX Runtime".to_owned(),
            Self::TooOld { got, .. } => format!("release {got}"),
        }
    }
}

impl fmt::Display for LibrarySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "the path given",
            Self::Environment => "ORT_DYLIB_PATH",
            Self::Cache => "the cache of `cargo xtask setup`",
            Self::Python => "Python's onnxruntime package",
            Self::System => "the system",
        })
    }
}

/// The result of `OrtGetApiBase()->GetVersionString()`, or `None` if the library has no such function.
fn version(library: &Library) -> Option<String> {
    // SAFETY: every release of ONNX Runtime declares `const OrtApiBase* OrtGetApiBase(void)`, the type used here; a
    // library that exports another function of that name is ONNX Runtime in name already.
    let get_base = unsafe {
        library.get::<unsafe extern "system" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase\0")
    };
    let get_base = get_base.ok()?;
    // SAFETY: the function takes nothing and gives a pointer to a static of the library, or null. `OrtApiBase` has had
    // the same two members since release 1.0, and `library` keeps it mapped while the reference is used.
    let base = unsafe { get_base().as_ref() }?;
    // SAFETY: the member takes nothing and gives a pointer to a static, null-terminated string.
    let version: *const c_char = unsafe { (base.GetVersionString)() };
    if version.is_null() {
        return None;
    }
    // SAFETY: not null, null-terminated as the header promises, and static in `library`, which is still mapped.
    let version = unsafe { CStr::from_ptr(version) };
    Some(version.to_string_lossy().into_owned())
}

/// Whether a release serves [`ort::MINOR_VERSION`]: releases 1.N serve every level up to N.
fn serves_api(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(1), Some(minor)) => minor >= ort::MINOR_VERSION,
        _ => false,
    }
}

/// The loader's message on one line and without the path, which the error names itself.
fn loader_words(error: &libloading::Error, path: &Path) -> String {
    use std::error::Error;
    let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let words = words.replace(&format!("{}: ", path.display()), "");
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
