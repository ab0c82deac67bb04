//! The cache of prepared graphs on disk, keyed by model content and written atomically.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    PrepareError, PrepareReport,
    fingerprint::{self, Fingerprint, hex},
    prepare,
};
use crate::{
    cache_folder,
    onnx::{ExternalFiles, ModelProto, external_locations},
};

/// Raised whenever preparing the same model gives another graph or report, to invalidate old files.
const PREPARE_VERSION: u32 = 12;

/// A folder of prepared graphs.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
}

/// A graph ready to load.
pub(crate) struct PreparedModel {
    /// The serialized graph.
    pub(crate) bytes: Bytes,
    /// The report of preparing.
    pub(crate) report: PrepareReport,
    /// SHA-256, in hex, over the SHA-256, in hex, of the export and of each external file in the order of their names.
    pub(crate) weights_hash: String,
    /// The folder of the graph's external data.
    pub(crate) external_folder: PathBuf,
}

impl Cache {
    /// The cache in the [`cache_folder`]; without such a folder, nothing is cached.
    pub(crate) fn from_env() -> Self {
        Self { folder: cache_folder().map(|folder| folder.join("prepared")) }
    }

    /// The cache in `folder`.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()) }
    }

    fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{key}.onnx")))
    }

    /// Removes graphs that were not used for [`KEPT`], such as those of deleted models and old releases, and the temporary
    /// files of interrupted writes.
    fn tidy(folder: &Path, now: SystemTime) {
        let is_old = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age > KEPT);
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = file.path();
            let is_graph = path.extension().is_some_and(|extension| extension == "onnx");
            if !is_graph && !file.file_name().to_string_lossy().starts_with(UNFINISHED) {
                continue;
            }
            let written = file.metadata().and_then(|metadata| metadata.modified());
            let is_used = fingerprint::last_use(&path, folder).is_some_and(|time| !is_old(time));
            if written.is_ok_and(is_old) && !is_used {
                fingerprint::forget(&path, folder);
                let _left = fs::remove_file(path);
            }
        }
    }

    /// The graph under `key`, if its file is intact. Hashing a graph with its weights takes seconds, so the hash is cached for
    /// each state of the file.
    fn read(&self, key: &str) -> Option<(Bytes, PrepareReport)> {
        let path = self.path(key)?;
        let known = fingerprint::kept(&path, self.folder());
        let file = Bytes::from(fs::read(&path).ok()?);
        let (digest, content) = file.split_at_checked(DIGEST_SIZE)?;
        let digest = hex(digest);
        if known.is_none_or(|known| known.sha256 != digest) {
            let found = fingerprint::of_content(&path, content, Vec::new())
                .ok()
                .filter(|found| found.sha256 == digest)?;
            fingerprint::keep(&found, self.folder());
        }
        let line_end = content.iter().position(|&byte| byte == b'\n')?;
        let report: PrepareReport = serde_json::from_slice(&content[..line_end]).ok()?;
        let report = PrepareReport { from_cache: true, ..report };
        fingerprint::used(&path, self.folder()?);
        Some((file.slice(DIGEST_SIZE + line_end + 1..), report))
    }

    /// Writes the digest, the report on one line, and the graph. A failed write only costs time and is not an error.
    fn write(&self, key: &str, bytes: &[u8], report: &PrepareReport) {
        let Some(path) = self.path(key) else { return };
        let Ok(mut report) = serde_json::to_vec(report) else { return };
        report.push(b'\n');
        let digest = Sha256::new().chain_update(&report).chain_update(bytes).finalize();
        let write = |folder: &Path| -> io::Result<()> {
            fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
            for part in [digest.as_slice(), &report, bytes] {
                file.write_all(part)?;
            }
            file.persist(&path)?;
            Ok(())
        };
        if let Some(folder) = self.folder() {
            let _unwritten = write(folder);
            Self::tidy(folder, SystemTime::now());
        }
    }
}

const DIGEST_SIZE: usize = 32;

/// Prefix of the names of incomplete files.
const UNFINISHED: &str = ".unfinished-";

