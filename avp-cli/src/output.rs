//! Files and standard streams that commands read from and write to.

use std::{
    ffi::OsString,
    fmt,
    io::{IsTerminal, Read, Write, stdin, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::builder::{MapValueParser, OsStringValueParser, TypedValueParser, ValueParserFactory};

/// A file to read, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Stdin,
    File(PathBuf),
}

/// A file to write, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    File(PathBuf),
}

impl Input {
    /// The name as it was given.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "-".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Reads all of it.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => {
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
            }
            Self::Stdin => {
                ensure!(!stdin().is_terminal(), "standard input is a terminal; pipe a frame into it");
                let mut bytes = Vec::new();
                stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
                Ok(bytes)
            }
        }
    }
}

impl Output {
    /// Fails if a write could not succeed, so that nothing is computed in vain.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Stdout => {
                ensure!(
                    !stdout().is_terminal(),
                    "a frame is binary: write it to a file with -o, or into a pipe"
                );
            }
            Self::File(path) => {
                let folder = folder_of(path);
                ensure!(
                    folder.is_dir(),
                    "cannot write {}: there is no folder {}",
                    path.display(),
                    folder.display()
                );
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`, or nothing: a file appears under its name only when it is whole and on the disk. A new one is readable by
    /// this user alone, since a context is a conversation; one that is replaced keeps its permissions.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let Self::File(path) = self else {
            let mut out = stdout().lock();
            out.write_all(bytes)?;
            return Ok(out.flush()?);
        };
        let write = || -> std::io::Result<()> {
            // A device or a named pipe is written to, not replaced by a file.
            if path.exists() && !path.is_file() {
                return std::fs::write(path, bytes);
            }
            // Keeps symbolic links and permissions.
            let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let mut file = tempfile::NamedTempFile::new_in(folder_of(&path))?;
            file.write_all(bytes)?;
            if let Ok(replaced) = std::fs::metadata(&path) {
                file.as_file().set_permissions(replaced.permissions())?;
            }
            file.as_file().sync_all()?;
            file.persist(&path)?;
            sync_folder(folder_of(&path))
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

impl From<OsString> for Input {
    fn from(argument: OsString) -> Self {
        if argument == "-" { Self::Stdin } else { Self::File(argument.into()) }
    }
}

impl From<OsString> for Output {
    fn from(argument: OsString) -> Self {
        if argument == "-" { Self::Stdout } else { Self::File(argument.into()) }
    }
}

/// File names need not be UTF-8, so arguments are taken as the system gives them.
type FileParser<T> = MapValueParser<OsStringValueParser, fn(OsString) -> T>;

impl ValueParserFactory for Input {
    type Parser = FileParser<Self>;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().map(Self::from)
    }
}

impl ValueParserFactory for Output {
    type Parser = FileParser<Self>;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().map(Self::from)
    }
}

impl fmt::Display for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => formatter.write_str("standard input"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// Fails with the system's message if there is no file at `path`; a library's own message is less specific.
#[cfg(any(feature = "aacp", feature = "http"))]
pub(crate) fn must_exist(path: &Path) -> Result<()> {
    std::fs::metadata(path).map(drop).with_context(|| format!("cannot read {}", path.display()))
}

/// `text` with control characters escaped, so that a packet cannot send control sequences to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if character.is_control() {
            shown.extend(character.escape_default())
        } else {
            shown.push(character)
        }
        shown
    })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Syncs the names in a folder, so that a new one survives a power failure.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Other systems do not let a folder be opened, and give no such guarantee.
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frame.avp");
        std::fs::write(&path, b"an older and longer frame").unwrap();
        Output::File(path.clone()).write(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_an_error_before_the_work() {
        let output = Output::File("/no/such/folder/frame.avp".into());
        assert!(output.check().unwrap_err().to_string().contains("/no/such/folder"));
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_and_permissions_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("frame.avp"), folder.path().join("link.avp"));
        std::fs::write(&file, b"old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();
        Output::File(link.clone()).write(b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        Output::File(link).write(b"newer").unwrap();
        assert_eq!(mode(&file), 0o640);
        let new = folder.path().join("new.avp");
        Output::File(new.clone()).write(b"new").unwrap();
        assert_eq!(mode(&new), 0o600, "a new file is for its user alone");
    }

    #[test]
    fn a_dash_is_a_standard_stream() {
        assert_eq!(Input::from(OsString::from("-")), Input::Stdin);
        assert_eq!(Output::from(OsString::from("-")), Output::Stdout);
        assert_eq!(Input::from(OsString::from("./-")), Input::File("./-".into()));
    }
}
