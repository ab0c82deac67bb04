//! `cargo xtask demo`: from a fresh clone to two agents that hand over a KV-cache.

use std::{ffi::OsString, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    onnxruntime,
    process::{cargo, run_aside},
};

/// Sets up, builds the `avp` program and runs `avp demo` with `arguments`; gives its exit code.
///
/// Standard output has only what `avp demo` writes there.
///
/// # Errors
/// When the library cannot be fetched or the program does not build.
pub(crate) fn run(root: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let library = onnxruntime::set_up(root)?;
    run_aside(cargo(root).args(["build", "--release", "--package", "avp-cli"]))?;
    let mut demo = cargo(root);
    demo.args(["run", "--quiet", "--release", "--package", "avp-cli", "--", "demo"]).args(arguments);
    demo.envs(library.map(|library| ("ORT_DYLIB_PATH", library)));
    let status = demo.status().context("cannot start cargo")?;
    // `None`: a signal ended it.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
