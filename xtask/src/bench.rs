//! `cargo xtask bench [runtime|http]`: the tables of `docs/BENCHMARKS.md`, measured on this machine.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    onnxruntime, peers,
    process::{cargo, run as run_command, run_aside},
};

/// Installs the Python peers and runs the benchmark of frames and packets.
///
/// # Errors
/// When a peer cannot be installed, or the benchmark fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    let peers = peers::set_up(root)?;
    run_command(cargo(root).args(["run", "--release", "--package", "avp-bench"]).envs(peers))
}

/// Installs the Python peers and runs the benchmark of frames over HTTP in release: all its tables, or those named.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_http(root: &Path, tables: &[OsString]) -> Result<()> {
    let peers = peers::set_up(root)?;
    run_command(
        cargo(root)
            .args(["run", "--release", "--package", "avp-bench", "--", "http"])
            .args(tables)
            .envs(peers),
    )
}

/// The model shape of the tables.
const SHAPE: &str = "qwen2.5-0.5b";

/// A Python environment for the scripts in `tools/shapes`; a variable can name an existing interpreter.
struct Scripts {
    requirements: &'static str,
    module: &'static str,
    variable: &'static str,
}

const FULL: Scripts =
    Scripts { requirements: "requirements.txt", module: "optimum", variable: "AVP_BENCH_PYTHON" };
const INT4: Scripts = Scripts {
    requirements: "requirements-int4.txt",
    module: "onnxruntime_genai",
    variable: "AVP_BENCH_INT4_PYTHON",
};

/// Makes a model of random weights at a real shape, and runs the runtime beside the Python peer and ONNX Runtime alone.
///
/// `shape` is a name in `tools/shapes/make.py`.
///
/// # Errors
/// When the tools cannot be installed, the model cannot be made, or the benchmark fails.
pub(crate) fn run_runtime(root: &Path, shape: Option<&str>) -> Result<()> {
    let shape = shape.unwrap_or(SHAPE);
    let models = root.join(".cache").join("shapes").join(shape);
    eprintln!(
        "This installs PyTorch, Transformers and Optimum from PyPI (some GB) and makes models in {} (5 GB at {SHAPE}); \
         it takes about 10 GB of memory and, once all is there, some minutes.",
        models.display()
    );
    let library = onnxruntime::set_up(root)?;
    let tools = root.join("tools").join("shapes");
    let python = FULL.python(root)?;
    run_aside(Command::new(&python).arg(tools.join("make.py")).arg(&models).args(["--shape", shape]))?;
    run_aside(Command::new(INT4.python(root)?).arg(tools.join("int4.py")).arg(&models))?;
    run_command(
        cargo(root)
            .args(["run", "--release", "--package", "avp-bench", "--", "runtime"])
            .envs(library.map(|library| ("ORT_DYLIB_PATH", library)))
            .env("AVP_BENCH_MODELS", models)
            .env("AVP_BENCH_PYTHON", python),
    )
}

impl Scripts {
    fn python(&self, root: &Path) -> Result<PathBuf> {
        match std::env::var_os(self.variable).filter(|path| !path.is_empty()) {
            Some(named) => Ok(named.into()),
            None => peers::set_up_scripts(root, &format!("tools/shapes/{}", self.requirements), self.module),
        }
    }
}
