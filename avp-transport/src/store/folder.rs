//! A folder of contexts: its lock, the names of its files, and their recovery after a restart.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use avp_core::{BodyReader, DecodeError, FrameLimits, HeadReader, OwnedFrame, OwnedHead, verify_compressed};
use bytes::Bytes;
use tempfile::NamedTempFile;

use super::{
    DISK_PIECE, StoredContext, StoredFile, Vault, open, part,
    record::{self, Record},
    stored::ContextFile,
};

use crate::{
    files::{folder_of, sync_folder},
    server::FairShares,
};

/// The extension of a context's file.
const EXTENSION: &str = ".avp";

/// The lock file. It is never removed: that could remove the file that another process has just locked.
const LOCK: &str = ".avp-lock";

/// The number of bytes read at a time.
const CHUNK: usize = 256 << 10;

/// A folder that is locked against other processes while this exists.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// For frames that are being received, and for removed ones that are still being sent.
    disk: FairShares,
    vault: Vault,
    _lock: File,
}

impl Folder {
    /// Creates the folder if needed, and locks it. Nothing else in it changes. Beside the contexts within `quota`, it may hold as much
    /// again and a quarter more.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] where another store has locked it.
    pub(super) fn lock(path: &Path, vault: Vault, quota: usize) -> io::Result<Self> {
        create(path)?;
        let lock =
            open::open_with(File::options().write(true).create(true).truncate(false), &path.join(LOCK))
                .map_err(|error| io::Error::new(error.kind(), format!("cannot lock {LOCK}: {error}")))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another server has locked this folder")
            }
            TryLockError::Error(error) => error,
        })?;
        // So that one caller alone can send a frame as large as the quota.
        let most = (quota as u64).saturating_add(DISK_PIECE);
        let disk = FairShares::new(most.saturating_add(most.div_ceil(4)));
        Ok(Self { path: path.to_owned(), disk, vault, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The disk beside that of the contexts.
    pub(crate) fn disk(&self) -> &FairShares {
        &self.disk
    }

    /// Writes and reads its files.
    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// A verified context in the file `path`.
    pub(super) fn context(
        &self,
        id: String,
        owner: &str,
        head: OwnedHead,
        path: PathBuf,
        crc32: u32,
    ) -> StoredContext {
        let file = ContextFile { path, disk: self.disk.clone(), vault: self.vault.clone() };
        StoredContext::in_file(id, owner, head, file, crc32)
    }

    fn path_of(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}{EXTENSION}"))
    }

    /// The ids of the contexts in the folder, oldest first, which have to be [verified](Self::verify). Part files are removed, and records
    /// without a frame; other files are left alone.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub(super) fn list(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if part::is_part(name) {
                if entry.file_type()?.is_file() {
                    std::fs::remove_file(&path).map_err(|error| {
                        io::Error::new(error.kind(), format!("cannot remove {name}: {error}"))
                    })?;
                }
                continue;
            }
            let Some((id, extension)) = name.split_once('.').filter(|(id, _)| is_id(id)) else { continue };
            if EXTENSION.strip_prefix('.') == Some(extension) {
                // In this order, so that after a restart too the oldest ones make room.
                let stored = entry.metadata().and_then(|found| found.modified()).unwrap_or(UNIX_EPOCH);
                ids.push((stored, id.to_owned()));
            }
            // A record without a frame is of a frame that was not published, or was removed.
            if extension == record::EXTENSION {
                let is_gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
                if std::fs::symlink_metadata(self.path_of(id)).is_err_and(is_gone) {
                    delete(&self.path_of(id))?;
                }
            }
        }
        ids.sort_unstable();
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// The context with this id and its record, if its file is valid. A damaged or expired one is removed; what is not a file is left alone.
    ///
    /// # Errors
    /// Where a file cannot be read. It may be valid, so it is not removed.
    pub(super) fn verify(&self, id: &str) -> io::Result<Option<(StoredContext, Option<Record>)>> {
        let path = self.path_of(id);
        let unreadable = |extension: &str| {
            let name = format!("{id}.{extension}");
            move |error: io::Error| io::Error::new(error.kind(), format!("cannot read {name}: {error}"))
        };
        let extension = EXTENSION.trim_start_matches('.');
        // Opening a pipe or a device could wait for ever.
        if !std::fs::metadata(&path).map_err(unreadable(extension))?.is_file() {
            return Ok(None);
        }
        let record = match Record::read(&path) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                tracing::warn!(id, "the record of a context is damaged: it has no owner now");
                None
            }
            read => read.map_err(unreadable(record::EXTENSION))?,
        };
        if record.as_ref().is_some_and(|record| record.left().is_none()) {
            delete(&path)?;
            return Ok(None);
        }
        if record.is_none() && self.vault.is_sealed() {
            tracing::warn!(id, "a sealed context cannot be opened without its record, and is left alone");
            return Ok(None);
        }
        let owner = record.as_ref().map_or("", |record| &record.owner);
        match self.vault.open(&path, owner).map_err(VerifyError::of).and_then(verify) {
            Ok((head, crc32)) => {
                let context = self.context(id.to_owned(), owner, head, path, crc32);
                let transmission = record.as_ref().and_then(|record| record.transmission);
                Ok(Some((context.with_transmission(transmission), record)))
            }
            Err(VerifyError::Damaged(error @ DecodeError::MetadataTooLarge { .. })) => {
                tracing::warn!(id, %error, "a context has more metadata than this server reads, and is left alone");
                Ok(None)
            }
            Err(VerifyError::Damaged(error)) => {
                tracing::warn!(id, %error, "a stored context is damaged and is removed");
                delete(&path)?;
                Ok(None)
            }
            Err(VerifyError::Changed(error)) => {
                tracing::warn!(id, %error, "a sealed context is damaged and is removed");
                delete(&path)?;
                Ok(None)
            }
            Err(VerifyError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(id, %error, "a context cannot be opened, and is left alone");
                Ok(None)
            }
            Err(VerifyError::Unreadable(error)) => Err(unreadable(extension)(error)),
        }
    }

    /// The owner of the context with this id, as its record says; `""` for none.
    pub(super) fn owner(&self, id: &str) -> String {
        let record = Record::read(&self.path_of(id)).ok().flatten();
        record.map(|record| record.owner).unwrap_or_default()
    }

    /// Gives a synced part file its name, behind its record. It appears complete or not at all.
    pub(super) fn publish(&self, id: &str, record: &Record, file: NamedTempFile) -> io::Result<PathBuf> {
        let path = self.path_of(id);
        record.write(&path)?;
        part::publish(file, &path).inspect_err(|_| drop(delete(&path)))?;
        Ok(path)
    }
}

