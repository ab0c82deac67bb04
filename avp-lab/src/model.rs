//! Where the embedded model is.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// The folder of the model `facts`, unpacked into the user's cache folder on first use.
///
/// ```no_run
/// println!("avp think {} --prompt …", avp_lab::embedded_model()?.display());
/// # Ok::<(), anyhow::Error>(())
/// ```
///
/// # Errors
/// When there is no cache folder or it cannot be written; `AVP_CACHE_DIR` names another one.
pub fn embedded_model() -> Result<PathBuf> {
    const ADVICE: &str = "set AVP_CACHE_DIR to a folder that can be written";
    let cache = avp_runtime_ort::cache_folder()
        .with_context(|| format!("no cache folder for the embedded model: {ADVICE}"))?;
    avp_model_facts::unpack(&cache.join("models")).with_context(|| ADVICE.to_owned())
}
