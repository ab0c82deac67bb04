//! `cargo xtask soak`: the transport under load for two minutes with each store, and the program under attack for ten.

use std::path::Path;

use anyhow::Result;

use crate::{
    onnxruntime,
    process::{cargo, run as run_command},
};

/// The least number of frames sent to each store.
const FRAMES: &str = "10000";

/// The least time, in seconds, for which clients send to each store.
const SECONDS: &str = "120";

/// The time of the attacks, in seconds.
const ATTACK_SECONDS: &str = "600";

/// Runs the soak test of `avp-transport` and the attacks on `avp serve` at full length; `cargo test` runs short forms.
///
/// # Errors
/// When a frame is lost or changed, when honest clients fail beside hostile ones, or when the server exceeds its memory.
pub(crate) fn run(root: &Path) -> Result<()> {
    run_command(
        cargo(root)
            .args(["test", "--release", "--locked", "--package", "avp-transport", "--test", "it", "soak"])
            .args(["--", "--nocapture"])
            .envs([("AVP_SOAK_FRAMES", FRAMES), ("AVP_SOAK_SECONDS", SECONDS)]),
    )?;
    let mut attacks = cargo(root);
    attacks
        .args(["test", "--release", "--locked", "--package", "avp-cli", "--test", "cli", "attacks"])
        .args(["--", "--nocapture"])
        .env("AVP_ATTACK_SECONDS", ATTACK_SECONDS);
    if let Some(library) = onnxruntime::set_up(root)? {
        attacks.env("ORT_DYLIB_PATH", library);
    }
    run_command(&mut attacks)
}
