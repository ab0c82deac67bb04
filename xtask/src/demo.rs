//! `cargo xtask demo`: from a fresh clone to two agents that hand over a KV-cache.

use std::{ffi::OsString, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    onnxruntime,
    process::{cargo, run_aside},
};

/// The program with the commands that the demo starts: no server, no TLS, no tokenizer tables of other models.
pub(crate) const PROGRAM: [&str; 3] = ["--package", "avp-cli", "--no-default-features"];

/// Fetches ONNX Runtime, builds `avp` and runs `avp demo` with `arguments`; returns its exit code.
///
/// Standard output has only what `avp demo` writes there.
///
/// # Errors
/// When the library cannot be fetched or the program does not build.
pub(crate) fn run(root: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let library = onnxruntime::set_up(root)?;
    eprintln!("Building `avp` with what the demo needs (minutes the first time, seconds later)");
    run_aside(cargo(root).args(["build", "--locked"]).args(PROGRAM))?;
    let mut demo = cargo(root);
    demo.args(["run", "--quiet", "--locked"]).args(PROGRAM).args(["--", "demo"]);
    // The folder in the repository is the model that the program embeds, under a name that is easier to read.
    if !arguments.iter().any(|argument| argument.to_string_lossy().starts_with("--model")) {
        demo.args(["--model", "models/facts"]);
    }
    demo.args(arguments).envs(library.map(|library| ("ORT_DYLIB_PATH", library)));
    let status = demo.status().context("cannot start cargo")?;
    // `None`: a signal ended it.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
