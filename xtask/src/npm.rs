//! The npm package: the WebAssembly module, built, packed, and tried in fresh projects.
//!
//! The tools that it takes (esbuild, binaryen's `wasm-opt`, TypeScript, bundlers) come from `js/package-lock.json`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::{cargo, output, run};

const TARGET: &str = "wasm32-unknown-unknown";

/// The standard library is built with the module, for size: as it is shipped, its sorting, its panic messages and what
/// formats them are a quarter of the module. This part of Cargo is unstable, and so is tied to the toolchain that
/// `rust-toolchain.toml` names.
const SMALL_STD: [&str; 2] = ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];

/// A panic is a defect of ours, which the host sees as a trap in any case; it needs no message, no place, and no text of
/// values for `{:?}`. SHA-256 is for short texts here, so its loop stays rolled.
const SMALL_CODE: &str = "-Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=none \
                          --cfg sha2_backend=\"soft\" --cfg sha2_backend_soft=\"compact\"";

/// Builds and packs `avp-wasm` into `target/npm/`, and gives the tarball.
///
/// # Errors
/// When a tool is missing or fails.
pub(crate) fn pack(root: &Path) -> Result<PathBuf> {
    set_up(root)?;
    run(Command::new("rustup").args(["target", "add", TARGET]))?;
    run(Command::new("rustup").args(["component", "add", "rust-src"]))?;
    run(cargo(root)
        .args(["build", "--locked", "--package", "avp-wasm", "--profile", "wasm", "--target", TARGET])
        .args(SMALL_STD)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", SMALL_CODE))?;
    let module = target_folder(root).join(TARGET).join("wasm/avp_wasm.wasm");
    let npm = root.join("target").join("npm");
    let package = npm.join("avp-wasm");
    run(node(root).arg("build.mjs").arg(&module).arg(&package))?;
    let name = output(npm_command().current_dir(&npm).args(["pack", "--silent", "./avp-wasm"]))?;
    let tarball = npm.join(name.lines().last().unwrap_or_default());
    eprintln!("{}", tarball.display());
    Ok(tarball)
}

/// Checks types and size, and uses the tarball as its consumers would.
///
/// # Errors
/// When anything is not as it should be.
pub(crate) fn test(root: &Path) -> Result<()> {
    let tarball = pack(root)?;
    run(node(root).arg("size.mjs").arg(root.join("target/npm/avp-wasm/dist/avp.wasm")))?;
    run(node(root).args(["node_modules/typescript/bin/tsc", "--project", "."]))?;
    run(node(root).arg("test/package.mjs").arg(tarball))
}

/// Times the package beside a peer written by hand in JavaScript.
///
/// # Errors
/// When the package cannot be built.
pub(crate) fn bench(root: &Path) -> Result<()> {
    pack(root)?;
    run(node(root).args(["--expose-gc", "bench/bench.mjs"]).arg(root.join("target/npm/avp-wasm")))
}

/// Installs what the lock file names, unless that is done.
fn set_up(root: &Path) -> Result<()> {
    let js = root.join("js");
    let lock = js.join("package-lock.json");
    let locked = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    // npm's own record differs in form, so the lock file that was installed is kept beside it.
    let installed = js.join("node_modules/.installed-lock.json");
    if fs::read(&installed).is_ok_and(|installed| installed == locked) {
        return Ok(());
    }
    run(npm_command().current_dir(&js).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]))?;
    fs::write(&installed, locked).with_context(|| format!("cannot write {}", installed.display()))
}

fn node(root: &Path) -> Command {
    let mut node = Command::new("node");
    node.current_dir(root.join("js"));
    node
}

fn npm_command() -> Command {
    // On Windows npm is a script, which is not found by its bare name.
    Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

fn target_folder(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}
