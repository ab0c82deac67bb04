//! The npm packages: the WebAssembly module and the Node addon, built, packed and tested in fresh projects.
//!
//! `wasm-bindgen` is built with the workspace, at the version in `Cargo.lock`. The other tools (esbuild, binaryen's `wasm-opt`,
//! TypeScript, bundlers) come from `js/package-lock.json`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    checks::WHOLE,
    inspector, onnxruntime, peers,
    process::{cargo, output, run, target_folder, tool},
};

const TARGET: &str = "wasm32-unknown-unknown";

/// The standard library is built with the module, for size: the prebuilt one adds a third to the module with sorting, panic
/// messages and their formatting. This part of Cargo is unstable, and so tied to the toolchain in `rust-toolchain.toml`.
const SMALL_STD: [&str; 2] = ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];

/// A panic is a defect, which the host sees as a trap: it needs neither message nor location. SHA-256 is for short texts here,
/// so its loop is not unrolled. These flags replace those in `.cargo/config.toml`, so they include SIMD.
const SMALL_CODE: &str = "-Ctarget-feature=+simd128 -Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=none \
                          --cfg sha2_backend=\"soft\" --cfg sha2_backend_soft=\"compact\"";

/// Builds and packs both packages into `target/npm/`, as they are published.
///
/// # Errors
/// When a tool is missing or fails.
pub(crate) fn pack(root: &Path) -> Result<()> {
    pack_module(root)?;
    run(cargo(root)
        .args(["build", "--locked", "--package", "avp-node", "--features", "zstd-native"])
        .args(["--profile", "dist"]))?;
    pack_addon(root, "dist")?;
    Ok(())
}

/// Builds and packs `avp-wasm`, and returns the tarball.
///
/// # Errors
/// When a tool is missing or fails.
pub(crate) fn pack_module(root: &Path) -> Result<PathBuf> {
    set_up(root)?;
    run(Command::new("rustup").args(["target", "add", TARGET]))?;
    run(Command::new("rustup").args(["component", "add", "rust-src"]))?;
    run(cargo(root)
        .args(["build", "--locked", "--package", "avp-wasm", "--profile", "wasm", "--target", TARGET])
        .args(SMALL_STD)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", SMALL_CODE))?;
    let module = target_folder(root).join(TARGET).join("wasm/avp_wasm.wasm");
    let generated = root.join("js/src/generated");
    run(tool(root, "bindgen")?.arg(&module).arg(&generated))?;
    let npm = npm_folder(root);
    run(node(root).arg("build.mjs").arg(generated.join("avp_bg.wasm")).arg(npm.join("avp-wasm")))?;
    tarball(&npm, "avp-wasm")
}

/// Packs `avp-node` and the package of this platform, with the addon in `target/BUILT`, and returns the tarballs.
fn pack_addon(root: &Path, built: &str) -> Result<[PathBuf; 2]> {
    set_up(root)?;
    let (prefix, suffix) = (env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let addon = target_folder(root).join(built).join(format!("{prefix}avp_node{suffix}"));
    let npm = npm_folder(root);
    let platform = output(node(root).arg("build-node.mjs").arg(&addon).arg(host()?).arg(&npm))?;
    Ok([tarball(&npm, "avp-node")?, tarball(&npm, &platform)?])
}

/// Packs a package's folder as npm publishes it.
fn tarball(npm: &Path, package: &str) -> Result<PathBuf> {
    let package = format!("./{package}");
    let name = output(npm_command().current_dir(npm).args(["pack", "--silent", &package]))?;
    let tarball = npm.join(name.lines().last().unwrap_or_default());
    eprintln!("{}", tarball.display());
    Ok(tarball)
}

/// The host target of this machine.
pub(crate) fn host() -> Result<String> {
    let about = output(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// The folder of the packages and tarballs.
pub(crate) fn npm_folder(root: &Path) -> PathBuf {
    root.join("target").join("npm")
}

/// Checks types and size, and tests the tarballs in projects of every kind.
///
/// # Errors
/// When a check fails.
pub(crate) fn test(root: &Path) -> Result<()> {
    let module = pack_module(root)?;
    // The addon, and the program that the example starts.
    run(cargo(root).args(["build", "--locked", "--lib", "--bin", "avp"]).args(WHOLE))?;
    let addon = pack_addon(root, "debug")?;
    let library = onnxruntime::set_up(root)?;
    run(node(root).arg("size.mjs").arg(root.join("target/npm/avp-wasm/dist/avp.wasm")))?;
    run(node(root).args(["node_modules/typescript/bin/tsc", "--project", "."]))?;
    run(node(root).arg("test/package.mjs").arg(&module))?;
    run(node(root)
        .arg("test/package-node.mjs")
        .args(addon)
        .envs(library.iter().map(|library| ("ORT_DYLIB_PATH", library))))?;
    test_example(root, &module, library.as_deref())
}

/// Tests `examples/js`, and its page if there is a browser.
fn test_example(root: &Path, module: &Path, library: Option<&Path>) -> Result<()> {
    let avp = target_folder(root).join("debug").join(format!("avp{}", env::consts::EXE_SUFFIX));
    run(node(root)
        .arg("test/example.mjs")
        .arg(module)
        .env("AVP", avp)
        .envs(library.map(|library| ("ORT_DYLIB_PATH", library)))
        .envs(inspector::chromium().map(|browser| ("CHROMIUM", browser))))
}

/// Times the packages beside a peer written by hand in JavaScript, and the Python packages.
///
/// # Errors
/// When a package cannot be built.
pub(crate) fn bench(root: &Path) -> Result<()> {
    pack(root)?;
    let npm = npm_folder(root);
    // Without an installation, the addon's package is found beside the main one.
    run(node(root)
        .args(["--expose-gc", "bench/bench.mjs"])
        .arg(&npm)
        .env("NODE_PATH", &npm)
        .envs(peers::set_up(root)?))
}

/// Installs the packages of the lock file, unless they are installed.
fn set_up(root: &Path) -> Result<()> {
    let js = root.join("js");
    let lock = js.join("package-lock.json");
    let locked = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    // npm's own record has another format, so a copy of the installed lock file marks the installation.
    let installed = js.join("node_modules/.installed-lock.json");
    if fs::read(&installed).is_ok_and(|installed| installed == locked) {
        return Ok(());
    }
    run(npm_command().current_dir(&js).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]))?;
    fs::write(&installed, locked).with_context(|| format!("cannot write {}", installed.display()))
}

/// Node in the folder `js`.
pub(crate) fn node(root: &Path) -> Command {
    let mut node = Command::new("node");
    node.current_dir(root.join("js"));
    node
}

pub(crate) fn npm_command() -> Command {
    // On Windows npm is a script, which needs its extension.
    Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
}
