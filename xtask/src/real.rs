//! `cargo xtask test real`: real pretrained models, made of files on PyPI, against Transformers and the Python peer.
//!
//! The models take some 8 GB in `.cache/real`, the two environments of Python as much again.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    onnxruntime, peers,
    process::{cargo, run},
};

/// The models that `tools/real/make.py` knows.
const MODELS: [&str; 2] = ["smollm2", "gemma3"];

/// Makes the models, records what others compute with them, and runs the tests that read both.
///
/// # Errors
/// When a model cannot be made, or a test fails.
pub(crate) fn test(root: &Path) -> Result<Option<String>> {
    let library = onnxruntime::set_up(root)?;
    let python = peers::set_up_scripts(root, "tools/real/requirements.txt", "optimum")?;
    let models = make(root, &python)?;
    for package in [["avp-runtime-ort", "runtime"], ["avp-cli", "cli"]] {
        run(cargo(root)
            .args(["test", "--locked", "--package", package[0], "--test", package[1]])
            .args(["real", "--", "--ignored", "--nocapture", "--test-threads", "1"])
            .envs(library.iter().map(|library| ("ORT_DYLIB_PATH", library)))
            .env("AVP_REAL_PYTHON", &python)
            .env("AVP_REAL_MODELS", &models))?;
    }
    Ok(None)
}

/// The folder with the models: each with `hf`, `fp32` and `record`, SmolLM2 with `int4` too. The model builder has no recipe for
/// Gemma's two rotary embeddings.
fn make(root: &Path, python: &Path) -> Result<PathBuf> {
    let builder = peers::set_up_scripts(root, "tools/models/requirements-genai.txt", "onnxruntime_genai")?;
    let models = root.join(".cache/real");
    let script = |python: &Path, name: &str| {
        let mut command = Command::new(python);
        command.arg(root.join("tools/real").join(name));
        command
    };
    for model in MODELS {
        run(script(python, "make.py").arg(model).arg(models.join(model)))?;
        run(script(python, "record.py").arg(models.join(model)))?;
    }
    run(script(&builder, "make.py").arg("int4").arg(models.join(MODELS[0])))?;
    Ok(models)
}
