//! The container image of `avp serve`: its files, tried in a read-only root of their own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{artifacts, copy, empty_folder, release_build, try_program};
use crate::{
    onnxruntime,
    process::{output, run},
};

/// The C and C++ libraries that the base image `distroless/cc` has, without their versions.
const BASE_LIBRARIES: [&str; 9] = [
    "ld-linux-aarch64.so",
    "ld-linux-x86-64.so",
    "libc.so",
    "libdl.so",
    "libgcc_s.so",
    "libm.so",
    "libpthread.so",
    "librt.so",
    "libstdc++.so",
];

/// The base image's user.
const NONROOT: &str = "65532";

/// Folders that a container may write to, and that volumes are mounted on.
const VOLUMES: [&str; 2] = ["var/lib/avp", "var/cache/avp"];

pub(super) fn build(root: &Path) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        eprintln!("the image is for Linux with glibc; nothing to build on this machine");
        return Ok(());
    }
    let avp = release_build(root)?;
    let library = onnxruntime::set_up(root)?.context("there is no ONNX Runtime for this machine")?;
    let image = empty_folder(root, "image")?;
    copy(&avp, &image.join("usr/local/bin/avp"))?;
    copy(&library, &image.join("usr/local/lib").join(library.file_name().context("a library has a name")?))?;
    for licence in onnxruntime::LICENCES {
        copy(&library.with_file_name(licence), &image.join("usr/share/doc/onnxruntime").join(licence))?;
    }
    copy(&root.join("LICENSE"), &image.join("usr/share/doc/avp/LICENSE"))?;
    for volume in VOLUMES {
        fs::create_dir_all(image.join(volume))?;
    }

    let container = artifacts(root).join("container");
    copy(&root.join("dist/Containerfile"), &container.join("Containerfile"))?;
    let files = container.join(if cfg!(target_arch = "aarch64") { "arm64.tar" } else { "amd64.tar" });
    let tar = |flag: &str, owner: &str, folders: &[&str]| {
        let mut tar = Command::new("tar");
        tar.arg(flag).arg(&files).arg("--directory").arg(&image).arg("--numeric-owner");
        run(tar.args(["--owner", owner, "--group", owner]).args(folders))
    };
    tar("-cf", "0", &["usr"])?;
    tar("-rf", NONROOT, &VOLUMES)?;
    try_image(root, &files)
}

/// Runs the program in a read-only root that has the image's files, the base's libraries and a model.
fn try_image(root: &Path, files: &Path) -> Result<()> {
    let inside = empty_folder(root, "container")?;
    run(Command::new("tar").arg("-xf").arg(files).arg("--directory").arg(&inside))?;
    for needed in base_libraries(&inside)? {
        copy(&needed, &inside.join(needed.strip_prefix("/")?))?;
    }
    for folder in ["proc", "tmp"] {
        fs::create_dir(inside.join(folder))?;
    }
    output(Command::new("cp").arg("-r").arg(root.join("models/facts")).arg(inside.join("model")))?;

    try_program(root, &inside, || contained(&inside))?;
    let mut serve = contained(&inside);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--store", "/var/lib/avp", "--model", "/model"]);
    let mut serve =
        serve.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let heard = BufReader::new(serve.stdout.take().context("standard output is piped")?).read_line(&mut line);
    serve.kill()?;
    serve.wait()?;
    heard?;
    ensure!(line.starts_with("listening on "), "`avp serve` in the image printed `{line}`, not its address");
    Ok(())
}

/// `avp` with `inside` as a read-only root, in namespaces of its own, which need no rights here.
fn contained(inside: &Path) -> Command {
    const ENTER: &str = r#"
        root=$1; shift
        mount --bind "$root" "$root"
        mount --rbind /proc "$root/proc"
        for folder in tmp var/lib/avp var/cache/avp; do mount -t tmpfs none "$root/$folder"; done
        mount -o remount,bind,ro "$root"
        exec chroot "$root" /usr/local/bin/avp "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-euc", ENTER, "sh"]).arg(inside);
    command
}

/// The files that the loader would load, each of which the base image must have.
fn base_libraries(inside: &Path) -> Result<Vec<PathBuf>> {
    let folder = inside.join("usr/local");
    let mut ldd = Command::new("ldd");
    ldd.arg(folder.join("bin/avp"));
    for library in fs::read_dir(folder.join("lib"))? {
        ldd.arg(library?.path());
    }
    let listed = output(&mut ldd)?;
    let mut files = Vec::new();
    // `libm.so.6 => /lib/…/libm.so.6 (0x…)`, or a path alone for the loader; the kernel's own has none.
    for path in listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')) {
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let stem = name.split_inclusive(".so").next().unwrap_or_default();
        ensure!(BASE_LIBRARIES.contains(&stem), "the base image has no {name}");
        files.push(PathBuf::from(path));
    }
    Ok(files)
}
