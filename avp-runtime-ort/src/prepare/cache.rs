//! Prepared graphs on disk, one per model content, written whole or not at all.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{PrepareError, PrepareReport, prepare};
use crate::onnx::{ModelProto, external_location};

/// Raised whenever preparing the same model gives another graph, so that old files are not taken for new ones.
const PREPARE_VERSION: u32 = 1;

/// The folder that prepared graphs are kept in.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
}

/// A graph ready to load.
pub(crate) struct PreparedModel {
    /// The graph's bytes.
    pub(crate) bytes: Bytes,
    /// What preparing found.
    pub(crate) report: PrepareReport,
    /// SHA-256, in hex, over the SHA-256 of the export and those of its external files, in the order of their names.
    pub(crate) weights_hash: String,
}

impl Cache {
    /// `AVP_CACHE_DIR`, else the user's cache folder; without either nothing is kept.
    pub(crate) fn from_env() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("AVP_CACHE_DIR")
            .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("avp")))
            .or_else(|| set("HOME").map(|path| path.join(".cache").join("avp")))
            .or_else(|| set("LOCALAPPDATA").map(|path| path.join("avp")))
            .map(|path| path.join("prepared"));
        Self { folder }
    }

    /// Keeps prepared graphs in `folder`.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()) }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{key}.onnx")))
    }

    /// The graph under `key`, if its file is whole.
    fn read(&self, key: &str) -> Option<PreparedModel> {
        let file = Bytes::from(fs::read(self.path(key)?).ok()?);
        let (digest, content) = file.split_at_checked(DIGEST_SIZE)?;
        if Sha256::digest(content).as_slice() != digest {
            return None;
        }
        let line_end = content.iter().position(|&byte| byte == b'\n')?;
        let report = serde_json::from_slice(&content[..line_end]).ok()?;
        let weights_hash = weights_hash(key);
        Some(PreparedModel { bytes: file.slice(DIGEST_SIZE + line_end + 1..), report, weights_hash })
    }

    /// Writes digest, report on one line, graph. A cache that cannot be written only costs time: no error.
    fn write(&self, key: &str, model: &PreparedModel) {
        let Some(path) = self.path(key) else { return };
        let Ok(mut report) = serde_json::to_vec(&model.report) else { return };
        report.push(b'\n');
        let digest = Sha256::new().chain_update(&report).chain_update(&model.bytes).finalize();
        let write = |folder: &Path| -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            for part in [digest.as_slice(), &report, &model.bytes] {
                file.write_all(part)?;
            }
            file.persist(&path)?;
            Ok(())
        };
        let _unwritten = path.parent().map(write);
    }
}

const DIGEST_SIZE: usize = 32;

/// Reads the export at `path` and prepares it, or takes the prepared graph from `cache`.
///
/// # Errors
/// When the file cannot be read or [`prepare`] refuses the graph.
pub(crate) fn prepare_cached(path: &Path, cache: &Cache) -> Result<PreparedModel, PrepareError> {
    let export = fs::read(path)
        .map(Bytes::from)
        .map_err(|error| PrepareError::Unreadable { path: path.to_owned(), message: error.to_string() })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut model = ModelProto::decode(export.clone())
        .map_err(|error| PrepareError::Malformed { message: error.to_string() })?;
    let key = key(&export, &model, folder)?;
    if let Some(prepared) = cache.read(&key) {
        return Ok(prepared);
    }
    let report = prepare(&mut model, folder)?;
    let prepared =
        PreparedModel { bytes: model.encode_to_vec().into(), report, weights_hash: weights_hash(&key) };
    cache.write(&key, &prepared);
    Ok(prepared)
}

/// A hash over all that preparing reads: the export and, where weights lie beside it, those files. Two fine-tunes often
/// share a graph and differ in the data beside it.
fn key(export: &[u8], model: &ModelProto, folder: &Path) -> Result<String, PrepareError> {
    let initializers = model.graph.iter().flat_map(|graph| &graph.initializer);
    let files = initializers
        .filter(|tensor| !tensor.external_data.is_empty())
        .map(external_location)
        .collect::<Result<BTreeSet<PathBuf>, _>>()?;
    // A hash of hashes: each file's own can be known without reading it again.
    let mut hash = Sha256::new().chain_update(Sha256::digest(export));
    for file in files {
        let (path, mut data) = (folder.join(&file), Sha256::new());
        let read = fs::File::open(&path).and_then(|mut file| io::copy(&mut file, &mut HashWriter(&mut data)));
        read.map_err(|error| PrepareError::Unreadable { path, message: error.to_string() })?;
        hash.update(data.finalize());
    }
    Ok(format!("{}-v{PREPARE_VERSION}", hex(&hash.finalize())))
}

/// The hash in a key, without the version behind it.
fn weights_hash(key: &str) -> String {
    key.split('-').next().unwrap_or_default().to_owned()
}

struct HashWriter<'h>(&'h mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{GraphProto, StringStringEntryProto, TensorProto};

    fn export() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/parity/tiny-qwen2/model.onnx")
    }

    fn only_file(folder: &Path) -> PathBuf {
        let mut files = fs::read_dir(folder).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none(), "more than one file");
        file
    }

    #[test]
    fn a_model_is_prepared_once_and_read_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let first = prepare_cached(&export(), &cache).unwrap();
        let written = fs::metadata(only_file(folder.path())).unwrap().modified().unwrap();
        let second = prepare_cached(&export(), &cache).unwrap();
        assert_eq!((&first.bytes, &first.report), (&second.bytes, &second.report));
        assert_eq!(fs::metadata(only_file(folder.path())).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn a_damaged_file_is_replaced_and_never_believed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let sound = prepare_cached(&export(), &cache).unwrap();
        let file = only_file(folder.path());
        let whole = fs::read(&file).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[1..], b"", &[0; 40]] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(prepare_cached(&export(), &cache).unwrap().bytes, sound.bytes);
            assert_eq!(fs::read(&file).unwrap(), whole);
        }
    }

    #[test]
    fn the_same_graph_with_other_weights_beside_it_is_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = TensorProto {
            external_data: vec![StringStringEntryProto {
                key: Some("location".into()),
                value: Some("weights".into()),
            }],
            ..TensorProto::default()
        };
        let graph = GraphProto { initializer: vec![tensor], ..GraphProto::default() };
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        let key_with = |weights: &[u8]| {
            fs::write(folder.path().join("weights"), weights).unwrap();
            key(b"export", &model, folder.path()).unwrap()
        };
        assert_ne!(key_with(b"one"), key_with(b"two"));
        assert_eq!(key_with(b"one"), key_with(b"one"));
        fs::remove_file(folder.path().join("weights")).unwrap();
        assert!(matches!(key(b"export", &model, folder.path()), Err(PrepareError::Unreadable { .. })));
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"in the way").unwrap();
        assert!(prepare_cached(&export(), &Cache::at(&file)).is_ok());
        assert_eq!(only_file(folder.path()), file);
    }

    #[test]
    fn tied_and_untied_heads_are_told_apart_by_their_weights() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        assert!(prepare_cached(&export(), &cache).unwrap().report.tied);
        let untied = export().with_file_name("../tiny-llama/model.onnx");
        assert!(!prepare_cached(&untied, &cache).unwrap().report.tied);
    }
}
