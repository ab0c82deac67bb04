//! Contexts on disk: written whole or not at all, read by mapping.
//!
//! The file is an ordinary frame; `docs/context-file.md` says what its metadata hold.

use std::{fs::File, io, path::Path};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use tempfile::NamedTempFile;

use super::{Context, FrameOptions, FrameReadOptions, frame::ALIGNMENT};
use crate::{ContextError, Runtime};

impl Context {
    /// Saves the context to `path` with the tokens it was computed from and the fingerprint of its model, where it knows
    /// them. The file is readable for its owner alone, and appears under its name only when all of it is on the disk.
    ///
    /// # Errors
    /// When the file cannot be written, as on a full disk, or the context is longer than a frame can hold, 4 GiB. Whatever
    /// was there under the name before is then still there.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ContextError> {
        self.save_with(path, &FrameOptions::default())
    }

    /// [`save`](Self::save) with names of session and agents, compression or without a checksum, as `options` say; tokens,
    /// fingerprint and alignment are always there.
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

    /// Loads a context that [`save`](Self::save) wrote, or any frame with a KV-cache, by mapping the file into memory: its
    /// pages are read when they are needed, and shared by all processes that have it loaded.
    ///
    /// Whether it fits a model is decided where it is used: [`Model::accepts`](crate::Model::accepts).
    ///
    /// Verifying the checksum reads the whole file once; [`FrameReadOptions`] can leave it out.
    ///
    /// # The file must stay as it is
    /// A file that another program cuts short or writes into while it is loaded changes under the context's feet: reading
    /// what was cut off ends the process (SIGBUS). Nothing in this crate does that; `save` to the same name makes a
    /// new file and leaves the loaded one intact. Where others may write, read the file and use
    /// [`from_bytes`](Self::from_bytes).
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

/// Maps a file that is not empty, privately and for reading.
fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // A device or a pipe has no length to map, and a mapping of no bytes is refused in words that help nobody.
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

/// Puts the new name on the disk; the file itself is there already.
fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and renaming is durable or not as the file system pleases.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn file_error(path: &Path, message: &str) -> ContextError {
    ContextError::File { path: path.to_owned(), message: message.to_owned() }
}
