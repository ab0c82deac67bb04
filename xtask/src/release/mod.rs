//! `cargo xtask release --dry-run`: what a release publishes, built, packed and started from an empty folder.
//!
//! `.github/workflows/release.yml` publishes. Its jobs run the same parts, so what they publish is what was tried.

mod archive;
mod container;
mod npm;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    process::{cargo, output, run as run_command, target_folder},
    tools::AUDITABLE,
};

/// What can be built, and how.
type Part = (&'static str, fn(&Path) -> Result<()>);

const PARTS: [Part; 4] =
    [("archive", archive::build), ("container", container::build), ("npm", npm::build), ("crates", crates)];

/// Builds and tries the named parts, or all of them. Nothing is published.
///
/// # Errors
/// Without `--dry-run`, for an unknown part, or when a part cannot be built or does not start.
pub(crate) fn run(root: &Path, arguments: &[OsString]) -> Result<()> {
    let parts = PARTS.map(|(name, _)| name);
    let Some(("--dry-run", names)) =
        arguments.split_first().and_then(|(flag, names)| Some((flag.to_str()?, names)))
    else {
        bail!(
            "CI publishes a release when its tag is pushed: `git tag v{version} && git push origin v{version}`; \
             `cargo xtask release --dry-run [{parts}]...` builds and tries it here",
            version = version(root)?,
            parts = parts.join("|"),
        );
    };
    if let Some(unknown) = names.iter().find(|name| !parts.iter().any(|part| **name == **part)) {
        bail!(
            "unknown part `{}` of a release; expected one of {}",
            unknown.to_string_lossy(),
            parts.join(", ")
        );
    }
    fs::create_dir_all(artifacts(root)).context("cannot create target/artifacts")?;
    for (name, build) in
        PARTS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|chosen| chosen == name))
    {
        eprintln!("\n=== {name}");
        build(root).with_context(|| format!("part `{name}` of the release"))?;
    }
    println!("\nbuilt and started; the files are in {}", artifacts(root).display());
    Ok(())
}

/// Packs the crates in the order of their dependencies, and builds each from its package.
fn crates(root: &Path) -> Result<()> {
    run_command(cargo(root).args(["publish", "--workspace", "--dry-run", "--locked", "--allow-dirty"]))
}

/// Where everything that is attached to a release lies.
fn artifacts(root: &Path) -> PathBuf {
    root.join("target").join("artifacts")
}

/// The workspace's version.
fn version(root: &Path) -> Result<String> {
    let id = output(cargo(root).args(["pkgid", "--package", "avp-cli"]))?;
    let version = id.rsplit(['#', '@']).next().context("cargo pkgid names no version")?;
    Ok(version.to_owned())
}

/// Builds `avp` as it is released, with the list of its dependencies inside for `cargo audit bin`, and gives its path.
fn release_build(root: &Path) -> Result<PathBuf> {
    let mut cargo = AUDITABLE.set_up(root)?;
    run_command(cargo.args(["auditable", "build", "--locked", "--profile", "dist", "--package", "avp-cli"]))?;
    Ok(target_folder(root).join("dist").join(format!("avp{}", env::consts::EXE_SUFFIX)))
}

/// An empty folder in which an artefact is tried.
fn empty_folder(root: &Path, name: &str) -> Result<PathBuf> {
    let folder = artifacts(root).join(".trial").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Runs `avp --version` and `avp inspect` in `folder`, which gets a frame that Python wrote.
///
/// `command` starts the program; it sees no variables but `PATH`.
fn try_program(root: &Path, folder: &Path, command: impl Fn() -> Command) -> Result<()> {
    let avp = |arguments: &[&str]| {
        let mut command = command();
        command.current_dir(folder).env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
        output(command.args(arguments))
    };
    let (printed, expected) = (avp(&["--version"])?, format!("avp {}", version(root)?));
    ensure!(printed == expected, "expected `{expected}` from `avp --version`, got `{printed}`");
    fs::copy(root.join("test-vectors/contexts/tiny-qwen2/python-float32.avp"), folder.join("frame.avp"))
        .context("cannot copy a test vector")?;
    let record = avp(&["inspect", "frame.avp", "--json"])?;
    ensure!(record.contains("kv_cache"), "`avp inspect` does not show the KV-cache of a frame: {record}");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
