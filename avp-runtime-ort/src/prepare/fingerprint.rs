//! SHA-256 of files, cached for each state of the file.
//!
//! Weights of several gigabytes take seconds to hash. The hash is cached beside the prepared graphs, together with the file's
//! size and modification time, and on Unix its inode and change time (ctime), which a program cannot set back. A file changed
//! less than two seconds ago is hashed again the next time, because a second change could have the same time.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The hash of a file, and the external data locations of a graph. Locations are resolved every time, because a link may
/// change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    pub(super) sha256: String,
    pub(super) external: Vec<PathBuf>,
    state: State,
}

/// File metadata that changes with the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    path: PathBuf,
    size: u64,
    modified: Duration,
    /// Device, inode, and change time (seconds and nanoseconds); zeros on systems without them.
    record: [i64; 4],
}

/// Resolution of modification times: a later change within it may have the same time.
const CLOCK: Duration = Duration::from_secs(2);

/// The fingerprint of a file with known content.
pub(super) fn of_content(path: &Path, content: &[u8], external: Vec<PathBuf>) -> io::Result<Fingerprint> {
    Ok(Fingerprint { sha256: hex(&Sha256::digest(content)), external, state: State::of(path)? })
}

/// The hash of the file at `path`: read from the cache in `folder` if the state matches, else computed and cached.
pub(super) fn of_file(path: &Path, folder: Option<&Path>) -> io::Result<String> {
    if let Some(kept) = kept(path, folder) {
        return Ok(kept.sha256);
    }
    let state = State::of(path)?;
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut HashWriter(&mut hash))?;
    let fingerprint = Fingerprint { sha256: hex(&hash.finalize()), external: Vec::new(), state };
    keep(&fingerprint, folder);
    Ok(fingerprint.sha256)
}

/// The cached fingerprint of `path`, if the state of the file matches.
pub(super) fn kept(path: &Path, folder: Option<&Path>) -> Option<Fingerprint> {
    let state = State::of(path).ok()?;
    let kept: Fingerprint = serde_json::from_slice(&fs::read(state.place(folder?)).ok()?).ok()?;
    (kept.state == state).then_some(kept)
}

/// When the cached fingerprint of `path` was last written or [`used`]; `None` if there is none.
pub(super) fn last_use(path: &Path, folder: &Path) -> Option<SystemTime> {
    fs::metadata(place(path, folder)?).and_then(|metadata| metadata.modified()).ok()
}

/// Records a use of the file at `path`, in its fingerprint: touching the file itself would change its state.
pub(super) fn used(path: &Path, folder: &Path) {
    let note = |place| File::options().write(true).open(place)?.set_modified(SystemTime::now());
    // A failed write only costs time.
    let _unnoted: Option<io::Result<()>> = place(path, folder).map(note);
}

/// Removes the fingerprint of `path`.
pub(super) fn forget(path: &Path, folder: &Path) {
    let _was_none: Option<io::Result<()>> = place(path, folder).map(fs::remove_file);
}

/// The path of the cached fingerprint of `path`.
fn place(path: &Path, folder: &Path) -> Option<PathBuf> {
    Some(State::of(path).ok()?.place(folder))
}

/// Caches a fingerprint, unless its file was changed just now. A failed write only costs time and is not an error.
pub(super) fn keep(fingerprint: &Fingerprint, folder: Option<&Path>) {
    let Some(folder) = folder else { return };
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + fingerprint.state.modified);
    if age.is_ok_and(|age| age > CLOCK) {
        let write = || -> io::Result<()> {
            let place = fingerprint.state.place(folder);
            let parent = place.parent().unwrap_or(folder);
            fs::create_dir_all(parent)?;
            let mut file = tempfile::NamedTempFile::new_in(parent)?;
            file.write_all(&serde_json::to_vec(fingerprint)?)?;
            file.persist(place)?;
            Ok(())
        };
        let _unwritten = write();
    }
}

impl State {
    fn of(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let metadata = fs::metadata(&path)?;
        let modified = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Self { path, size: metadata.len(), modified, record: record(&metadata) })
    }

    fn place(&self, folder: &Path) -> PathBuf {
        let name = hex(&Sha256::digest(self.path.as_os_str().as_encoded_bytes()));
        folder.join("fingerprints").join(name).with_extension("json")
    }
}

#[cfg(unix)]
fn record(metadata: &Metadata) -> [i64; 4] {
    use std::os::unix::fs::MetadataExt;
    // Device and file numbers are only compared: wrapping keeps them apart.
    [metadata.dev() as i64, metadata.ino() as i64, metadata.ctime(), metadata.ctime_nsec()]
}

#[cfg(not(unix))]
fn record(_: &Metadata) -> [i64; 4] {
    [0; 4]
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

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &[u8], age: u64) {
        fs::write(path, content).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_hash_is_cached_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights");
        write(&file, b"one", 60);
        let first = of_file(&file, Some(folder.path())).unwrap();
        assert_eq!(kept(&file, Some(folder.path())).unwrap().sha256, first);
        write(&file, b"two", 60);
        assert_eq!(kept(&file, Some(folder.path())), None);
        assert_ne!(of_file(&file, Some(folder.path())).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_with_the_same_size_and_time_is_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("weights"), folder.path().join("other"));
        write(&file, b"one", 60);
        write(&other, b"two", 60);
        let first = of_file(&file, Some(folder.path())).unwrap();
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        File::options().append(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &file).unwrap();
        assert_ne!(of_file(&file, Some(folder.path())).unwrap(), first);
    }

    #[test]
    fn the_hash_of_a_file_changed_just_now_is_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights");
        write(&file, b"one", 0);
        of_file(&file, Some(folder.path())).unwrap();
        assert_eq!(kept(&file, Some(folder.path())), None);
    }
}
