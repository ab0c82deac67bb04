//! `cargo xtask soak`: the transport under load for two minutes with each store, every context compared with what was sent.

use std::path::Path;

use anyhow::Result;

use crate::process::{cargo, run as run_command};

/// Frames that are sent to each store at least.
const FRAMES: &str = "10000";

/// Seconds that clients go on sending to each store at least.
const SECONDS: &str = "120";

/// Runs the soak of `avp-transport`'s tests, whose short form is among the tests, at its full length.
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
