//! The record beside a context's file: its owner and its expiry, which outlive the process.

use std::{
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Transmission, open, part};
use crate::files::folder_of;

/// The extension of a record's file, after the name of the context's.
pub(super) const EXTENSION: &str = "json";

/// The longest record, in bytes.
const MAX_LEN: u64 = 64 << 10;

/// What a context's frame does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The principal that the context belongs to; `""` for none.
    pub(super) owner: String,
    /// When it expires, in milliseconds since 1970.
    expires: u64,
    /// The request that stored it, if it had an idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transmission: Option<Transmission>,
}

impl Record {
    /// The record of a context that `owner` stores now, for `ttl`.
    pub(super) fn new(owner: &str, ttl: Duration, transmission: Option<Transmission>) -> Self {
        Self { owner: owner.to_owned(), expires: millis(now().saturating_add(ttl)), transmission }
    }

    /// The time that is left; `None` if it has expired.
    pub(super) fn left(&self) -> Option<Duration> {
        Duration::from_millis(self.expires).checked_sub(now()).filter(|left| !left.is_zero())
    }

    /// Writes the record of the context in the file `frame`, which does not exist yet. Publishing that file syncs both names.
    pub(super) fn write(&self, frame: &Path) -> io::Result<()> {
        let mut file = part::create(folder_of(frame))?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.as_file().sync_data()?;
        file.persist_noclobber(path_of(frame))?;
        Ok(())
    }

    /// The record of the context in the file `frame`; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not a record.
    pub(super) fn read(frame: &Path) -> io::Result<Option<Self>> {
        let file = match open::open(&path_of(frame)) {
            // What is not a file is no record either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        Ok(Some(serde_json::from_reader(io::BufReader::new(file.take(MAX_LEN)))?))
    }
}

/// The file of the record of the context in the file `frame`.
pub(super) fn path_of(frame: &Path) -> PathBuf {
    frame.with_extension(EXTENSION)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_expires_at_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let frame = folder.path().join("c1.avp");
        assert_eq!(Record::read(&frame).unwrap(), None);
        let transmission = Transmission { key: [1; 32], head: [255; 32] };
        let record = Record::new("alice \"a\"\n", Duration::from_secs(100), Some(transmission));
        record.write(&frame).unwrap();
        assert_eq!(Record::read(&frame).unwrap(), Some(record.clone()));
        assert!(record.left().is_some_and(|left| left <= Duration::from_secs(100)));
        assert_eq!(Record { expires: 1, ..record }.left(), None);
        std::fs::write(path_of(&frame), "{}").unwrap();
        assert!(Record::read(&frame).is_err());
    }
}
