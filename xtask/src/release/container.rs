//! The container image of `avp serve`: its files, tried in a read-only root of their own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

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
        run(tar.args(["--owner", owner, "--group", owner, "--mode", "u=rwX,go=rX"]).args(folders))
    };
    tar("-cf", "0", &["usr"])?;
    tar("-rf", NONROOT, &VOLUMES)?;
    let listing =
        output(Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(&files))?;
    check_rights(&listing)?;
    try_image(root, &files)
}

/// Checks that the image's user owns the volumes alone, and can read everything and start the program.
fn check_rights(listing: &str) -> Result<()> {
    let mut programs = 0;
    for line in listing.lines() {
        // `-rwxr-xr-x 0/0 12345 2026-11-27 12:00 usr/local/bin/avp`
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, _, _, _, path] = columns[..] else { bail!("tar lists `{line}`") };
        let is_volume = VOLUMES.iter().any(|volume| path.trim_end_matches('/') == *volume);
        let expected = if is_volume { format!("{NONROOT}/{NONROOT}") } else { "0/0".to_owned() };
        ensure!(owner == expected, "expected {path} to belong to {expected}, got {owner}");
        let is_program = path == "usr/local/bin/avp";
        let modes: &[&str] = match (is_program, mode.starts_with('d')) {
            (true, _) => &["-rwxr-xr-x"],
            (false, true) => &["drwxr-xr-x"],
            // A library may be executable.
            (false, false) => &["-rw-r--r--", "-rwxr-xr-x"],
        };
        ensure!(modes.contains(&mode), "expected {path} to have the mode {}, got {mode}", modes.join(" or "));
        programs += usize::from(is_program);
    }
    ensure!(programs == 1, "expected one program in the image, got {programs}");
    Ok(())
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
    serve
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("AVP_CONFIG_DIR", "/var/lib/avp/config");
    let mut serve = serve.stdout(Stdio::piped()).spawn()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "drwxr-xr-x 0/0 0 2026-11-27 12:00 usr/\n\
        -rwxr-xr-x 0/0 9 2026-11-27 12:00 usr/local/bin/avp\n\
        -rw-r--r-- 0/0 9 2026-11-27 12:00 usr/local/lib/libonnxruntime.so.1\n\
        drwxr-xr-x 65532/65532 0 2026-11-27 12:00 var/lib/avp/\n";

    #[test]
    fn only_the_volumes_belong_to_the_user_of_the_image() {
        check_rights(LISTING).unwrap();
        let wrong = [
            LISTING.replace("65532/65532", "0/0"),
            LISTING.replace("-rwxr-xr-x 0/0", "-rwxr-xr-x 65532/65532"),
        ];
        for listing in wrong {
            assert!(check_rights(&listing).unwrap_err().to_string().contains("to belong to"), "{listing}");
        }
    }

    #[test]
    fn the_user_of_the_image_reads_everything_and_writes_nothing_else() {
        for (from, to) in [
            ("-rwxr-xr-x", "-rwxr-x---"),
            ("-rwxr-xr-x", "-rw-r--r--"),
            ("-rw-r--r--", "-rw-rw-rw-"),
            ("drwxr-xr-x", "drwx------"),
        ] {
            let error = check_rights(&LISTING.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains("to have the mode"), "{from} {to}: {error}");
        }
        assert!(check_rights("").is_err());
    }
}
