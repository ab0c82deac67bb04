//! Shared by the integration tests: the runtime and the committed models.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use avp_runtime_ort::{Context, LoadOptions, Model, Prompt, Runtime, ThinkOptions};

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::find().unwrap_or_else(|error| panic!("{error}")))
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(crate) fn load(path: &str) -> Model {
    Model::load(runtime(), repository(path), &LoadOptions::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The context of `prompt` and `steps` latent steps behind `context`.
pub(crate) fn think(
    model: &Model,
    prompt: impl Into<Prompt>,
    steps: usize,
    context: Option<&Context>,
) -> Context {
    let thought = model.think(prompt, context, &ThinkOptions::steps(steps)).unwrap();
    thought.into_context().unwrap()
}
