//! The user's Python, which downloads from PyPI and runs the Python peers.

use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

use crate::process::output;

/// The name of an installed interpreter that has pip.
///
/// # Errors
/// When there is none; the message says what to install.
pub(crate) fn with_pip() -> Result<&'static str> {
    let names = if cfg!(windows) { ["python", "py"] } else { ["python3", "python"] };
    let runs = |name: &&str| {
        output(Command::new(name).args(["-c", "import sys; assert sys.version_info >= (3, 10)"])).is_ok()
    };
    let name = names.into_iter().find(runs).ok_or_else(|| {
        anyhow!(
            "no Python 3.10 or newer on the PATH: install one (Debian: `apt-get install python3 python3-pip`)"
        )
    })?;
    output(Command::new(name).args(["-m", "pip", "--version"]))
        .with_context(|| format!("{name} has no pip: install it (Debian: `apt-get install python3-pip`)"))?;
    Ok(name)
}

/// `python -m pip SUBCOMMAND`, without prompts, and for wheels only.
pub(crate) fn pip(python: &str, subcommand: &str) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", subcommand, "--no-input", "--disable-pip-version-check", "--only-binary=:all:"]);
    pip
}
