//! The one ONNX Runtime environment of a process.

use std::sync::{Mutex, OnceLock, PoisonError};

use ort::{environment::Environment, logging::LogLevel};

use crate::{LibraryError, OrtLibrary};

/// ONNX Runtime, loaded and ready to hold models; cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
}

/// ONNX Runtime allows one environment a process, and unloading its library on exit is not safe: it is never dropped.
static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

impl Runtime {
    /// Loads `library` into the process. A later call gives the environment that the first one made.
    ///
    /// # Errors
    /// When the library cannot be loaded, or ONNX Runtime does not start.
    pub fn load(library: &OrtLibrary) -> Result<Self, LibraryError> {
        static LOADING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(environment) = ENVIRONMENT.get() {
            return Ok(Self { environment: environment.clone() });
        }
        let refuse = |message: String| LibraryError::Unusable { path: library.path().to_owned(), message };
        let environment = ort::init_from(library.path())
            .map_err(|error| refuse(error.to_string()))?
            .with_name("avp")
            .with_telemetry(false)
            .build()
            .map_err(|error| refuse(error.message().to_owned()))?;
        environment.set_log_level(LogLevel::Error);
        Ok(Self { environment: ENVIRONMENT.get_or_init(|| environment).clone() })
    }

    /// Finds the library as [`OrtLibrary::find`] does and loads it.
    ///
    /// # Errors
    /// As [`OrtLibrary::find`] and [`load`](Self::load).
    pub fn find() -> Result<Self, LibraryError> {
        Self::load(&OrtLibrary::find(None)?)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}
