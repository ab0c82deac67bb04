//! The inspector: its page, built, served and tested in a browser.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    npm::{node, npm_folder, pack_module},
    process::run,
};

/// Serves the page on the loopback interface until interrupted; `arguments` may name a port.
///
/// # Errors
/// When the page cannot be built or the port is taken.
pub(crate) fn serve(root: &Path, arguments: &[OsString]) -> Result<()> {
    let folder = build(root)?;
    run(node(root).arg("inspector/serve.mjs").arg(folder).args(arguments))
}

/// Checks the page's types and tests it in a browser. Returns the reason if there is no browser.
///
/// # Errors
/// When a check fails.
pub(crate) fn test(root: &Path) -> Result<Option<String>> {
    let folder = build(root)?;
    run(node(root).args(["node_modules/typescript/bin/tsc", "--project", "inspector"]))?;
    let Some(browser) = chromium().or_else(install_chromium) else {
        return Ok(Some("no Chromium found, and Debian's package cannot be installed; set CHROMIUM".into()));
    };
    // One browser at a time: several in parallel take as long.
    run(node(root)
        .args(["--test", "--test-reporter=spec", "--test-timeout=300000", "--test-concurrency=1"])
        .args(test_files(&root.join("js/inspector/test"))?)
        .env("INSPECTOR", folder)
        .env("CHROMIUM", browser)
        // A relative path is relative to the repository's root.
        .envs(env::var_os("SCREENSHOTS").map(|folder| ("SCREENSHOTS", root.join(folder)))))?;
    Ok(None)
}

/// The test files in a folder.
fn test_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        if file.to_string_lossy().ends_with(".test.mjs") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Builds the page into `target/inspector/`, and returns that folder.
fn build(root: &Path) -> Result<PathBuf> {
    pack_module(root)?;
    let folder = root.join("target").join("inspector");
    run(node(root).arg("inspector/build.mjs").arg(npm_folder(root).join("avp-wasm")).arg(&folder))?;
    Ok(folder)
}

/// The browser that `CHROMIUM` names, or the first one on the path.
pub(crate) fn chromium() -> Option<PathBuf> {
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

/// Installs Debian's package, if possible.
fn install_chromium() -> Option<PathBuf> {
    eprintln!("no Chromium found: installing Debian's package");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    apt(&["update", "--quiet=2"]).ok()?;
    apt(&["install", "--quiet=2", "--yes", "--no-install-recommends", "chromium"]).ok()?;
    chromium()
}
