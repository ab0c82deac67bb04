//! A folder of contexts: whose it is, the names of its files, and what is left of them after a process has ended.

use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{Kept, part};
use crate::reader::{BodyReader, FrameError, FrameLimits, Head, HeadReader, verify_packed};

/// How the name of a whole context's file ends.
const WHOLE: &str = ".avp";

/// The file by whose lock a folder is one server's. It stays when the server ends: whoever removed it could remove the one
/// that the next server has just locked.
const LOCK: &str = ".avp-lock";

/// What was let in before, under limits that may have changed since.
const ANY: FrameLimits = FrameLimits { metadata: u32::MAX as usize, frame: u64::MAX, unpacked: usize::MAX };

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// A folder that no other process keeps contexts in, for as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is not there, and takes it. Nothing in it is touched.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] where another store has it.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let lock = File::options().write(true).create(true).truncate(false).open(path.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another server keeps contexts in this folder")
            }
            TryLockError::Error(error) => error,
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn path_of(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}{WHOLE}"))
    }

    /// The contexts that are whole and sound. What was still arriving goes away, and so does what was read and is not sound;
    /// other files stay as they are.
    ///
    /// # Errors
    /// Where a file cannot be read, which says nothing of what is in it: it stays.
    pub(super) fn recover(&self) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if part::is_part(name) {
                std::fs::remove_file(&path)?;
                continue;
            }
            let Some(id) = name.strip_suffix(WHOLE).filter(|id| is_id(id)) else { continue };
            match verify(&path) {
                Ok((head, crc32)) => found.push(Kept::in_file(id.to_owned(), head, path, crc32)),
                Err(Fault::Unsound(error)) => {
                    tracing::warn!(file = name, %error, "a kept context is not sound and is removed");
                    std::fs::remove_file(&path)?;
                }
                Err(Fault::Unreadable(error)) => {
                    return Err(io::Error::new(error.kind(), format!("{name} cannot be read: {error}")));
                }
            }
        }
        Ok(found)
    }

    /// Writes a whole frame into a new file: it appears under its name all at once, or not at all.
    pub(super) fn write(&self, id: &str, frame: &[u8]) -> io::Result<PathBuf> {
        let mut file = part::create(&self.path)?;
        file.write_all(frame)?;
        file.as_file().sync_data()?;
        let path = self.path_of(id);
        part::publish(file, &path)?;
        Ok(path)
    }
}

/// Whether a name is one that this store gives.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The head of a frame in memory, and the CRC-32 of its body, once all of it is right.
pub(super) fn read(frame: &Bytes) -> Result<(Head, u32), FrameError> {
    let mut reader = HeadReader::new(ANY);
    let Some((head, _)) = reader.feed(frame.clone())? else {
        return Err(reader.finish().into());
    };
    let mut body = BodyReader::new(&head);
    let rest = &frame[head.bytes().len()..];
    body.feed(rest)?;
    let crc32 = body.finish()?;
    if head.is_compressed() {
        verify_packed(&head, rest, ANY.unpacked)?;
    }
    Ok((head, crc32))
}

/// Why a file is not kept on.
enum Fault {
    /// It was read, and is no whole and sound frame.
    Unsound(FrameError),
    /// The system did not give what is in it.
    Unreadable(io::Error),
}

impl<E: Into<FrameError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Unsound(error.into())
    }
}

/// The head of the frame in a file, and the CRC-32 of its body, once all of it was read and is right.
fn verify(path: &Path) -> Result<(Head, u32), Fault> {
    let mut file = Noting { inner: File::open(path).map_err(Fault::Unreadable)?, fault: None };
    let outcome = verify_file(&mut file);
    // What the system did not give is no fault of the frame's, whatever its readers made of it.
    match file.fault {
        Some(fault) => Err(Fault::Unreadable(fault)),
        None => outcome,
    }
}

fn verify_file(file: &mut Noting) -> Result<(Head, u32), Fault> {
    let mut reader = HeadReader::new(ANY);
    let mut piece = vec![0; PIECE];
    let head = loop {
        match read_some(file, &mut piece)? {
            0 => return Err(reader.finish().into()),
            read => {
                if let Some((head, _)) = reader.feed(Bytes::copy_from_slice(&piece[..read]))? {
                    break head;
                }
            }
        }
    };
    file.rewind_to(&head)?;
    let mut body = BodyReader::new(&head);
    loop {
        match read_some(file, &mut piece)? {
            0 => break,
            read => body.feed(&piece[..read])?,
        }
    }
    let crc32 = body.finish()?;
    if head.is_compressed() {
        file.rewind_to(&head)?;
        verify_packed(&head, io::BufReader::new(file), ANY.unpacked)?;
    }
    Ok((head, crc32))
}

fn read_some(file: &mut Noting, piece: &mut [u8]) -> Result<usize, Fault> {
    loop {
        match file.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map_err(Fault::Unreadable),
        }
    }
}

/// A file that remembers what the system failed in.
struct Noting {
    inner: File,
    fault: Option<io::Error>,
}

impl Noting {
    /// Goes back to where the body begins.
    fn rewind_to(&mut self, head: &Head) -> Result<(), Fault> {
        let place = SeekFrom::Start(head.bytes().len() as u64);
        self.inner.seek(place).map(drop).map_err(Fault::Unreadable)
    }
}

impl io::Read for Noting {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        self.inner.read(piece).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.fault.get_or_insert(error);
            }
            kind.into()
        })
    }
}
