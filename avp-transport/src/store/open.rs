//! Opens the files of a folder in which anything may lie, such as a pipe under the name of a context.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

/// Opens a file to read it.
///
/// # Errors
/// As [`open_with`].
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true), path)
}

/// Opens a file. Opening a pipe or a device could wait for ever, so the system is asked not to wait before it is known what it is.
///
/// # Errors
/// Those of the system, and [`io::ErrorKind::NotFound`] for what is not a file.
pub(super) fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let not_a_file = || io::Error::new(io::ErrorKind::NotFound, "expected a file, got something else");
    match options.open(path) {
        // A pipe without a reader cannot be opened for writing, and a folder for nothing but reading.
        Err(_) if path.metadata().is_ok_and(|found| !found.is_file()) => Err(not_a_file()),
        opened => {
            let file = opened?;
            if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for other in [&*pipe, folder.path(), Path::new("/dev/null")] {
            let refused =
                [open(other), open_with(File::options().write(true), other)].map(Result::unwrap_err);
            assert_eq!(
                refused.map(|error| error.kind()),
                [io::ErrorKind::NotFound; 2],
                "{}",
                other.display()
            );
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(io::read_to_string(open(&file).unwrap()).unwrap(), "x");
    }
}
