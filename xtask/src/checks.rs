//! `cargo xtask test`: the checks that CI runs for every change.

use std::{
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    codegen, demo, fuzz, hygiene, inspector, no_std, npm, onnxruntime, peers, portability,
    process::{cargo, run as run_command},
    real,
};

/// One check. Its function returns a reason when this machine has to skip it.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Path) -> Result<Option<String>>,
}

/// Cheapest first, so that a mistake shows early.
static STEPS: [Step; 10] = [
    Step { name: "format", about: "the code is formatted", run: format },
    Step { name: "hygiene", about: "file sizes, links, metadata of the crates", run: hygiene::check },
    Step { name: "codegen", about: "the generated code matches its schemas", run: generated },
    Step { name: "clippy", about: "no warning from clippy in any target", run: clippy },
    Step { name: "features", about: "no warning with fewer features", run: features },
    Step { name: "no-std", about: "the cores link without std and without an allocator", run: no_std_cores },
    Step { name: "docs", about: "the documentation builds without warnings", run: docs },
    Step {
        name: "js",
        about: "the npm packages in projects of each kind, their types and sizes",
        run: javascript,
    },
    Step { name: "inspector", about: "the inspector in a browser", run: inspector::test },
    Step { name: "tests", about: "unit, integration and doc tests, with the Python peers", run: all_tests },
];

/// Steps that run only when named: each takes minutes, and installs what it needs.
static EXTRA_STEPS: [Step; 7] = [
    Step {
        name: "powerset",
        about: "libraries and program build with each pair of features",
        run: portability::powerset,
    },
    Step {
        name: "minimal-versions",
        about: "the oldest dependencies that the manifests allow build",
        run: portability::minimal_versions,
    },
    Step { name: "wasm32", about: "the cores' tests and vectors on wasm32", run: portability::wasm32 },
    Step { name: "miri", about: "the cores' unit tests under Miri", run: portability::miri },
    Step {
        name: "big-endian",
        about: "the cores' tests and vectors on s390x, under Miri",
        run: portability::big_endian,
    },
    Step { name: "fuzz", about: "each fuzz target for ten seconds", run: fuzz::smoke },
    Step {
        name: "real",
        about: "pretrained models against Transformers and the Python peer; 16 GB",
        run: real::test,
    },
];

/// The libraries that callers build with features of their own choice.
const CORES: [&str; 2] = ["aacp", "avp-core"];

/// The selection of every step that can take it: with one set of features, dependencies are compiled once.
pub(crate) const WHOLE: [&str; 2] = ["--workspace", "--all-features"];

/// The cores without the C library's zstd and without `compact`, whose tests are the same and whose code is not.
const PORTABLE_CORES: [&str; 6] = [
    "--package",
    CORES[0],
    "--package",
    CORES[1],
    "--features",
    "aacp/learn,aacp/workflows,avp-core/serde,avp-core/std,avp-core/zstd",
];

const DENY_WARNINGS: [&str; 3] = ["--", "--deny", "warnings"];

/// Runs the named steps, or [`STEPS`], and stops at the first failure. A named step may not be skipped.
///
/// # Errors
/// When a step fails, a name is unknown, or a named step has to be skipped.
pub(crate) fn run(root: &Path, names: &[OsString]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !all_steps().any(|step| **name == *step.name)) {
        bail!("unknown step `{}`; expected one of\n{}", unknown.to_string_lossy(), list());
    }
    let chosen: Vec<&Step> = match names {
        [] => STEPS.iter().collect(),
        names => all_steps().filter(|step| names.iter().any(|name| *name == *step.name)).collect(),
    };
    let mut results = Vec::new();
    for step in chosen {
        eprintln!("\n=== {}: {}", step.name, step.about);
        let start = Instant::now();
        let skipped = (step.run)(root).with_context(|| format!("step `{}`", step.name))?;
        if let Some(reason) = skipped.as_ref().filter(|_| !names.is_empty()) {
            bail!("step `{}` cannot run here: {reason}", step.name);
        }
        let took = start.elapsed();
        eprintln!("--- {} {}", step.name, outcome(took, skipped.as_deref()));
        results.push((step, took, skipped));
    }
    println!();
    for (step, took, skipped) in &results {
        println!("{:<16} {}", step.name, outcome(*took, skipped.as_deref()));
    }
    let skipped = results.iter().filter(|(.., reason)| reason.is_some()).count();
    println!("\n{} passed, 0 failed, {skipped} skipped", results.len() - skipped);
    Ok(())
}