/// Time to keep an unused graph. Preparing it again takes seconds.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Reads the export at `path` and prepares it, or reads the prepared graph from `cache`. `head_dim` is the value of the config,
/// for exports with a symbolic dimension.
///
/// # Errors
/// When the file cannot be read or [`prepare`] refuses the graph.
pub(crate) fn prepare_cached(
    path: &Path,
    head_dim: Option<usize>,
    cache: &Cache,
) -> Result<PreparedModel, PrepareError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let named = |(bytes, report): (Bytes, PrepareReport), external: ExternalFiles, key: Key| PreparedModel {
        bytes,
        report: PrepareReport { file: path.to_owned(), ..report },
        weights_hash: key.weights_hash,
        external_folder: external.root,
    };
    // A known file need not be read: its prepared graph is complete.
    if let Some(known) = fingerprint::kept(path, cache.folder()) {
        let external = ExternalFiles::find(folder, &known.external)?;
        let key = key(&known, &external, head_dim, cache)?;
        if let Some(prepared) = cache.read(&key.name) {
            return Ok(named(prepared, external, key));
        }
    }
    let unreadable =
        |error: io::Error| PrepareError::Unreadable { path: path.to_owned(), message: error.to_string() };
    let export = fs::read(path).map(Bytes::from).map_err(unreadable)?;
    let mut model = ModelProto::decode(export.clone())
        .map_err(|error| PrepareError::Malformed { message: error.to_string() })?;
    let locations = external_locations(&mut model)?;
    let external = ExternalFiles::find(folder, &locations)?;
    let fingerprint = fingerprint::of_content(path, &export, locations).map_err(unreadable)?;
    let key = key(&fingerprint, &external, head_dim, cache)?;
    fingerprint::keep(&fingerprint, cache.folder());
    if let Some(prepared) = cache.read(&key.name) {
        return Ok(named(prepared, external, key));
    }
    external.relocate(&mut model);
    let report = prepare(&mut model, &external.root, head_dim)?;
    // The graph's weights are slices of `export`; only serializing copies them.
    let bytes = Bytes::from(model.encode_to_vec());
    cache.write(&key.name, &bytes, &report);
    Ok(named((bytes, report), external, key))
}

/// The key of an export, from its content.
struct Key {
    /// Name of the file in the cache.
    name: String,
    /// Hash of the weights, independent of the location of their files.
    weights_hash: String,
}

