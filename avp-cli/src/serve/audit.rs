//! The file of the audit log.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// The audit log's file, to append to, for this user alone.
///
/// # Errors
/// When it cannot be written.
pub(super) fn open(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).with_context(|| format!("cannot write to {}", path.display()))?;
    // The last server may have ended within a line.
    if ends_within_a_line(path) {
        file.write_all(b"\n").with_context(|| format!("cannot write to {}", path.display()))?;
    }
    Ok(file)
}

/// Whether the last byte of a file is not the end of a line.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        // Opening a pipe would wait for its writer.
        if !path.metadata()?.is_file() {
            return Ok(b'\n');
        }
        let (mut file, mut last) = (File::open(path)?, [0]);
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    // A file without a byte has no last one.
    last().is_ok_and(|last| last != b'\n')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_line_that_an_earlier_server_has_torn_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        for (before, after) in [("", "x"), ("{}\n", "{}\nx"), ("{\"ti", "{\"ti\nx")] {
            fs::write(&path, before).unwrap();
            open(&path).unwrap().write_all(b"x").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }
}
