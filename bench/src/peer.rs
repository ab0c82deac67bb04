//! Times of the Python packages at the same work.

use std::{collections::HashMap, ffi::OsStr, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};

/// The times of one release of `avp`.
#[derive(Deserialize)]
pub(crate) struct Peer {
    pub(crate) version: String,
    /// By payload size in bytes, then by kind of work: median seconds.
    seconds: HashMap<String, HashMap<String, f64>>,
}

/// Interpreters that `cargo xtask bench` installs and names.
const VARIABLES: [&str; 2] = ["AVP_PEER_0_2_1_PYTHON", "AVP_PEER_0_6_2_PYTHON"];

/// Times every peer at `sizes`.
///
/// # Errors
/// When an interpreter is not named, or the script fails.
pub(crate) fn all(sizes: &[usize]) -> Result<Vec<Peer>> {
    VARIABLES.iter().map(|variable| run(variable, "peer.py", sizes.iter().map(usize::to_string))).collect()
}

impl Peer {
    pub(crate) fn seconds(&self, size: usize, work: &str) -> Result<f64> {
        let seconds = self.seconds.get(&size.to_string()).and_then(|times| times.get(work));
        seconds.copied().with_context(|| format!("avp {} gave no time for {work} at {size}", self.version))
    }
}

/// Runs one of the scripts beside this crate under the interpreter that `variable` names, and reads the JSON it prints.
///
/// # Errors
/// When no interpreter is named, or the script fails.
pub(crate) fn run<T: DeserializeOwned>(
    variable: &str,
    script: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<T> {
    let python = std::env::var_os(variable)
        .with_context(|| format!("{variable} names no interpreter; run this as `cargo xtask bench`"))?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(python).arg(path).args(arguments).output()?;
    if !output.status.success() {
        bail!("{script} under {variable}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
