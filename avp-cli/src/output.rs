//! Files and standard streams that commands read from and write to.

use std::{
    convert::Infallible,
    fmt,
    io::{IsTerminal, Read, Write, stdin, stdout},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, ensure};

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
    /// Fails early where a write could not succeed, before anything is computed for it.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Stdout => {
                ensure!(
                    !stdout().is_terminal(),
                    "a frame is binary; send it to a file with -o, or into a pipe"
                );
            }
            Self::File(path) => {
                let folder = folder_of(path);
                ensure!(folder.is_dir(), "cannot write {}: no folder {}", path.display(), folder.display());
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`, or nothing: a file appears under its name only when it is whole.
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
            let mut file = shareable().tempfile_in(folder_of(path))?;
            file.write_all(bytes)?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

impl FromStr for Input {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stdin } else { Self::File(text.into()) })
    }
}

impl FromStr for Output {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
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

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Temporary files are private; a frame gets what a plain `open` would give it.
fn shareable() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
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
    fn a_folder_that_is_not_there_is_found_out_before_the_work() {
        let output = Output::File("/no/such/folder/frame.avp".into());
        assert!(output.check().unwrap_err().to_string().contains("/no/such/folder"));
    }

    #[test]
    fn a_dash_is_a_standard_stream() {
        assert_eq!("-".parse(), Ok(Input::Stdin));
        assert_eq!("-".parse(), Ok(Output::Stdout));
        assert_eq!("./-".parse(), Ok(Input::File("./-".into())));
    }
}
