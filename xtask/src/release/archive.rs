//! `avp` for this machine's target: an archive, its SHA-256, a software bill of materials, and the script that installs it.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{artifacts, copy, empty_folder, release_build, try_program};
use crate::{
    npm::host,
    process::{output, run, run_aside},
    tools::{CYCLONEDX, prepended},
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
    let archive = pack(&artifacts(root), &name)?;
    write_materials(root, &artifacts(root).join(format!("{name}.cdx.json")))?;
    copy(&root.join("dist").join(INSTALLER), &artifacts(root).join(INSTALLER))?;

    let empty = empty_folder(root, "archive")?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&empty))?;
    try_program(root, &empty, || Command::new(empty.join(&name).join(program)))?;
    if cfg!(unix) {
        try_installer(root, &archive, &name)?;
    }
    Ok(())
}

/// Packs `folder/name`, with a checksum. Windows opens zip files by itself; its `tar` writes them.
fn pack(folder: &Path, name: &str) -> Result<PathBuf> {
    let (format, extension) = if cfg!(windows) { ("-acf", "zip") } else { ("-czf", "tar.gz") };
    let archive = folder.join(format!("{name}.{extension}"));
    run(Command::new("tar").current_dir(folder).arg(format).arg(&archive).arg(name))?;
    write_checksum(&archive)?;
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
    let before = materials(root)?;
    run_aside(
        CYCLONEDX
            .set_up(root)?
            .args(["cyclonedx", "--quiet", "--manifest-path", "avp-cli/Cargo.toml", "--format", "json"])
            .args(["--spec-version", "1.5", "--describe", "binaries", "--target", &host()?]),
    )?;
    let written = root.join("avp-cli").join("avp_bin.cdx.json");
    fs::rename(&written, file).with_context(|| format!("cannot move {}", written.display()))?;
    // The tool writes one for each program and library of the workspace, beside its manifest.
    for other in materials(root)?.difference(&before) {
        fs::remove_file(other).with_context(|| format!("cannot delete {}", other.display()))?;
    }
    Ok(())
}

/// The bills of materials in the folders of the workspace.
fn materials(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(root)?.chain(fs::read_dir(root.join("examples"))?) {
        for file in fs::read_dir(folder?.path()).into_iter().flatten() {
            let file = file?.path();
            if file.to_string_lossy().ends_with(".cdx.json") {
                found.insert(file);
            }
        }
    }
    Ok(found)
}

/// Tries the installer with the system's tools and, if there is a BusyBox, with its tools, which know fewer options.
fn try_installer(root: &Path, archive: &Path, name: &str) -> Result<()> {
    let empty = empty_folder(root, "install")?;
    let changed = empty.join("changed");
    for file in [archive, &checksum_file(archive)] {
        copy(file, &changed.join(file.file_name().context("a file has a name")?))?;
    }
    let mut bytes = fs::read(archive)?;
    bytes.push(0);
    fs::write(changed.join(archive.file_name().context("an archive has a name")?), bytes)?;

    let broken = empty.join("broken");
    let program = broken.join(name).join("avp");
    copy(&artifacts(root).join(name).join("avp"), &program)?;
    fs::write(program, "#!/bin/sh\nexit 1\n")?;
    pack(&broken, name)?;

    let refused = [(&*changed, "a changed archive"), (&*broken, "a program that does not start")];
    let applets = empty.join("applets");
    fs::create_dir(&applets)?;
    install(root, &empty.join("system"), None, &refused)?;
    match output(Command::new("busybox").args(["--install", "-s"]).arg(&applets)) {
        Ok(_) => install(root, &empty.join("busybox"), Some(prepended(applets)?), &refused),
        Err(error) => {
            eprintln!("{INSTALLER} is not tried with BusyBox: {error:#}");
            Ok(())
        }
    }
}

/// Installs into `folder` from the files that were just made, and then from folders whose files must not replace them.
fn install(root: &Path, folder: &Path, path: Option<OsString>, refused: &[(&Path, &str)]) -> Result<()> {
    fs::create_dir(folder)?;
    let install = |from: &Path| {
        let mut command = Command::new("sh");
        command.current_dir(folder).envs(path.as_ref().map(|path| ("PATH", path)));
        command.arg(artifacts(root).join(INSTALLER));
        command.env("AVP_DOWNLOAD_URL", format!("file://{}", from.display()));
        command.env("AVP_INSTALL_DIR", "bin");
        command
    };
    run(&mut install(&artifacts(root)))?;
    for (from, what) in refused {
        ensure!(output(&mut install(from)).is_err(), "{INSTALLER} installs {what}");
    }
    try_program(root, folder, || Command::new(folder.join("bin/avp")))?;
    ensure!(fs::read_dir(folder.join("bin"))?.count() == 1, "{INSTALLER} leaves a temporary file");
    Ok(())
}

fn checksum_file(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}
