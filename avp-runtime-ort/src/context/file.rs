//! Contexts in files: written atomically, read by memory mapping.
//!
//! The file is an ordinary frame; `docs/context-file.md` describes its metadata.

use std::{fs::File, io, path::Path};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use tempfile::NamedTempFile;

use super::{Context, FrameOptions, FrameReadOptions, frame::ALIGNMENT};
use crate::{ContextError, Runtime};

impl Context {
    /// Saves the context to `path`, with its token ids and the fingerprint of its model, if they are known. Only the owner can
    /// read the file, and it appears under its name only after it is synced.
    ///
    /// # Errors
    /// When the file cannot be written, as on a full disk, or the context exceeds 4 GiB, the limit of a frame. An existing
    /// file is then unchanged.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ContextError> {
        self.save_with(path, &FrameOptions::default())
    }

    /// [`save`](Self::save) with options for session, agents, compression and checksum. Token ids, fingerprint and alignment
    /// are always written.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_with(&self, path: impl AsRef<Path>, options: &FrameOptions) -> Result<(), ContextError> {
        let path = path.as_ref();
        let options = FrameOptions {
            token_ids: true,
            fingerprint: true,
            alignment: options.alignment.max(ALIGNMENT),
            ..options.clone()
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let failed = |error: io::Error| file_error(path, &error.to_string());
        // Dropped before it is persisted, the temporary file is removed.
        let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
        self.write_frame(file.as_file_mut(), &options).map_err(|error| match error {
            ContextError::Io { message } => file_error(path, &message),
            other => other,
        })?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        sync_folder(folder).map_err(failed)
    }

    /// Loads a context written by [`save`](Self::save), or any frame with a KV-cache, by mapping the file into memory. Pages
    /// are read on first use and shared by all processes that have loaded the file.
    ///
    /// The model is checked on use; see [`Model::accepts`](crate::Model::accepts).
    ///
    /// Verifying the checksum reads the whole file once; [`FrameReadOptions`] can skip it.
    ///
    /// # Changes to the file
    /// If another program writes into the file while it is loaded, the context changes. If it truncates the file, reading the
    /// missing part ends the process (SIGBUS). `save` to the same name creates a new file and does not change the loaded one.
    /// If other programs can write to the file, read it and use [`from_bytes`](Self::from_bytes).
    ///
    /// # Errors
    /// When the file cannot be read, or as [`from_bytes`](Self::from_bytes).
    pub fn load(
        runtime: &Runtime,
        path: impl AsRef<Path>,
        options: &FrameReadOptions,
    ) -> Result<Self, ContextError> {
        let path = path.as_ref();
        let map = map(path).map_err(|error| file_error(path, &error.to_string()))?;
        Self::from_bytes(runtime, Bytes::from_owner(map), options)
    }
}

/// Maps a non-empty file, private and read-only.
fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // Devices and pipes have no length to map, and the error of an empty mapping is not helpful.
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
    }
    // SAFETY: the mapping is private and read-only, so neither this process nor ONNX Runtime can change what it shows. That
    // nobody else changes the file is the caller's part, as `Context::load` documents: files that `save` wrote are never
    // written again under any name. Every length is taken from the mapping itself, not from an earlier look at the file.
    unsafe { MmapOptions::new().map_copy_read_only(&file) }
}

/// Syncs the folder, after the file itself is synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and renaming is durable or not as the file system pleases.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn file_error(path: &Path, message: &str) -> ContextError {
    ContextError::File { path: path.to_owned(), message: message.to_owned() }
}
