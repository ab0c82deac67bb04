//! The ONNX Runtime environment of the process.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

use crate::{LibraryError, OrtLibrary};

/// A loaded ONNX Runtime; cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: &'static Path,
}

/// ONNX Runtime allows one environment for each process, and unloading its library is not safe: it is never dropped.
static ENVIRONMENT: OnceLock<(Environment, PathBuf)> = OnceLock::new();

impl Runtime {
    /// Loads `library` into the process. Later calls return the environment of the first one.
    ///
    /// # Errors
    /// When the library cannot be loaded, or ONNX Runtime does not start.
    pub fn load(library: &OrtLibrary) -> Result<Self, LibraryError> {
        static LOADING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = ENVIRONMENT.get() {
            return Ok(Self::of(loaded));
        }
        let refuse = |message: String| LibraryError::Unusable { path: library.path().to_owned(), message };
        let environment = ort::init_from(library.path())
            .map_err(|error| refuse(error.to_string()))?
            .with_name("avp")
            .with_telemetry(false)
            .build()
            .map_err(|error| refuse(error.message().to_owned()))?;
        environment.set_log_level(LogLevel::Error);
        Ok(Self::of(ENVIRONMENT.get_or_init(|| (environment, library.path().to_owned()))))
    }

    fn of((environment, library): &'static (Environment, PathBuf)) -> Self {
        Self { environment: environment.clone(), library }
    }

    /// Finds the library with [`OrtLibrary::find`] and loads it.
    ///
    /// # Errors
    /// As [`OrtLibrary::find`] and [`load`](Self::load).
    pub fn find() -> Result<Self, LibraryError> {
        Self::load(&OrtLibrary::find(None)?)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Checks for the libraries of CUDA sessions.
    ///
    /// # Errors
    /// The missing part, and how to install it.
    pub(crate) fn check_cuda(&self) -> Result<(), String> {
        crate::library::check_cuda(self.library)
    }
}