/// Deletes the file of a context and then its record, without which the context would be nobody's after a restart.
///
/// # Errors
/// Where the context stays. A record that stays alone is removed at the next start.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    let is_there = |removed: &io::Result<()>| match removed {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(()) => false,
    };
    let removed = std::fs::remove_file(path);
    if is_there(&removed) {
        return removed;
    }
    let removed = std::fs::remove_file(record::path_of(path));
    if is_there(&removed) {
        tracing::warn!("cannot remove the record of a context that is gone");
    }
    // A power failure must not bring back what was removed.
    if let Err(error) = sync_folder(folder_of(path)) {
        tracing::warn!(kind = %error.kind(), "cannot sync the folder of a context that is gone");
    }
    Ok(())
}

/// Creates a folder for this user alone, unless it exists.
fn create(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Whether this store makes such ids.
pub(super) fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Verifies a frame in memory: its head, and the CRC-32 of its body on the wire.
pub(super) fn read(frame: &Bytes) -> Result<(OwnedHead, u32), DecodeError> {
    let owned = OwnedFrame::decode(frame.clone())?;
    let frame = owned.frame();
    let mut body = BodyReader::new(frame.head());
    body.feed(frame.body())?;
    let crc32 = body.finish()?;
    if frame.is_compressed() {
        let mut rest = frame.body();
        verify_compressed(frame.head(), usize::MAX, |chunk| {
            rest.read(chunk).map_err(|_| DecodeError::Decompress { offset: frame.body_offset() })
        })?;
    }
    Ok((owned.head().clone(), crc32))
}

/// Why a file is not a valid frame.
enum VerifyError {
    /// It was read and is damaged.
    Damaged(DecodeError),
    /// It is sealed, and not as it was written.
    Changed(io::Error),
    /// It could not be read.
    Unreadable(io::Error),
}

impl VerifyError {
    /// That of reading a file.
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Changed(error),
            _ => Self::Unreadable(error),
        }
    }
}

impl<E: Into<DecodeError>> From<E> for VerifyError {
    fn from(error: E) -> Self {
        Self::Damaged(error.into())
    }
}

/// As [`read`], for a frame in a file.
fn verify(mut file: StoredFile) -> Result<(OwnedHead, u32), VerifyError> {
    // Stored frames passed the limits of their time, which may have changed since. Metadata is read into memory: its length is
    // what the file says, and the file may be anybody's.
    let limits = FrameLimits { metadata: FrameLimits::default().metadata, ..FrameLimits::NONE };
    let mut reader = HeadReader::new(limits);
    let mut chunk = vec![0; CHUNK];
    let head = loop {
        match read_some(&mut file, &mut chunk)? {
            0 => return Err(reader.finish().into()),
            read => {
                if let Some((head, _)) = reader.feed(Bytes::copy_from_slice(&chunk[..read]))? {
                    break head;
                }
            }
        }
    };
    let body_start = SeekFrom::Start(head.bytes().len() as u64);
    file.seek(body_start).map_err(VerifyError::of)?;
    let mut body = BodyReader::new(&head.head());
    loop {
        match read_some(&mut file, &mut chunk)? {
            0 => break,
            read => body.feed(&chunk[..read])?,
        }
    }
    let crc32 = body.finish()?;
    if head.header().flags().is_compressed() {
        file.seek(body_start).map_err(VerifyError::of)?;
        let mut body = io::BufReader::new(file);
        verify_compressed(&head.head(), usize::MAX, |chunk| read_some(&mut body, chunk))?;
    }
    Ok((head, crc32))
}

fn read_some(source: &mut impl io::Read, chunk: &mut [u8]) -> Result<usize, VerifyError> {
    loop {
        match source.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(VerifyError::of),
        }
    }
}
