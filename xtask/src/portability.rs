//! The cores on targets unlike this machine, and the workspace with dependencies unlike those of `Cargo.lock`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    process::{cargo, output, run},
    tools::HACK,
};

/// 32 bits, with a file system for the test vectors.
const WASM_TARGET: &str = "wasm32-wasip1";

/// 64 bits, big-endian.
const BIG_ENDIAN_TARGET: &str = "s390x-unknown-linux-gnu";

/// The cores' tests that start no process and measure no allocation.
const TESTS: [&str; 2] = ["--lib", "--test=conformance"];

const FEATURES: &str = "--features=aacp/workflows,avp-core/serde,avp-core/std,avp-core/zstd";

const CORES: [&str; 2] = ["--package=aacp", "--package=avp-core"];

/// Runs the cores' tests on [`WASM_TARGET`], in Node.
///
/// # Errors
/// When the target cannot be installed or a test fails.
pub(crate) fn wasm32(root: &Path) -> Result<Option<String>> {
    run(Command::new("rustup").args(["target", "add", WASM_TARGET]))?;
    let runner = format!("node --no-warnings {}", root.join("xtask/wasi.mjs").display());
    run(cargo(root)
        .args(["test", "--locked", "--target", WASM_TARGET, FEATURES])
        .args(CORES)
        .args(TESTS)
        .env("CARGO_TARGET_WASM32_WASIP1_RUNNER", runner))?;
    Ok(None)
}

/// Runs the cores' unit tests under Miri, on this machine's target.
///
/// # Errors
/// When a test fails or has undefined behaviour.
pub(crate) fn miri(root: &Path) -> Result<Option<String>> {
    run_miri(root, &["--lib"])
}

/// Runs the cores' tests on [`BIG_ENDIAN_TARGET`], which Miri interprets.
///
/// # Errors
/// As [`miri`].
pub(crate) fn big_endian(root: &Path) -> Result<Option<String>> {
    run_miri(root, &["--lib", "--test=conformance", "--target", BIG_ENDIAN_TARGET])
}

/// Miri comes with nightly toolchains alone.
fn run_miri(root: &Path, arguments: &[&str]) -> Result<Option<String>> {
    let add = ["component", "add", "miri", "rust-src", "--toolchain", "nightly"];
    if let Err(error) = output(Command::new("rustup").args(add)) {
        return Ok(Some(format!("no nightly toolchain with Miri: {error:#}")));
    }
    run(Command::new("rustup")
        .current_dir(root)
        .args(["run", "nightly", "cargo", "miri", "test", "--locked", FEATURES])
        .args(CORES)
        .args(arguments)
        // Tests read vectors and write temporary files.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        // criterion has C code, which Miri never runs: this machine's compiler will do.
        .env("CC_s390x_unknown_linux_gnu", "cc")
        .env("CFLAGS_s390x_unknown_linux_gnu", "-O0")
        .env("CRATE_CC_NO_DEFAULTS", "1")
        .env("PROPTEST_CASES", "4")
        // The pinned toolchain's, which `cargo xtask` passes on.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN"))?;
    Ok(None)
}

/// Checks the workspace with the oldest direct dependencies that its manifests allow.
///
/// # Errors
/// When it does not build with them.
pub(crate) fn minimal_versions(root: &Path) -> Result<Option<String>> {
    let folder = root.join("target").join("minimal-versions");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lockfile = folder.join("Cargo.lock");
    // Resolved anew each time: the manifests may have changed.
    fs::remove_file(&lockfile)
        .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    run(cargo(root)
        .args(["check", "--workspace", "--lib", "--bins"])
        .args(["-Zdirect-minimal-versions", "-Zlockfile-path", "--config"])
        // TOML's literal strings take a Windows path as it is.
        .arg(format!("resolver.lockfile-path='{}'", lockfile.display()))
        .arg("--target-dir")
        .arg(&folder)
        // Both flags are unstable.
        .env("RUSTC_BOOTSTRAP", "1"))?;
    Ok(None)
}

/// Checks the libraries and the program without features, with each one, and with each pair.
///
/// # Errors
/// When cargo-hack cannot be installed or a pair does not build.
pub(crate) fn powerset(root: &Path) -> Result<Option<String>> {
    run(HACK
        .set_up(root)?
        .args(["hack", "check", "--locked", "--feature-powerset", "--depth", "2"])
        .args(CORES)
        .args(
            ["avp-runtime-ort", "avp-rosetta", "avp-transport", "avp-cli"]
                .map(|name| format!("--package={name}")),
        ))?;
    Ok(None)
}