/// A hash over all input of preparing: the export, and its external data with their locations. Two fine-tunes often have the
/// same graph with different external data.
fn key(
    export: &Fingerprint,
    external: &ExternalFiles,
    head_dim: Option<usize>,
    cache: &Cache,
) -> Result<Key, PrepareError> {
    let mut hash = Sha256::new().chain_update(&export.sha256);
    let mut weights = hash.clone();
    for (location, file) in &external.files {
        let path = external.root.join(file);
        let sha256 = fingerprint::of_file(&path, cache.folder())
            .map_err(|error| PrepareError::Unreadable { path, message: error.to_string() })?;
        for place in [location, file] {
            hash.update(Sha256::digest(place.as_os_str().as_encoded_bytes()));
        }
        hash.update(&sha256);
        weights.update(&sha256);
    }
    Ok(Key {
        name: format!("{}-{}-v{PREPARE_VERSION}", hex(&hash.finalize()), head_dim.unwrap_or(0)),
        weights_hash: hex(&weights.finalize()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;

    use super::*;
    use crate::onnx::{GraphProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation};

    fn export() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/parity/tiny-qwen2/model.onnx")
    }

    /// Moves the value of the first `Constant` node to `file`; returns the value.
    pub(in crate::prepare) fn move_constant_to(model: &mut ModelProto, file: &str) -> Bytes {
        let nodes = &mut model.graph.as_mut().unwrap().node;
        let node = nodes.iter_mut().find(|node| node.op_type() == "Constant").unwrap();
        let tensor = node.attribute[0].t.as_mut().unwrap();
        tensor.data_location = Some(DataLocation::External as i32);
        tensor.external_data =
            vec![StringStringEntryProto { key: Some("location".into()), value: Some(file.into()) }];
        tensor.raw_data.take().unwrap()
    }

    fn only_file(folder: &Path) -> PathBuf {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn a_model_is_prepared_once_and_read_back_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let first = prepare_cached(&export(), None, &cache).unwrap();
        let written = fs::metadata(only_file(folder.path())).unwrap().modified().unwrap();
        let second = prepare_cached(&export(), None, &cache).unwrap();
        assert_eq!((first.report.from_cache, second.report.from_cache), (false, true));
        let second_report = PrepareReport { from_cache: false, ..second.report };
        assert_eq!((&first.bytes, &first.report), (&second.bytes, &second_report));
        assert_eq!(fs::metadata(only_file(folder.path())).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn unused_graphs_are_removed_when_another_is_prepared() {
        const DAY: Duration = Duration::from_secs(86_400);
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let file = |name: &str| folder.path().join(name);
        let set_age = |path: &Path, days: u32| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - DAY * days).unwrap();
        };
        for (name, days) in [("old.onnx", 31), ("young.onnx", 29), ("old.txt", 31), (".unfinished-old", 31)] {
            fs::write(file(name), "").unwrap();
            set_age(&file(name), days);
        }
        let graphs = || {
            let names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
            let mut names: Vec<_> = names.filter(|name| name != "fingerprints").collect();
            names.sort();
            names
        };
        prepare_cached(&export(), None, &cache).unwrap();
        let left = graphs();
        assert_eq!(left[1..], ["old.txt", "young.onnx"], "and the graph that was made");

        let graph = file(left[0].to_str().unwrap());
        set_age(&graph, 31);
        let written = fs::metadata(&graph).unwrap().modified().unwrap();
        assert!(prepare_cached(&export(), None, &cache).unwrap().report.from_cache);
        assert_eq!(fs::metadata(&graph).unwrap().modified().unwrap(), written, "it need not be hashed again");
        Cache::tidy(folder.path(), SystemTime::now());
        assert!(graph.exists());
        let fingerprints = || fs::read_dir(file("fingerprints")).unwrap().count();
        let before = fingerprints();
        Cache::tidy(folder.path(), SystemTime::now() + DAY * 31);
        assert_eq!((graph.exists(), fingerprints()), (false, before - 1));
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let sound = prepare_cached(&export(), None, &cache).unwrap();
        let file = only_file(folder.path());
        let whole = fs::read(&file).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[1..], b"", &[0; 40]] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(prepare_cached(&export(), None, &cache).unwrap().bytes, sound.bytes);
            assert_eq!(fs::read(&file).unwrap(), whole);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_prepared_graph_is_hashed_once_for_each_state_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let sound = prepare_cached(&export(), None, &cache).unwrap();
        let file = only_file(folder.path());
        let key = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let known = || fingerprint::kept(&file, Some(folder.path())).map(|known| known.sha256);
        let set_age = |seconds| {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            File::options().append(true).open(&file).unwrap().set_modified(time).unwrap();
        };
        set_age(3600);
        assert_eq!(known(), None);
        assert_eq!(cache.read(&key).unwrap().0, sound.bytes);
        let digest = hex(&fs::read(&file).unwrap()[..DIGEST_SIZE]);
        assert_eq!(known(), Some(digest));

        // A changed byte changes the file's record, whatever time the file is given.
        let mut damaged = fs::read(&file).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&file, damaged).unwrap();
        set_age(3600);
        assert!(cache.read(&key).is_none());
        assert_eq!(known(), None);
    }

    #[test]
    fn the_same_graph_with_other_external_data_has_another_key() {
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
        let cache = Cache::at(&folder.path().join("cache"));
        let export = folder.path().join("model.onnx");
        fs::write(&export, model.encode_to_vec()).unwrap();
        let weights = folder.path().join("weights");
        let key_now = || {
            let locations = external_locations(&mut model.clone())?;
            let external = ExternalFiles::find(folder.path(), &locations)?;
            let fingerprint = fingerprint::of_content(&export, b"export", locations).unwrap();
            key(&fingerprint, &external, None, &cache).map(|key| (key.name, key.weights_hash))
        };
        // Files of an hour ago, so that their hashes are kept.
        let key_with = |content: &[u8]| {
            fs::write(&weights, content).unwrap();
            let time = SystemTime::now() - Duration::from_secs(3600);
            File::options().append(true).open(&weights).unwrap().set_modified(time).unwrap();
            key_now().unwrap()
        };
        let (one, two) = (key_with(b"one"), key_with(b"two"));
        assert!(one.0 != two.0 && one.1 != two.1);
        assert_eq!(key_with(b"one"), key_with(b"one"));
        fs::remove_file(&weights).unwrap();
        assert!(matches!(key_now(), Err(PrepareError::ExternalData { .. })));
    }

    #[test]
    fn external_data_of_a_node_is_part_of_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("cache"));
        let mut model = ModelProto::decode(Bytes::from(fs::read(export()).unwrap())).unwrap();
        let content = move_constant_to(&mut model, "constant");
        let path = folder.path().join("model.onnx");
        fs::write(&path, model.encode_to_vec()).unwrap();
        let hash_with = |content: &[u8]| {
            fs::write(folder.path().join("constant"), content).unwrap();
            let prepared = prepare_cached(&path, None, &cache).unwrap();
            (prepared.report.from_cache, prepared.weights_hash)
        };
        let (sound, other) = (hash_with(&content), hash_with(&[7; 8]));
        assert!(!sound.0 && !other.0 && sound.1 != other.1);
        assert_eq!(hash_with(&content), (true, sound.1));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_other_weights_changes_the_key() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let source = export().with_file_name("../../models/community-qwen2/onnx");
        for (file, from) in
            [("model.onnx", "model.onnx"), ("one", "model.onnx_data"), ("two", "model.onnx_data")]
        {
            fs::copy(source.join(from), folder.path().join(file)).unwrap();
        }
        let mut changed = fs::read(folder.path().join("two")).unwrap();
        changed[0] ^= 1;
        fs::write(folder.path().join("two"), changed).unwrap();
        for file in ["model.onnx", "one", "two"] {
            let time = SystemTime::now() - Duration::from_secs(3600);
            let file = File::options().append(true).open(folder.path().join(file)).unwrap();
            file.set_modified(time).unwrap();
        }
        let cache = Cache::at(&folder.path().join("cache"));
        let link = folder.path().join("model.onnx_data");
        let from_cache = |target: &str| {
            let _absent = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            let model = folder.path().join("model.onnx");
            prepare_cached(&model, None, &cache).unwrap().report.from_cache
        };
        assert_eq!(["one", "one", "two", "two", "one"].map(from_cache), [false, true, false, true, true]);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"in the way").unwrap();
        assert!(prepare_cached(&export(), None, &Cache::at(&file)).is_ok());
        assert_eq!(only_file(folder.path()), file);
    }

    #[test]
    fn tied_and_untied_heads_are_distinguished_by_their_weights() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        assert!(prepare_cached(&export(), None, &cache).unwrap().report.tied);
        let untied = export().with_file_name("../tiny-llama/model.onnx");
        assert!(!prepare_cached(&untied, None, &cache).unwrap().report.tied);
    }
}
