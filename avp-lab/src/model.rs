//! Where the embedded model is.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow};

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
    let cache = avp_runtime_ort::cache_folder()
        .ok_or_else(|| anyhow!("no cache folder for the embedded model: {ADVICE}"))?;
    unpack_into(&cache.join("models"))
}

const ADVICE: &str = "set AVP_CACHE_DIR to a folder that can be written";

fn unpack_into(folder: &Path) -> Result<PathBuf> {
    avp_model_facts::unpack(folder).map_err(|error| anyhow!("{:#}: {ADVICE}", Error::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_folder_cause_and_advice_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let cause = std::fs::create_dir_all(file.join("x")).unwrap_err();
        let unpacked = avp_model_facts::unpack(&file).unwrap_err();
        let error = unpack_into(&file).unwrap_err();
        assert_eq!(format!("{error:#}"), format!("{unpacked}: {cause}: {ADVICE}"));
    }
}
