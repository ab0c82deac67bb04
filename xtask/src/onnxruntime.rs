//! The ONNX Runtime library, from its wheel on PyPI, in `.cache/onnxruntime/RELEASE/`.
//!
//! The library in a wheel is the same for every Python version, so one wheel a platform is enough, with a pinned checksum
//! that pip verifies (`--require-hashes`) before anything is unpacked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    process::{output, run_aside},
    python,
};

const RELEASE: &str = "1.31.1";

/// One wheel of that release.
struct Wheel {
    /// `std::env::consts::{OS, ARCH}` of the machines it is for.
    machine: (&'static str, &'static str),
    platform: &'static str,
    sha256: &'static str,
    library: &'static str,
}

/// This release has no wheel for Macs with Intel processors.
const WHEELS: [Wheel; 5] = [
    Wheel {
        machine: ("linux", "x86_64"),
        platform: "manylinux_2_28_x86_64",
        sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        library: "libonnxruntime.so.1.31.1",
    },
    Wheel {
        machine: ("linux", "aarch64"),
        platform: "manylinux_2_28_aarch64",
        sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        library: "libonnxruntime.so.1.31.1",
    },
    Wheel {
        machine: ("macos", "aarch64"),
        platform: "macosx_14_0_arm64",
        sha256: "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
        library: "libonnxruntime.1.31.1.dylib",
    },
    Wheel {
        machine: ("windows", "x86_64"),
        platform: "win_amd64",
        sha256: "c3d91b5de31e2fc82d71bd65b2b22bddee8b49057a3a36338e9a868e0ea90c05",
        library: "onnxruntime.dll",
    },
    Wheel {
        machine: ("windows", "aarch64"),
        platform: "win_arm64",
        sha256: "93800007a7023b3ab26ad72e6463d0d57d84ead49a2f6341954d91438e046bc0",
        library: "onnxruntime.dll",
    },
];

/// The licences that must be distributed with the library, in the same folder.
pub(crate) const LICENCES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

/// Returns the library: the one that `ORT_DYLIB_PATH` names, else the one in the cache, downloaded if necessary.
///
/// `None` on a platform without a wheel: the programs then search for the library, and report where they looked.
///
/// # Errors
/// When there is no Python with pip, the download or its checksum fails, or the cache cannot be written. The cache then
/// stays unchanged.
pub(crate) fn set_up(root: &Path) -> Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        eprintln!("ONNX Runtime: {} (from ORT_DYLIB_PATH)", path.display());
        return Ok(Some(path));
    }
    let machine = (std::env::consts::OS, std::env::consts::ARCH);
    let wheel = WHEELS.iter().find(|wheel| wheel.machine == machine && !cfg!(target_env = "musl"));
    let Some(wheel) = wheel else {
        eprintln!(
            "ONNX Runtime: no wheel for {} on {}; install it yourself and set ORT_DYLIB_PATH to its library file",
            machine.0, machine.1
        );
        return Ok(None);
    };
    let cache = root.join(".cache").join("onnxruntime");
    let library = cache.join(RELEASE).join(wheel.library);
    if LICENCES.iter().all(|licence| library.with_file_name(licence).is_file()) && library.is_file() {
        eprintln!("ONNX Runtime {RELEASE}: {}", library.display());
        return Ok(Some(library));
    }
    eprintln!("ONNX Runtime {RELEASE}: fetching its wheel (about 20 MB) from PyPI into {}", cache.display());
    let partial = cache.join(format!(".partial-{}", std::process::id()));
    let fetched =
        fetch(wheel, &partial).and_then(|unpacked| publish(&unpacked, &cache.join(RELEASE), wheel.library));
    // Best effort: the folder may not exist, and nothing reads it.
    let _ = fs::remove_dir_all(&partial);
    fetched.context(
        "cannot fetch ONNX Runtime (with a library of your own, set ORT_DYLIB_PATH to it and nothing is fetched)",
    )?;
    eprintln!("ONNX Runtime {RELEASE}: {}", library.display());
    Ok(Some(library))
}

/// Downloads the wheel into `partial` and unpacks the library there; returns its folder.
fn fetch(wheel: &Wheel, partial: &Path) -> Result<PathBuf> {
    let python = python::with_pip()?;
    fs::create_dir_all(partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let requirements = partial.join("requirements.txt");
    fs::write(&requirements, format!("onnxruntime=={RELEASE} --hash=sha256:{}\n", wheel.sha256))?;
    run_aside(
        python::pip(python, "download")
            .args(["--no-deps", "--require-hashes", "--implementation", "cp", "--python-version", "3.11"])
            .args(["--abi", "cp311", "--platform", wheel.platform, "--dest"])
            .arg(partial)
            .arg("--requirement")
            .arg(&requirements),
    )?;
    let file = partial.join(format!("onnxruntime-{RELEASE}-cp311-cp311-{}.whl", wheel.platform));
    const UNPACK: &str =
        "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2], sys.argv[3:])";
    let members = LICENCES.map(|licence| format!("onnxruntime/{licence}"));
    let library = format!("onnxruntime/capi/{}", wheel.library);
    output(Command::new(python).args(["-c", UNPACK]).arg(file).arg(partial).args(members).arg(library))?;
    let unpacked = partial.join("onnxruntime");
    fs::rename(unpacked.join("capi").join(wheel.library), unpacked.join(wheel.library))?;
    fs::remove_dir(unpacked.join("capi"))?;
    Ok(unpacked)
}

/// Moves each file into the folder of the release, the library last, so that it implies the others.
fn publish(unpacked: &Path, release: &Path, library: &str) -> Result<()> {
    fs::create_dir_all(release)?;
    for file in LICENCES.into_iter().chain([library]) {
        let target = release.join(file);
        match fs::rename(unpacked.join(file), &target) {
            // On Windows, another run's file that is in use stays.
            Err(_) if target.is_file() => {}
            moved => moved.with_context(|| format!("cannot write {}", target.display()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_and_no_machine_has_two() {
        for (position, wheel) in WHEELS.iter().enumerate() {
            assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert!(WHEELS[..position].iter().all(|other| other.machine != wheel.machine));
        }
    }

    #[test]
    fn the_workflow_for_addons_installs_the_same_wheels() {
        let requirements = include_str!("../../.github/onnxruntime.txt");
        assert!(requirements.contains(&format!("onnxruntime=={RELEASE} ;")));
        for wheel in &WHEELS {
            assert!(requirements.contains(wheel.sha256), "{}", wheel.platform);
        }
    }
}
