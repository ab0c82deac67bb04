//! The npm packages, packed and then installed into an empty project.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{artifacts, copy, empty_folder, version};
use crate::{
    npm::{npm_command, npm_folder, pack},
    process::run,
};

pub(super) fn build(root: &Path) -> Result<()> {
    pack(root)?;
    let version = version(root)?;
    let mut tarballs: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(npm_folder(root)).context("cannot read target/npm")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(&format!("-{version}.tgz")) {
            copy(&path, &artifacts(root).join(&*name))?;
            tarballs.push(artifacts(root).join(&*name));
        }
    }
    let project = empty_folder(root, "npm")?;
    fs::write(project.join("package.json"), r#"{ "private": true }"#)?;
    run(npm_command()
        .current_dir(&project)
        .args(["install", "--offline", "--no-audit", "--no-fund", "--loglevel=error"])
        .args(&tarballs))?;
    let node = |arguments: &[&str]| run(Command::new("node").current_dir(&project).args(arguments));
    for package in ["avp-wasm", "avp-node"] {
        node(&["--eval", &format!("require('{package}')")])?;
        node(&["--input-type=module", "--eval", &format!("import '{package}'")])?;
    }
    Ok(())
}
