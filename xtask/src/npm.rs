//! The npm package: the WebAssembly module, built, packed, and tried in fresh projects.
//!
//! The tools that it takes (esbuild, binaryen's `wasm-opt`, TypeScript, bundlers) come from `js/package-lock.json`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::{cargo, output, run};

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds and packs `avp-wasm` into `target/npm/`, and gives the tarball.
///
/// # Errors
/// When a tool is missing or fails.
pub(crate) fn pack(root: &Path) -> Result<PathBuf> {
    set_up(root)?;
    run(Command::new("rustup").args(["target", "add", TARGET]))?;
    run(cargo(root).args([
        "build",
        "--locked",
        "--package",
        "avp-wasm",
        "--profile",
        "wasm",
        "--target",
        TARGET,
    ]))?;
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

/// Builds the inspector's page into `target/inspector/`, and gives that folder.
///
/// # Errors
/// When the package or the page cannot be built.
pub(crate) fn inspector(root: &Path) -> Result<PathBuf> {
    pack(root)?;
    let folder = root.join("target").join("inspector");
    run(node(root).arg("inspector/build.mjs").arg(root.join("target/npm/avp-wasm")).arg(&folder))?;
    Ok(folder)
}

/// Serves the inspector's page to this machine until it is stopped; `arguments` may name a port.
///
/// # Errors
/// When the page cannot be built or the port is taken.
pub(crate) fn serve_inspector(root: &Path, arguments: &[OsString]) -> Result<()> {
    let folder = inspector(root)?;
    run(node(root).arg("inspector/serve.mjs").arg(folder).args(arguments))
}

/// Checks the inspector's types and uses its page in a browser; gives the reason where there is none.
///
/// # Errors
/// When anything is not as it should be.
pub(crate) fn test_inspector(root: &Path) -> Result<Option<String>> {
    let folder = inspector(root)?;
    run(node(root).args(["node_modules/typescript/bin/tsc", "--project", "inspector"]))?;
    let Some(browser) = chromium() else {
        return Ok(Some(
            "no Chromium found; install one (`apt-get install chromium`) or set CHROMIUM".into(),
        ));
    };
    run(node(root)
        .args([
            "--test",
            "--test-reporter=spec",
            "--test-timeout=300000",
            "inspector/test/inspector.test.mjs",
        ])
        .env("INSPECTOR", folder)
        .env("CHROMIUM", browser))?;
    Ok(None)
}

/// The browser that `CHROMIUM` names, or the first one on the path.
fn chromium() -> Option<PathBuf> {
    let named = env::var_os("CHROMIUM").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = || {
        env::split_paths(&path)
            .flat_map(|folder| names.map(|name| folder.join(name)))
            .find(|file| file.is_file())
    };
    named.or_else(found)
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
