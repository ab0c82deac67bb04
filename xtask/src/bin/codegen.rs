//! Generates Rust types from ONNX's protobuf schema in `proto/`. They are committed, so that no build needs a generator.
//!
//! `cargo xtask codegen` writes them; `cargo xtask codegen --check` fails where a committed file is not what its
//! schema gives.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};
use protox::prost_reflect::prost_types::FileDescriptorProto;

/// One schema, and the Rust file made from it where one is wanted; paths are relative to the workspace root.
struct Schema {
    proto: &'static str,
    package: &'static str,
    rust: Option<RustFile>,
}

struct RustFile {
    path: &'static str,
    /// `bytes` fields that refer to the decoded buffer and are not copied out of it.
    shared_bytes: &'static [&'static str],
    /// Whether the schema's comments become doc comments; prose with indented examples would become doc tests.
    comments: bool,
}

const SCHEMAS: [Schema; 1] = [Schema {
    proto: "proto/onnx.proto",
    package: "onnx",
    rust: Some(RustFile {
        path: "avp-runtime-ort/src/onnx/proto.rs",
        shared_bytes: &[".onnx.TensorProto.raw_data"],
        comments: false,
    }),
}];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => generate_all(Mode::Write),
        ["--check"] => generate_all(Mode::Check),
        _ => Err(anyhow!("expected no argument or --check, got {}", arguments.join(" "))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy)]
enum Mode {
    Write,
    Check,
}

fn generate_all(mode: Mode) -> Result<()> {
    let root = workspace_root()?;
    let mut stale = Vec::new();
    for schema in &SCHEMAS {
        let described = descriptors(&root, schema)?;
        let Some(rust) = &schema.rust else {
            println!("{} compiles", schema.proto);
            continue;
        };
        let code = generate(&root, schema, rust, described)
            .with_context(|| format!("{} gives no Rust", schema.proto))?;
        let path = root.join(rust.path);
        let committed = fs::read_to_string(&path).unwrap_or_default();
        // A checkout may have turned line ends into CRLF; the code is the same.
        if committed.replace("\r\n", "\n") == code {
            println!("{} is what {} gives", rust.path, schema.proto);
            continue;
        }
        match mode {
            Mode::Check => stale.push(rust.path),
            Mode::Write => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)
                        .with_context(|| format!("cannot make {}", folder.display()))?;
                }
                fs::write(&path, code).with_context(|| format!("cannot write {}", path.display()))?;
                println!("{} written", rust.path);
            }
        }
    }
    if !stale.is_empty() {
        bail!(
            "{} differs from its schema: run `cargo xtask codegen` and commit the result",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The schema's files as protobuf describes them, the imported first.
fn descriptors(root: &Path, schema: &Schema) -> Result<Vec<FileDescriptorProto>> {
    let compiled = protox::compile([root.join(schema.proto)], [root.join("proto")])
        .map_err(|error| anyhow!("{} does not compile: {error:?}", schema.proto))?;
    let Some(file) = compiled.file.iter().find(|file| file.package() == schema.package) else {
        bail!("{} declares nothing in package {}", schema.proto, schema.package);
    };
    if file.message_type.is_empty() {
        bail!("{} declares no message", schema.proto);
    }
    Ok(compiled.file)
}

/// The generated file's whole text: header and formatted code.
fn generate(
    root: &Path,
    schema: &Schema,
    rust: &RustFile,
    described: Vec<FileDescriptorProto>,
) -> Result<String> {
    let mut config = prost_build::Config::new();
    config.bytes(rust.shared_bytes);
    // `HashMap` needs std, and its order differs from run to run.
    config.btree_map(["."]);
    if !rust.comments {
        config.disable_comments(["."]);
    }
    let module = prost_build::Module::from_protobuf_package_name(schema.package);
    let requests = described.into_iter().map(|file| (module.clone(), file)).collect();
    let mut modules = config.generate(requests)?;
    let code = modules.remove(&module).unwrap_or_default();
    rustfmt(
        root,
        &format!("// Generated from {} by `cargo xtask codegen`; do not edit.\n\n{code}", schema.proto),
    )
}

/// `code` as `cargo fmt` would leave it.
fn rustfmt(root: &Path, code: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--emit", "stdout", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt: `rustup component add rustfmt` installs it")?;
    // rustfmt reads all of its input before it writes, so the two pipes cannot block each other.
    child.stdin.take().context("rustfmt has no standard input")?.write_all(code.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt refused the generated code: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn workspace_root() -> Result<PathBuf> {
    // What cargo says now: clones that share a target folder share this binary too, and its compile-time path.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    Ok(Path::new(&manifest).parent().context("xtask lies in the workspace root")?.to_owned())
}
