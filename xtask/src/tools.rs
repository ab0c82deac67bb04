//! Cargo subcommands from crates.io, installed into `.cache/tools/`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::{cargo, run_aside};

/// A subcommand of cargo, by the name of its crate.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

pub(crate) const AUDITABLE: Tool = Tool { name: "cargo-auditable", version: "0.7.7" };
pub(crate) const CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9" };
pub(crate) const FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };
pub(crate) const HACK: Tool = Tool { name: "cargo-hack", version: "0.6.46" };

impl Tool {
    /// Installs the tool, unless this version is there already, and gives a `cargo` that finds it.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub(crate) fn set_up(&self, root: &Path) -> Result<Command> {
        let folder = root.join(".cache").join("tools").join(format!("{}-{}", self.name, self.version));
        let bin = folder.join("bin");
        if !bin.join(format!("{}{}", self.name, env::consts::EXE_SUFFIX)).is_file() {
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            run_aside(
                cargo(root)
                    .args(["install", "--quiet", "--locked", self.name, "--version", self.version, "--root"])
                    .arg(&folder),
            )
            .with_context(|| format!("cannot install {} {}", self.name, self.version))?;
        }
        let mut cargo = cargo(root);
        cargo.env("PATH", prepended(bin)?);
        Ok(cargo)
    }
}

/// `PATH` with `folder` before the others.
pub(crate) fn prepended(folder: PathBuf) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths([folder].into_iter().chain(env::split_paths(&path))).context("PATH cannot be extended")
}
