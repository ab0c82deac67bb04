//! The crates, packed in the order of their dependencies and built from their packages.

use std::path::Path;

use anyhow::Result;

use crate::process::{cargo, run};

pub(super) fn build(root: &Path) -> Result<()> {
    run(cargo(root).args(["publish", "--workspace", "--dry-run", "--locked", "--allow-dirty"]))
}
