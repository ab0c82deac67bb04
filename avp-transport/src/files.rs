//! Folders of files, synced so that a rename survives a power failure.

use std::{fs::File, io, path::Path};

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs the entries of a folder; the files' contents are synced already.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Other systems do not let a folder be opened, and give no such guarantee.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
