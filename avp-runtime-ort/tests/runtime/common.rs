//! What the integration tests share: the runtime, the committed models, and records made with the Python peer.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use avp_runtime_ort::{LoadOptions, Model, Runtime};

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
