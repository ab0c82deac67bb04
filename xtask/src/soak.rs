//! `cargo xtask soak`: the transport under load for two minutes with each store; every context is verified.

use std::path::Path;

use anyhow::Result;

use crate::process::{cargo, run as run_command};

/// The least number of frames sent to each store.
const FRAMES: &str = "10000";

/// The least time, in seconds, for which clients send to each store.
const SECONDS: &str = "120";

/// Runs the soak test of `avp-transport` at full length; `cargo test` runs a short form.
///
/// # Errors
/// When a frame is lost or changed.
pub(crate) fn run(root: &Path) -> Result<()> {
    run_command(
        cargo(root)
            .args(["test", "--release", "--locked", "--package", "avp-transport", "--test", "it", "soak"])
            .args(["--", "--nocapture"])
            .envs([("AVP_SOAK_FRAMES", FRAMES), ("AVP_SOAK_SECONDS", SECONDS)]),
    )
}
