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
#[error("cannot unpack the embedded model into {}", path.display())]
pub struct UnpackError {
    path: PathBuf,
    source: io::Error,
}

/// Unpacks the model into a folder of its own in `cache` and returns that folder.
///
/// The folder is named after the version of this crate. Its files are compared with the embedded ones, and those that are missing
/// or differ are replaced, each at once: several processes can unpack into the same folder.
///
/// # Errors
/// When the folder cannot be written.
pub fn unpack(cache: &Path) -> Result<PathBuf, UnpackError> {
    let folder = cache.join(concat!("facts-", env!("CARGO_PKG_VERSION")));
    match write(&folder) {
        Ok(()) => Ok(folder),
        Err(source) => Err(UnpackError { path: folder, source }),
    }
}

fn write(folder: &Path) -> io::Result<()> {
    let mut missing = FILES.iter().filter(|(name, content)| !is_same(&folder.join(name), content)).peekable();
    if missing.peek().is_none() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let unfinished = tempfile::Builder::new().prefix(".unfinished-").tempdir_in(folder)?;
    for (name, content) in missing {
        let complete = unfinished.path().join(name);
        fs::write(&complete, content)?;
        fs::rename(&complete, folder.join(name))?;
    }
    Ok(())
}

fn is_same(path: &Path, content: &[u8]) -> bool {
    // The length first: a file of another length need not be read.
    let same_length = fs::metadata(path).is_ok_and(|metadata| metadata.len() == content.len() as u64);
    same_length && fs::read(path).is_ok_and(|found| found == content)
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

    fn is_intact(folder: &Path) -> bool {
        FILES.iter().all(|(name, content)| is_same(&folder.join(name), content))
    }

    /// Changes one byte of a file and deletes another file.
    fn damage(folder: &Path) {
        let graph = folder.join("model.onnx");
        let mut bytes = fs::read(&graph).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&graph, bytes).unwrap();
        fs::remove_file(folder.join("config.json")).unwrap();
    }

    #[test]
    fn the_model_is_unpacked_once_and_nothing_else_stays() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(cache.path()).unwrap();
        assert!(is_intact(&folder));
        let written = fs::metadata(folder.join("model.onnx")).unwrap().modified().unwrap();
        assert_eq!(unpack(cache.path()).unwrap(), folder);
        assert_eq!(fs::metadata(folder.join("model.onnx")).unwrap().modified().unwrap(), written);
        assert_eq!((entries(cache.path()).len(), entries(&folder).len()), (1, FILES.len()));
    }

    #[test]
    fn damaged_and_missing_files_are_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(cache.path()).unwrap();
        damage(&folder);
        assert!(!is_intact(&folder));
        unpack(cache.path()).unwrap();
        assert!(is_intact(&folder));
        assert_eq!((entries(cache.path()).len(), entries(&folder).len()), (1, FILES.len()));
    }

    #[test]
    fn several_at_once_get_one_intact_folder_from_nothing_and_from_a_damaged_one() {
        let cache = tempfile::tempdir().unwrap();
        for round in 0..8 {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| unpack(cache.path()).unwrap())).collect();
                for thread in threads {
                    assert!(is_intact(&thread.join().unwrap()), "round {round}");
                }
            });
            let folder = unpack(cache.path()).unwrap();
            assert_eq!((entries(cache.path()).len(), entries(&folder).len()), (1, FILES.len()));
            damage(&folder);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_and_its_cause_is_the_source() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("file");
        fs::write(&file, "").unwrap();
        let error = unpack(&file).unwrap_err();
        let folder = file.join(concat!("facts-", env!("CARGO_PKG_VERSION")));
        let expected = format!("cannot unpack the embedded model into {}", folder.display());
        assert_eq!(error.to_string(), expected);
        assert!(std::error::Error::source(&error).unwrap().is::<io::Error>());
    }
}
