//! Proof that the cores need neither `std` nor an allocator.
//!
//! A static library must be complete, unlike a Rust library. One with the cores and a panic handler links only if the
//! cores bring no second panic handler, as `std` would, and need no allocator.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::process::{cargo, output, run};

const CORES: [&str; 2] = ["aacp", "avp-core"];

/// A 32-bit machine without an operating system; its `usize` also exposes careless casts of lengths.
const EMBEDDED_TARGET: &str = "thumbv7em-none-eabihf";

/// Links the cores without features into a static library for the host.
///
/// # Errors
/// When they need `std` or an allocator.
pub(crate) fn link_on_this_machine(root: &Path) -> Result<()> {
    let folder = root.join(".cache").join("no-std-probe");
    fs::create_dir_all(folder.join("src")).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("Cargo.toml"), manifest(root))?;
    fs::write(folder.join("src/lib.rs"), source())?;
    // The same versions as everywhere else.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    run(cargo(root).args(["build", "--quiet", "--manifest-path"]).arg(folder.join("Cargo.toml")))
}

/// Checks the cores for [`EMBEDDED_TARGET`]; gives a reason to skip if the target cannot be installed.
///
/// # Errors
/// When they do not build.
pub(crate) fn build_for_embedded(root: &Path) -> Result<Option<String>> {
    if let Err(error) = output(Command::new("rustup").args(["target", "add", EMBEDDED_TARGET])) {
        return Ok(Some(format!("the target {EMBEDDED_TARGET} cannot be installed: {error:#}")));
    }
    let packages = CORES.iter().flat_map(|core| ["--package", core]);
    run(cargo(root)
        .args(["check", "--quiet", "--lib", "--no-default-features", "--target", EMBEDDED_TARGET])
        .args(packages))?;
    Ok(None)
}

fn manifest(root: &Path) -> String {
    let dependency = |core: &&str| {
        // TOML's literal strings take a Windows path as it is.
        format!("{core} = {{ path = '{}', default-features = false }}\n", root.join(core).display())
    };
    let dependencies: String = CORES.iter().map(dependency).collect();
    format!(
        "[package]\nname = \"no-std-probe\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"staticlib\"]\n\n\
         [dependencies]\n{dependencies}\n\
         [profile.dev]\npanic = \"abort\"\n\n\
         [workspace]\n"
    )
}

fn source() -> String {
    let uses: String = CORES.iter().map(|core| format!("use {} as _;\n", core.replace('-', "_"))).collect();
    format!(
        "#![no_std]\n\n{uses}\n#[panic_handler]\n\
         fn panic(_: &core::panic::PanicInfo) -> ! {{\n    loop {{}}\n}}\n"
    )
}
