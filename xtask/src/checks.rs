//! `cargo xtask test`: everything that must hold before a change lands.

use std::{
    ffi::OsString,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    codegen, hygiene, inspector, no_std, npm, onnxruntime, peers,
    process::{cargo, run as run_command},
};

/// One check. Its function gives a reason where it was left out on this machine.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Path) -> Result<Option<String>>,
}

/// In the order that finds a mistake soonest.
const STEPS: [Step; 10] = [
    Step { name: "format", about: "the code is formatted", run: format },
    Step {
        name: "hygiene",
        about: "no file too large for git, no link that leads nowhere",
        run: hygiene::check,
    },
    Step { name: "codegen", about: "the generated code is what its schemas give", run: generated },
    Step { name: "clippy", about: "no warning in any target", run: clippy },
    Step { name: "features", about: "the libraries build with each set of features alone", run: features },
    Step { name: "no-std", about: "the cores link without std and without an allocator", run: no_std_cores },
    Step { name: "docs", about: "the documentation builds, and its links resolve", run: docs },
    Step {
        name: "js",
        about: "the npm packages in every kind of project, their types, the module's size",
        run: javascript,
    },
    Step {
        name: "inspector",
        about: "the page of `cargo xtask inspector`, in a real browser",
        run: inspector::test,
    },
    Step { name: "tests", about: "unit tests, doc tests, vectors, the Python peers", run: all_tests },
];

/// The libraries that callers build with features of their own choice.
const CORES: [&str; 2] = ["aacp", "avp-core"];

const CORES_WITH_EVERYTHING: [&str; 5] = ["--package", CORES[0], "--package", CORES[1], "--all-features"];

/// Runs the steps named, or all, and stops at the first failure.
///
/// # Errors
/// When a step fails or no step has a name given.
pub(crate) fn run(root: &Path, names: &[OsString]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !STEPS.iter().any(|step| **name == *step.name)) {
        bail!("no step is called {}; the steps are\n{}", unknown.to_string_lossy(), list());
    }
    let chosen = STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| *name == *step.name));
    let mut results = Vec::new();
    for step in chosen {
        eprintln!("\n=== {}: {}", step.name, step.about);
        let start = Instant::now();
        let left_out = (step.run)(root).with_context(|| format!("step `{}`", step.name))?;
        let took = start.elapsed();
        eprintln!("--- {} {}", step.name, ending(took, left_out.as_deref()));
        results.push((step, took, left_out));
    }
    println!();
    for (step, took, left_out) in &results {
        println!("{:<10} {}", step.name, ending(*took, left_out.as_deref()));
    }
    let left_out = results.iter().filter(|(.., reason)| reason.is_some()).count();
    println!("\n{} passed, 0 failed, {left_out} skipped", results.len() - left_out);
    Ok(())
}

/// The steps with what each is about, one a line.
pub(crate) fn list() -> String {
    STEPS.iter().map(|step| format!("  {:<10} {}", step.name, step.about)).collect::<Vec<_>>().join("\n")
}

fn ending(took: Duration, left_out: Option<&str>) -> String {
    let seconds = took.as_secs_f64();
    match left_out {
        None => format!("passed in {seconds:.1} s"),
        Some(reason) => format!("left out: {reason}"),
    }
}

fn format(root: &Path) -> Result<Option<String>> {
    run_command(cargo(root).args(["fmt", "--all", "--check"]))?;
    Ok(None)
}

fn generated(root: &Path) -> Result<Option<String>> {
    codegen::run_with(root, &["--check".into()])?;
    Ok(None)
}

fn clippy(root: &Path) -> Result<Option<String>> {
    let whole: &[&str] = &["--workspace", "--features", "xtask/codegen"];
    for packages in [whole, &CORES_WITH_EVERYTHING] {
        run_command(
            cargo(root)
                .args(["clippy", "--locked", "--all-targets"])
                .args(packages)
                .args(["--", "--deny", "warnings"]),
        )?;
    }
    Ok(None)
}

fn features(root: &Path) -> Result<Option<String>> {
    for core in CORES {
        let manifest = root.join(core).join("Cargo.toml");
        let manifest =
            fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        for feature in [""].into_iter().chain(declared_features(&manifest)) {
            run_command(
                cargo(root)
                    .args(["clippy", "--quiet", "--locked", "--lib", "--package", core])
                    .args(["--no-default-features", "--features", feature])
                    .args(["--", "--deny", "warnings"]),
            )?;
        }
    }
    Ok(None)
}

/// The names in a manifest's `[features]`, as cargo's own formatting of it has them: one at the start of a line.
fn declared_features(manifest: &str) -> impl Iterator<Item = &str> {
    let section = manifest.lines().skip_while(|line| line.trim() != "[features]").skip(1);
    section
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with([' ', '#', ']']))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .filter(|name| *name != "default")
}

fn no_std_cores(root: &Path) -> Result<Option<String>> {
    no_std::link_on_this_machine(root)?;
    no_std::build_for_embedded(root)
}

fn docs(root: &Path) -> Result<Option<String>> {
    let others: &[&str] = &["--workspace", "--exclude", CORES[0], "--exclude", CORES[1]];
    for packages in [&CORES_WITH_EVERYTHING, others] {
        run_command(
            cargo(root)
                .args(["doc", "--locked", "--no-deps"])
                .args(packages)
                .env("RUSTDOCFLAGS", "--deny warnings"),
        )?;
    }
    Ok(None)
}

fn javascript(root: &Path) -> Result<Option<String>> {
    npm::test(root)?;
    Ok(None)
}

/// The workspace with the features that its programs use, then the cores with all of theirs.
fn all_tests(root: &Path) -> Result<Option<String>> {
    let library = onnxruntime::set_up(root)?;
    let peers = peers::set_up(root)?;
    let whole: &[&str] = &["--workspace"];
    for packages in [whole, &CORES_WITH_EVERYTHING] {
        run_command(
            cargo(root)
                .args(["test", "--locked"])
                .args(packages)
                .envs(library.iter().map(|library| ("ORT_DYLIB_PATH", library)))
                .envs(peers.iter().map(|(variable, python)| (variable, python))),
        )?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_does_not_exist_is_refused_before_any_runs() {
        let error = run(Path::new("/no/such/folder"), &["format".into(), "fromat".into()]).unwrap_err();
        assert!(error.to_string().starts_with("no step is called fromat"), "{error}");
    }

    #[test]
    fn features_are_read_from_their_section_alone() {
        let manifest = "[package]\nname = \"x\"\n\n[features]\n# Why.\ndefault = []\nalloc = []\n\
                        std = [\n    \"alloc\",\n]\n\n[dependencies]\nserde = \"1\"\n";
        assert_eq!(declared_features(manifest).collect::<Vec<_>>(), ["alloc", "std"]);
        assert_eq!(declared_features("[dependencies]\nserde = \"1\"\n").count(), 0);
    }

    #[test]
    fn no_two_steps_have_one_name() {
        for (position, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..position].iter().all(|other| other.name != step.name));
        }
    }
}
