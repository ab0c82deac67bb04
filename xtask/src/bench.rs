//! `cargo xtask bench`: the tables of `docs/BENCHMARKS.md`, measured on this machine.

use std::path::Path;

use anyhow::Result;

use crate::{
    peers,
    process::{cargo, run as run_command},
};

/// Installs the Python peers and runs the side-by-side benchmark in release.
///
/// # Errors
/// When a peer cannot be installed, or the benchmark fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    let peers = peers::set_up(root)?;
    run_command(cargo(root).args(["run", "--release", "--package", "avp-bench"]).envs(peers))
}
