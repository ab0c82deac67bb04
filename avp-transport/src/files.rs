//! Folders of files, synced so that a rename survives a power failure.

use std::{fs::File, io, path::Path};

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The kind of an error, where [`io::ErrorKind::ResourceBusy`] is also for a process or a system with too many open files, which the
/// standard library has no kind for: it passes.
#[cfg(feature = "server")]
pub(crate) fn kind_of(error: &io::Error) -> io::ErrorKind {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) {
            return io::ErrorKind::ResourceBusy;
        }
    }
    error.kind()
}

/// Syncs the entries of a folder; the files' contents are synced already.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Other systems do not let a folder be opened, and give no such guarantee.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
