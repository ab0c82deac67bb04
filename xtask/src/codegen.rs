//! `cargo xtask codegen`: the schema compiler is a program of its own, since only this command needs it.

use std::{ffi::OsString, path::Path};

use anyhow::Result;

use crate::process::{run, tool};

/// Builds the schema compiler and runs it with `arguments`: none, or `--check`.
///
/// # Errors
/// When a schema does not compile, or a checked file is out of date.
pub(crate) fn run_with(root: &Path, arguments: &[OsString]) -> Result<()> {
    run(tool(root, "codegen")?.args(arguments))
}
