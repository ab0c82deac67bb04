//! The files of a folder of contexts: their names, and what is left of them after a process has ended.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::Kept;
use crate::{
    reader::{BodyReader, FrameError, FrameLimits, Head, HeadReader, verify_packed},
    server::PART,
};

/// How the name of a whole context's file ends.
const WHOLE: &str = ".avp";

/// What was let in before, under limits that may have changed since.
const ANY: FrameLimits = FrameLimits { metadata: u32::MAX as usize, frame: u64::MAX, unpacked: usize::MAX };

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

pub(super) fn path_of(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}{WHOLE}"))
}

/// The contexts in `folder` that are whole and sound. What was still arriving goes away, and what is not sound too; other
/// files stay as they are.
pub(super) fn recover(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(PART) {
            std::fs::remove_file(&path)?;
            continue;
        }
        let Some(id) = name.strip_suffix(WHOLE).filter(|id| is_id(id)) else { continue };
        match verify(&path) {
            Ok((head, crc32)) => found.push(Kept::in_file(id.to_owned(), head, path, crc32)),
            Err(error) => {
                tracing::warn!(file = name, %error, "a kept context is not sound and is removed");
                std::fs::remove_file(&path)?;
            }
        }
    }
    Ok(found)
}

/// Whether a name is one that this store gives.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes a whole frame into a new file: it appears under its name all at once, or not at all.
pub(super) fn write(folder: &Path, path: &Path, frame: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().suffix(PART).tempfile_in(folder)?;
    file.write_all(frame)?;
    file.as_file().sync_data()?;
    file.persist_noclobber(path)?;
    Ok(())
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

/// The head of the frame in a file, and the CRC-32 of its body, once all of it was read and is right.
fn verify(path: &Path) -> io::Result<(Head, u32)> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut file = File::open(path)?;
    let mut head = HeadReader::new(ANY);
    let mut piece = vec![0; PIECE];
    let head = loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Err(invalid(&head.finish()));
        }
        if let Some((head, _)) =
            head.feed(Bytes::copy_from_slice(&piece[..read])).map_err(|error| invalid(&error))?
        {
            break head;
        }
    };
    file.seek(SeekFrom::Start(head.bytes().len() as u64))?;
    let mut body = BodyReader::new(&head);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => body.feed(&piece[..read]).map_err(|error| invalid(&error))?,
        }
    }
    let crc32 = body.finish().map_err(|error| invalid(&error))?;
    if head.is_compressed() {
        file.seek(SeekFrom::Start(head.bytes().len() as u64))?;
        verify_packed(&head, io::BufReader::new(&file), ANY.unpacked).map_err(|error| invalid(&error))?;
    }
    Ok((head, crc32))
}
