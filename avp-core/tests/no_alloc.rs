//! Proof that reading, routing, negotiating and encoding need no allocator: a program that has none does all of it.
#![cfg(all(unix, not(miri)))]

use std::{env, path::Path, process::Command};

#[test]
fn a_program_without_an_allocator_links_and_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/no-alloc");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-alloc");
    let built = Command::new(env::var_os("CARGO").expect("cargo runs the tests"))
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // A coverage or sanitizer build has flags of its own, which need the standard library.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .expect("cargo starts");
    assert!(built.success(), "it does not link");
    let ran = Command::new(target.join("release/no-alloc")).status().expect("the program starts");
    assert_eq!(ran.code(), Some(0), "a step gave something else than it should");
}
