//! This repository's own commands: `cargo xtask help` lists them.
//!
//! It is the first thing that a fresh clone compiles, so it depends on next to nothing.

mod bench;
mod checks;
mod codegen;
mod demo;
mod fuzz;
mod hygiene;
mod inspector;
mod no_std;
mod npm;
mod onnxruntime;
mod peers;
mod portability;
mod process;
mod python;
mod real;
mod release;
mod soak;
mod tools;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  demo [ARG...]     Two agents hand over a KV-cache: set up, build, run `avp demo ARG...`
  test [STEP...]    All checks, or the named steps of them
  npm               The npm packages, packed into target/npm/
  inspector [--port N]
                    Build the page that shows frames and packets, and serve it on this machine
  bench             The tables of docs/BENCHMARKS.md: this library and the Python peers
  bench runtime [SHAPE]
                    The runtime, the Python peer and bare ONNX Runtime, with a model of random weights
  bench http [frames|memory|load|latency]
                    Frames over HTTP: this library, the Python peer and bare hyper; as root, with delay too
  bench js          The npm packages, a peer in plain JavaScript, and the Python peers
  soak              The HTTP binding under load and under attack for ten minutes; every context is verified
  fuzz MINUTES [TARGET]
                    Each fuzz target, or one, for so many minutes
  fuzz corpus       The inputs that fuzzing starts from, made of the vectors
  release --dry-run [archive|container|npm|crates]...
                    What a release publishes, built, packed and started; a tag publishes it
  setup             Fetch the ONNX Runtime library into .cache/
  codegen           Write the Rust types of the schemas in proto/
  codegen --check   Fail if they are out of date
  help              Print this text

Every command can be repeated, and keeps the results of work that is done.";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_else(|| OsString::from("help"));
    match dispatch(&command.to_string_lossy(), &arguments.collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let root = workspace_root()?;
    match (command, arguments) {
        ("demo", _) => return demo::run(&root, arguments),
        ("test", _) => checks::run(&root, arguments)?,
        ("npm", []) => npm::pack(&root)?,
        ("inspector", _) => inspector::serve(&root, arguments)?,
        ("bench", []) => bench::run(&root)?,
        ("bench", [what, shape @ ..]) if what == "runtime" && shape.len() < 2 => {
            bench::run_runtime(&root, shape.first().and_then(|shape| shape.to_str()))?;
        }
        ("bench", [what, tables @ ..]) if what == "http" => bench::run_http(&root, tables)?,
        ("bench", [what]) if what == "js" => npm::bench(&root)?,
        ("release", _) => release::run(&root, arguments)?,
        ("soak", []) => soak::run(&root)?,
        ("fuzz", _) => fuzz::for_minutes(&root, arguments)?,
        ("setup", []) => drop(onnxruntime::set_up(&root)?),
        ("codegen", _) => codegen::run_with(&root, arguments)?,
        ("help" | "--help" | "-h", []) => println!("{HELP}\n\n{}", checks::list()),
        _ => bail!("unknown command or arguments: `{command}`\n\n{HELP}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn workspace_root() -> Result<PathBuf> {
    // At run time: clones with a common target folder share this binary, and the path it was compiled in.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    Ok(Path::new(&manifest).parent().context("xtask lies in the workspace root")?.to_owned())
}
