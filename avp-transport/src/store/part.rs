//! Files that are still being received: named `.avp-….part` until they are complete.

use std::{io, path::Path};

use tempfile::NamedTempFile;
use tokio::{fs::File, io::AsyncWriteExt as _};

use super::Sealer;
use crate::files::{folder_of, sync_folder};

/// Prefix and suffix of the file name.
const PART: (&str, &str) = (".avp-", ".part");

/// Creates a part file in `folder`. It is deleted with its handle unless it is [published](publish).
pub(crate) fn create(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PART.0).suffix(PART.1).tempfile_in(folder)
}

/// Whether [`create`] gives such names.
pub(super) fn is_part(name: &str) -> bool {
    name.strip_prefix(PART.0).is_some_and(|rest| rest.ends_with(PART.1))
}

/// Renames a synced part file to `path`, which must not exist yet, and syncs the folder.
pub(super) fn publish(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist_noclobber(path)?;
    // A name that a power failure could remove must not be promised to a client.
    sync_folder(folder_of(path)).inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Writes a frame into a new part file as it arrives, sealed or not.
pub(crate) struct PartWriter {
    file: NamedTempFile,
    writer: File,
    sealer: Option<Sealer>,
}

impl PartWriter {
    pub(crate) async fn create(folder: &Path, sealer: Option<Sealer>) -> io::Result<Self> {
        let folder = folder.to_owned();
        let file = tokio::task::spawn_blocking(move || create(&folder)).await.map_err(io::Error::other)??;
        let writer = File::from_std(file.as_file().try_clone()?);
        Ok(Self { file, writer, sealer })
    }

    /// Writes more of the frame.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bytes = match &mut self.sealer {
            Some(sealer) => sealer.push(bytes)?,
            None => bytes,
        };
        self.writer.write_all(bytes).await
    }

    /// The synced file with the whole frame.
    pub(crate) async fn finish(mut self) -> io::Result<NamedTempFile> {
        if let Some(sealer) = self.sealer {
            self.writer.write_all(&sealer.finish()?).await?;
        }
        self.writer.flush().await?;
        self.writer.sync_data().await?;
        Ok(self.file)
    }
}