/// The steps by default and the extra ones, each with its purpose.
pub(crate) fn list() -> String {
    let lines = |steps: &[Step]| -> String {
        steps.iter().map(|step| format!("\n  {:<16} {}", step.name, step.about)).collect()
    };
    format!("Steps of `test`:{}\n\nSteps that run only when named:{}", lines(&STEPS), lines(&EXTRA_STEPS))
}

fn all_steps() -> impl Iterator<Item = &'static Step> {
    STEPS.iter().chain(&EXTRA_STEPS)
}

fn outcome(took: Duration, skipped: Option<&str>) -> String {
    let seconds = took.as_secs_f64();
    match skipped {
        None => format!("passed in {seconds:.1} s"),
        Some(reason) => format!("skipped: {reason}"),
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
    run_command(cargo(root).args(["clippy", "--locked", "--all-targets"]).args(WHOLE).args(DENY_WARNINGS))?;
    Ok(None)
}

/// Packages, and features without which other code of theirs is compiled. `powerset` checks each feature, and pairs.
///
/// The cores do not depend on each other: one run checks both.
const FEATURES: [(&[&str], &[&str]); 2] = [
    (
        &CORES,
        &[
            "",
            "aacp/alloc,avp-core/alloc",
            "aacp/std,avp-core/std",
            "aacp/compact,avp-core/compact",
            "aacp/serde,avp-core/serde",
            "aacp/workflows,avp-core/zstd",
            "aacp/learn,avp-core/sign",
        ],
    ),
    (&["avp-transport"], &["", "carriers", "client", "server"]),
];

fn features(root: &Path) -> Result<Option<String>> {
    for (packages, features) in FEATURES {
        for feature in features {
            run_command(
                cargo(root)
                    .args(["clippy", "--quiet", "--locked", "--lib"])
                    .args(packages.iter().flat_map(|package| ["--package", package]))
                    .args(["--no-default-features", "--features", feature])
                    .args(DENY_WARNINGS),
            )?;
        }
    }
    run_command(cargo(root).args(["clippy", "--quiet", "--locked"]).args(demo::PROGRAM).args(DENY_WARNINGS))?;
    Ok(None)
}

fn no_std_cores(root: &Path) -> Result<Option<String>> {
    no_std::link_on_this_machine(root)?;
    no_std::build_for_embedded(root)
}

fn docs(root: &Path) -> Result<Option<String>> {
    run_command(
        cargo(root).args(["doc", "--locked", "--no-deps"]).args(WHOLE).env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    Ok(None)
}

fn javascript(root: &Path) -> Result<Option<String>> {
    npm::test(root)?;
    Ok(None)
}

/// The workspace with all features, then the cores with those whose absence selects other code left out.
fn all_tests(root: &Path) -> Result<Option<String>> {
    let library = onnxruntime::set_up(root)?;
    let peers = peers::set_up(root)?;
    for selection in [&WHOLE[..], &PORTABLE_CORES] {
        run_command(
            cargo(root)
                .args(["test", "--locked"])
                .args(selection)
                .envs(library.iter().map(|library| ("ORT_DYLIB_PATH", library)))
                .envs(peers.iter().map(|(variable, python)| (variable, python)))
                .envs(inspector::chromium().map(|browser| ("CHROMIUM", browser))),
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
        assert!(error.to_string().starts_with("unknown step `fromat`"), "{error}");
    }

    #[test]
    fn a_named_step_that_has_to_be_skipped_fails() {
        let error = run(Path::new("/no/such/folder"), &["hygiene".into()]).unwrap_err();
        assert_eq!(error.to_string(), "step `hygiene` cannot run here: not a git checkout");
    }

    #[test]
    fn no_two_steps_have_one_name() {
        for (position, step) in all_steps().enumerate() {
            assert!(all_steps().take(position).all(|other| other.name != step.name));
        }
    }
}
