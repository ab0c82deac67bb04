//! Files that are still being received: named `.avp-….part` until they are complete.

use std::{io, path::Path};

use tempfile::NamedTempFile;

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
