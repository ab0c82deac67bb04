//! The files of a folder, sealed or not.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    open,
    seal::{self, SEAL_MEMORY, SealKeys, SealedFile, Sealer, sealed_len},
};

/// The length of a chunk that is sealed at once, in bytes.
const CHUNK: usize = 1 << 20;

/// Writes and reads the files of a folder. Clones share their keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vault(Option<Arc<RwLock<Arc<SealKeys>>>>);

impl Vault {
    /// A folder of files that are sealed with `keys`.
    pub(super) fn sealed(keys: SealKeys) -> Self {
        Self(Some(Arc::new(RwLock::new(Arc::new(keys)))))
    }

    /// Seals and opens with these keys from now on, if files are sealed at all.
    pub(super) fn replace_keys(&self, keys: SealKeys) {
        if let Some(current) = &self.0 {
            *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        }
    }

    fn keys(&self) -> Option<Arc<SealKeys>> {
        let keys = self.0.as_ref()?;
        Some(keys.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Whether files are sealed.
    pub(super) const fn is_sealed(&self) -> bool {
        self.0.is_some()
    }

    /// The length of a file with a frame of `len` bytes.
    pub(crate) fn file_len(&self, len: u64) -> u64 {
        if self.0.is_some() { sealed_len(len) } else { len }
    }

    /// The memory for writing or reading a file, in bytes, beside that of the chunks.
    pub(crate) const fn memory(&self) -> u64 {
        if self.0.is_some() { SEAL_MEMORY } else { 0 }
    }

    /// Begins a file of `owner`; `None` where files are not sealed.
    pub(crate) fn sealer(&self, owner: &str) -> io::Result<Option<Sealer>> {
        self.keys().map(|keys| keys.seal(owner)).transpose()
    }

    /// Whether a file of `owner` is sealed as it would be now: with the first key, or not at all.
    pub(super) fn is_current(&self, file: &StoredFile, owner: &str) -> bool {
        match (file, self.keys()) {
            (StoredFile::Sealed(file), Some(keys)) => keys.is_current(file, owner),
            (file, keys) => matches!(file, StoredFile::Plain(_)) == keys.is_none(),
        }
    }

    /// Writes a whole frame of `owner`.
    pub(super) fn write(&self, owner: &str, frame: &[u8], file: &mut impl Write) -> io::Result<()> {
        let Some(mut sealer) = self.sealer(owner)? else { return file.write_all(frame) };
        for chunk in frame.chunks(CHUNK) {
            file.write_all(sealer.push(chunk)?)?;
        }
        file.write_all(&sealer.finish()?)
    }

    /// Opens a file of `owner` in the folder.
    ///
    /// # Errors
    /// As [`read`](Self::read), and that of opening it.
    pub(crate) fn open(&self, path: &Path, owner: &str) -> io::Result<StoredFile> {
        self.read(open::open(path)?, owner)
    }

    /// Reads a file of `owner` from its start.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a sealed file without its key and for one that is not sealed where files are,
    /// [`io::ErrorKind::PermissionDenied`] for a sealed one where files are not,
    /// [`io::ErrorKind::InvalidData`] for one that was changed, and those of the file.
    pub(crate) fn read(&self, mut file: File, owner: &str) -> io::Result<StoredFile> {
        let error = |kind, what| Err(io::Error::new(kind, what));
        match (seal::header_of(&mut file)?, self.keys()) {
            (None, None) => Ok(StoredFile::Plain(file)),
            (Some(header), Some(keys)) => {
                Ok(StoredFile::Sealed(Box::new(SealedFile::open(file, header, &keys, owner)?)))
            }
            (Some(_), None) => error(io::ErrorKind::PermissionDenied, "it is sealed, and no keys are given"),
            // Anybody who can write to the folder could have put it there.
            (None, Some(_)) => error(io::ErrorKind::NotFound, "it is not sealed, and the folder is"),
        }
    }
}

/// A file that is read as the frame in it.
pub(crate) enum StoredFile {
    Plain(File),
    Sealed(Box<SealedFile>),
}

impl StoredFile {
    /// The length of the frame in it, in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Sealed(file) => Ok(file.len()),
        }
    }
}

impl Read for StoredFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Sealed(file) => file.read(buffer),
        }
    }
}

impl Seek for StoredFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(to),
            Self::Sealed(file) => file.seek(to),
        }
    }
}
