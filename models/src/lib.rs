//! The model `facts` (0.87 million parameters), embedded in the program and unpacked into a cache folder on first use.
//!
//! ```
//! # let cache = tempfile::tempdir()?;
//! let folder = avp_model_facts::unpack(cache.path())?;
//! assert!(folder.join("model.onnx").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(missing_docs)]
#![forbid(unsafe_code)]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../facts/", $name)))),+]
    };
}

/// Name and content of each file of the model folder.
const FILES: [(&str, &[u8]); 8] = embedded![
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.onnx",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "world.json",
];

/// The model could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("cannot unpack the embedded model into {}: {source}", path.display())]
pub struct UnpackError {
    path: PathBuf,
    source: io::Error,
}

/// Unpacks the model into a folder of its own in `cache` and returns that folder.
///
/// The folder is named after the content, so two releases do not share one. It appears whole or not at all, also when several
/// processes unpack at once. A folder that is already there is compared with the embedded files and replaced if they differ.
///
/// # Errors
/// When the folder cannot be written.
pub fn unpack(cache: &Path) -> Result<PathBuf, UnpackError> {
    let folder = cache.join(format!("facts-{}", digest()));
    let result = if is_intact(&folder) { Ok(()) } else { write(cache, &folder) };
    match result {
        Ok(()) => Ok(folder),
        Err(source) => Err(UnpackError { path: folder, source }),
    }
}

/// The first 16 hexadecimal digits of a SHA-256 over all names and contents.
fn digest() -> String {
    let mut hasher = Sha256::new();
    for (name, content) in FILES {
        for part in [name.as_bytes(), content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_intact(folder: &Path) -> bool {
    let is_same = |(name, content): &(&str, &[u8])| {
        let path = folder.join(name);
        // The length first: a damaged file need not be read.
        let same_length = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == content.len() as u64);
        same_length && fs::read(path).is_ok_and(|found| found == *content)
    };
    FILES.iter().all(is_same)
}

fn write(cache: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(cache)?;
    let partial = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(cache)?;
    let complete = partial.path().join("model");
    fs::create_dir(&complete)?;
    for (name, content) in FILES {
        fs::write(complete.join(name), content)?;
    }
    let renamed = fs::rename(&complete, folder);
    if renamed.is_ok() || is_intact(folder) {
        // The second case: another process was faster.
        return Ok(());
    }
    // A damaged folder: it moves into the temporary one and is deleted with it.
    fs::rename(folder, partial.path().join("damaged"))?;
    let renamed = fs::rename(&complete, folder);
    if is_intact(folder) { Ok(()) } else { renamed }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_file_of_the_model_folder_is_embedded_but_its_card() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("facts");
        let mut found = entries(&folder);
        found.retain(|name| name != "README.md");
        found.sort();
        assert_eq!(found, FILES.map(|(name, _)| name));
    }

    #[test]
    fn the_model_is_unpacked_once_and_nothing_else_stays() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(cache.path()).unwrap();
        assert!(is_intact(&folder));
        let written = fs::metadata(folder.join("model.onnx")).unwrap().modified().unwrap();
        assert_eq!(unpack(cache.path()).unwrap(), folder);
        assert_eq!(fs::metadata(folder.join("model.onnx")).unwrap().modified().unwrap(), written);
        assert_eq!(entries(cache.path()).len(), 1);
    }

    #[test]
    fn a_damaged_or_incomplete_folder_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(cache.path()).unwrap();
        let graph = folder.join("model.onnx");
        let mut bytes = fs::read(&graph).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&graph, bytes).unwrap();
        unpack(cache.path()).unwrap();
        assert!(is_intact(&folder));
        fs::remove_file(folder.join("config.json")).unwrap();
        unpack(cache.path()).unwrap();
        assert!(is_intact(&folder));
        assert_eq!(entries(cache.path()).len(), 1);
    }

    #[test]
    fn several_at_once_get_one_intact_folder() {
        let cache = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| unpack(cache.path()).unwrap())).collect();
            for thread in threads {
                assert!(is_intact(&thread.join().unwrap()));
            }
        });
        assert_eq!(entries(cache.path()).len(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("file");
        fs::write(&file, "").unwrap();
        let error = unpack(&file).unwrap_err().to_string();
        assert!(error.contains("facts-") && error.contains(&file.display().to_string()), "{error}");
    }
}
