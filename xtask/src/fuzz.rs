//! Every fuzz target for ten seconds.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{process::run, tools::FUZZ};

const FOLDERS: [&str; 3] = ["fuzz", "aacp/fuzz", "avp-transport/fuzz"];

/// Builds each target of each folder with libFuzzer and runs it.
///
/// # Errors
/// When cargo-fuzz cannot be installed, a target does not build, or an input fails.
pub(crate) fn smoke(root: &Path) -> Result<Option<String>> {
    for folder in FOLDERS {
        for target in targets(&root.join(folder))? {
            run(FUZZ
                .set_up(root)?
                .args(["fuzz", "run", "--fuzz-dir", folder, &target, "--", "-max_total_time=10"])
                // Coverage instrumentation and sanitizers are unstable.
                .env("RUSTC_BOOTSTRAP", "1"))?;
        }
    }
    Ok(None)
}

/// The names of the targets in a folder, in order.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
