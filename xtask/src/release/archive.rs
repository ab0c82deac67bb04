//! `avp` for this machine's target: an archive, its SHA-256, a software bill of materials, and the script that installs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{artifacts, copy, empty_folder, release_build, try_program};
use crate::{
    npm::host,
    process::{output, run, run_aside},
    tools::CYCLONEDX,
};

/// Files of the repository that every archive holds.
const DOCUMENTS: [&str; 3] = ["LICENSE", "README.md", "CHANGELOG.md"];

const INSTALLER: &str = "install.sh";

pub(super) fn build(root: &Path) -> Result<()> {
    let avp = release_build(root)?;
    let name = format!("avp-{}", host()?);
    let folder = artifacts(root).join(&name);
    let program = avp.file_name().context("a program has a name")?;
    copy(&avp, &folder.join(program))?;
    for document in DOCUMENTS {
        copy(&root.join(document), &folder.join(document))?;
    }
    let archive = pack(root, &name)?;
    write_checksum(&archive)?;
    write_materials(root, &artifacts(root).join(format!("{name}.cdx.json")))?;
    copy(&root.join("dist").join(INSTALLER), &artifacts(root).join(INSTALLER))?;

    let empty = empty_folder(root, "archive")?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&empty))?;
    try_program(root, &empty, || Command::new(empty.join(&name).join(program)))?;
    if cfg!(unix) {
        try_installer(root, &archive)?;
    }
    Ok(())
}

/// Windows opens zip files by itself; its `tar` writes them.
fn pack(root: &Path, name: &str) -> Result<PathBuf> {
    let (format, extension) = if cfg!(windows) { ("-acf", "zip") } else { ("-czf", "tar.gz") };
    let archive = artifacts(root).join(format!("{name}.{extension}"));
    run(Command::new("tar").current_dir(artifacts(root)).arg(format).arg(&archive).arg(name))?;
    Ok(archive)
}

/// Writes `ARCHIVE.sha256` in the form that `sha256sum --check` reads.
fn write_checksum(archive: &Path) -> Result<()> {
    let name = archive.file_name().context("an archive has a name")?;
    let folder = archive.parent().context("an archive lies in a folder")?;
    // macOS has Perl's program instead.
    let line = output(Command::new("sha256sum").current_dir(folder).arg("--").arg(name))
        .or_else(|_| output(Command::new("shasum").current_dir(folder).args(["-a", "256"]).arg(name)))?;
    let file = checksum_file(archive);
    fs::write(&file, line + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Writes the bill of materials of `avp`, in CycloneDX.
fn write_materials(root: &Path, file: &Path) -> Result<()> {
    run_aside(
        CYCLONEDX
            .set_up(root)?
            .args(["cyclonedx", "--quiet", "--manifest-path", "avp-cli/Cargo.toml", "--format", "json"])
            .args(["--spec-version", "1.5", "--describe", "binaries", "--target", &host()?]),
    )?;
    let written = root.join("avp-cli").join("avp_bin.cdx.json");
    fs::rename(&written, file).with_context(|| format!("cannot move {}", written.display()))?;
    // The tool writes one for each program and library of the workspace, beside its manifest.
    for folder in fs::read_dir(root)?.chain(fs::read_dir(root.join("examples"))?) {
        let folder = folder?.path();
        for other in fs::read_dir(&folder).into_iter().flatten() {
            let other = other?.path();
            if other.to_string_lossy().ends_with(".cdx.json") {
                fs::remove_file(other)?;
            }
        }
    }
    Ok(())
}

/// Installs from the files that were just made, and fails where a changed archive is installed too.
fn try_installer(root: &Path, archive: &Path) -> Result<()> {
    let empty = empty_folder(root, "install")?;
    let install = |from: &Path, to: &str| {
        let mut command = Command::new("sh");
        command.current_dir(&empty).arg(artifacts(root).join(INSTALLER));
        command.env("AVP_DOWNLOAD_URL", format!("file://{}", from.display()));
        command.env("AVP_INSTALL_DIR", empty.join(to));
        command
    };
    run(&mut install(&artifacts(root), "bin"))?;
    try_program(root, &empty, || Command::new(empty.join("bin/avp")))?;

    let changed = empty.join("changed");
    let (name, checksum) = (archive.file_name().unwrap_or_default(), checksum_file(archive));
    copy(&checksum, &changed.join(checksum.file_name().unwrap_or_default()))?;
    let mut bytes = fs::read(archive)?;
    bytes.push(0);
    fs::write(changed.join(name), bytes)?;
    ensure!(
        output(&mut install(&changed, "none")).is_err(),
        "{INSTALLER} installs an archive that was changed"
    );
    Ok(())
}

fn checksum_file(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}
