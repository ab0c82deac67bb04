//! Files that appear under their names whole, or not at all.

use std::{fs::File, io, path::Path};

use tempfile::NamedTempFile;

/// How the name of a file begins and ends that a store is still receiving. Nobody else names files so.
const PART: (&str, &str) = (".avp-", ".part");

/// A new file of `folder`, which goes away with its handle unless it [appears](appear).
pub(crate) fn begin(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PART.0).suffix(PART.1).tempfile_in(folder)
}

/// Whether [`begin`] gives such names.
pub(crate) fn is_part(name: &str) -> bool {
    name.strip_prefix(PART.0).is_some_and(|rest| rest.ends_with(PART.1))
}

/// Gives a file whose bytes are on the disk a name that nothing has yet, and puts the name on the disk too.
pub(crate) fn appear(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist_noclobber(path)?;
    // A name that may be gone tomorrow is no promise to keep.
    sync_folder(folder_of(path)).inspect_err(|_| drop(std::fs::remove_file(path)))
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts new names in a folder on the disk; the files themselves are there already.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and renaming is durable or not as the file system pleases.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
