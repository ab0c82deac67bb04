//! One stored context.

use std::{
    collections::HashMap,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use avp_core::OwnedHead;
use bytes::Bytes;

use super::{INDEX_MEMORY, StoredFile, Transmission, Vault, folder};
use crate::server::{Caller, FairShares, NoRoom, Share};

/// The length of a chunk that is read from a file, in bytes.
const FILE_CHUNK: usize = 256 << 10;

/// The length of a chunk of memory, in bytes. Between two chunks a server notices whether the client still reads.
const MEMORY_CHUNK: usize = 1 << 20;

/// What the store needs for a context beside its bytes and its head, in bytes: its id as a key in four maps, its tag, its owner.
const PER_CONTEXT: usize = 1536;

/// Files occupy whole blocks, of this many bytes on most systems.
const BLOCK: u64 = 4096;

/// The memory of a response from a file, in bytes: the chunks that a connection may hold of it.
pub(crate) const MAX_READER_MEMORY: u64 = 2 * FILE_CHUNK as u64;

/// A verified frame in a [`ContextStore`](super::ContextStore).
#[derive(Debug)]
pub struct StoredContext {
    id: String,
    /// `""` for none.
    owner: String,
    head: OwnedHead,
    etag: String,
    location: Location,
    transmission: Option<Transmission>,
    /// What callers pay for while they are sent the context, each once for all of its readers.
    readers: Mutex<HashMap<Caller, Weak<Share>>>,
}

#[derive(Debug)]
enum Location {
    Memory(Bytes),
    File(ContextFile),
}

/// The file of a context.
#[derive(Debug)]
pub(super) struct ContextFile {
    pub(super) path: PathBuf,
    /// That of the folder, beside the quota.
    pub(super) disk: FairShares,
    /// That of the folder.
    pub(super) vault: Vault,
}

impl ContextFile {
    /// Opens the file, which is `owner`'s and has a frame of `len` bytes, on another thread.
    fn opener(&self, owner: &str, len: u64) -> impl FnOnce() -> io::Result<StoredFile> + Send + 'static {
        let (vault, path, owner) = (self.vault.clone(), self.path.clone(), owner.to_owned());
        move || {
            let file = vault.open(&path, &owner)?;
            // Memory and disk were taken for the frame that was verified.
            match file.len()? {
                found if found == len => Ok(file),
                found => {
                    let message = format!("expected a frame of {len} bytes, got {found}: it was exchanged");
                    Err(io::Error::new(io::ErrorKind::InvalidData, message))
                }
            }
        }
    }
}

impl StoredContext {
    pub(super) fn in_memory(id: String, owner: &str, head: OwnedHead, bytes: Bytes, crc32: u32) -> Self {
        Self::new(id, owner, head, crc32, Location::Memory(bytes))
    }

    pub(super) fn in_file(id: String, owner: &str, head: OwnedHead, file: ContextFile, crc32: u32) -> Self {
        Self::new(id, owner, head, crc32, Location::File(file))
    }

    fn new(id: String, owner: &str, head: OwnedHead, crc32: u32, location: Location) -> Self {
        let etag = etag(&head, crc32);
        let (owner, readers) = (owner.to_owned(), Mutex::default());
        Self { id, owner, head, etag, location, transmission: None, readers }
    }

    pub(super) fn with_transmission(self, transmission: Option<Transmission>) -> Self {
        Self { transmission, ..self }
    }

    /// The request that stored it, if it had an idempotency key.
    pub(crate) const fn transmission(&self) -> Option<&Transmission> {
        self.transmission.as_ref()
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The principal that it belongs to; `""` for none.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Header and metadata.
    #[must_use]
    pub const fn head(&self) -> &OwnedHead {
        &self.head
    }

    /// Length of the frame, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame has a header")]
    pub fn len(&self) -> u64 {
        self.head.header().frame_len()
    }

    /// The entity tag, quotes included: made of the checksums of head and body, and of the length.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The whole frame: shared where it is in memory, read where it is in a file.
    ///
    /// # Errors
    /// The error of reading the file.
    pub async fn bytes(&self) -> io::Result<Bytes> {
        match &self.location {
            Location::Memory(bytes) => Ok(bytes.clone()),
            Location::File(file) => {
                let len = usize::try_from(self.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
                let open = file.opener(&self.owner, self.len());
                let read = blocking(move || {
                    let mut bytes = Vec::with_capacity(len);
                    // It may grow while it is read.
                    open()?.take(len as u64).read_to_end(&mut bytes)?;
                    Ok(bytes)
                });
                Ok(read.await?.into())
            }
        }
    }

    /// The number of bytes that the context occupies within a quota, see [`StoreOptions::quota`](super::StoreOptions::quota).
    pub(super) fn occupied(&self, quota: usize) -> usize {
        let vault = match &self.location {
            Location::Memory(_) => None,
            Location::File(file) => Some(&file.vault),
        };
        occupied(&self.head, vault, quota)
    }

    /// The share of a caller that is sent this context: of `memory` where it is in memory, else of the store's disk. The context may be
    /// removed meanwhile, and then its quota counts it no more.
    ///
    /// # Errors
    /// [`NoRoom`] where the caller is sent too many contexts.
    pub(crate) fn reader(&self, caller: &Caller, memory: &FairShares) -> Result<Arc<Share>, NoRoom> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = readers.get(caller).and_then(Weak::upgrade) {
            return Ok(share);
        }
        let pool = match &self.location {
            Location::Memory(_) => memory,
            Location::File(file) => &file.disk,
        };
        let share = Arc::new(pool.take(caller, self.len())?);
        readers.retain(|_, reader| reader.strong_count() > 0);
        readers.insert(caller.clone(), Arc::downgrade(&share));
        Ok(share)
    }

    /// The memory that reading it takes, in bytes, beside what is read. Bytes in memory are shared, not copied.
    #[must_use]
    pub const fn reader_memory(&self) -> u64 {
        match &self.location {
            Location::Memory(_) => 0,
            Location::File(file) => MAX_READER_MEMORY + file.vault.memory(),
        }
    }

    /// Reads the bytes of `range`, which lies within the frame, chunk by chunk.
    pub(crate) async fn read(&self, range: Range<u64>) -> io::Result<ContextReader> {
        match &self.location {
            // Both ends are at most the length of these bytes.
            Location::Memory(bytes) => {
                Ok(ContextReader::Memory(bytes.slice(range.start as usize..range.end as usize)))
            }
            Location::File(file) => {
                let open = file.opener(&self.owner, self.len());
                let file = blocking(move || {
                    let mut file = open()?;
                    file.seek(SeekFrom::Start(range.start))?;
                    Ok(file)
                });
                Ok(ContextReader::File { file: Some(file.await?), remaining: range.end - range.start })
            }
        }
    }

    /// Deletes the files, if the context is in some.
    pub(super) fn delete_file(&self) -> io::Result<()> {
        match &self.location {
            Location::Memory(_) => Ok(()),
            Location::File(file) => folder::delete(&file.path),
        }
    }
}

/// Reads part of a stored context. An open file can be read to its end after it was deleted.
pub(crate) enum ContextReader {
    Memory(Bytes),
    /// The file is `None` after an error.
    File {
        file: Option<StoredFile>,
        remaining: u64,
    },
}

impl ContextReader {
    /// The next bytes, never empty; `None` at the end. Bytes in memory are shared, not copied.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Memory(rest) => {
                let chunk = rest.split_to(rest.len().min(MEMORY_CHUNK));
                Ok((!chunk.is_empty()).then_some(chunk))
            }
            Self::File { remaining: 0, .. } => Ok(None),
            Self::File { file, remaining } => {
                let (mut source, len) = (file.take().ok_or(io::ErrorKind::BrokenPipe)?, *remaining);
                let (source, chunk) = blocking(move || {
                    let mut chunk = vec![0; FILE_CHUNK.min(len as usize)];
                    source.read_exact(&mut chunk)?;
                    Ok((source, chunk))
                })
                .await?;
                *file = Some(source);
                *remaining -= chunk.len() as u64;
                Ok(Some(chunk.into()))
            }
        }
    }
}

/// Runs work on a file on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The number of bytes that a context with this head occupies within a quota, in memory or in a file of `vault`.
pub(super) fn occupied(head: &OwnedHead, vault: Option<&Vault>, quota: usize) -> usize {
    let (index, len) = (PER_CONTEXT.saturating_add(head.bytes().len()), head.header().frame_len());
    let Some(vault) = vault else {
        return index.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
    };
    // The frame, and the record beside it.
    let blocks = vault.file_len(len).next_multiple_of(BLOCK).saturating_add(BLOCK);
    usize::try_from(blocks).unwrap_or(usize::MAX).max(index.saturating_mul(quota.div_ceil(INDEX_MEMORY)))
}

fn etag(head: &OwnedHead, crc32: u32) -> String {
    format!("\"{:08x}-{crc32:08x}-{:x}\"", avp_core::crc32(head.bytes()), head.header().frame_len())
}

#[cfg(test)]
mod tests {
    use avp_core::{FrameEncoder, Metadata};

    use super::*;

    fn file(disk: u64) -> ContextFile {
        ContextFile { path: PathBuf::new(), disk: FairShares::new(disk), vault: Vault::default() }
    }

    #[test]
    fn a_context_occupies_more_than_its_bytes() {
        let frame: Bytes = FrameEncoder::new(Metadata::default()).encode(&[7; 5000]).unwrap().into();
        let head = OwnedHead::decode(&frame).unwrap();
        let index = PER_CONTEXT + head.bytes().len();
        let in_memory = StoredContext::in_memory("id".into(), "", head.clone(), frame.clone(), 0);
        assert_eq!(in_memory.occupied(usize::MAX), frame.len() + index);
        let in_file = StoredContext::in_file("id".into(), "", head, file(0), 0);
        assert_eq!(in_file.occupied(INDEX_MEMORY), 3 * 4096);
        assert_eq!(in_file.occupied(64 * INDEX_MEMORY), 64 * index);
    }

    #[test]
    fn a_caller_pays_once_for_all_readers_of_a_context_and_until_the_last_has_gone() {
        let frame: Bytes = FrameEncoder::new(Metadata::default()).encode(&[7; 5000]).unwrap().into();
        let head = OwnedHead::decode(&frame).unwrap();
        let context = StoredContext::in_memory("id".into(), "", head.clone(), frame.clone(), 0);
        let memory = FairShares::new(10 * frame.len() as u64);
        let caller = |name: &str| Caller::Principal(name.to_owned());
        let first = context.reader(&caller("a"), &memory).unwrap();
        let second = context.reader(&caller("a"), &memory).unwrap();
        let other = context.reader(&caller("b"), &memory).unwrap();
        assert_eq!(memory.taken(), 2 * frame.len() as u64);
        drop((first, other, context));
        assert_eq!(memory.taken(), frame.len() as u64, "the context is gone, and one reader is not");
        drop(second);
        assert_eq!(memory.taken(), 0);
        let in_file = StoredContext::in_file("id".into(), "", head, file(10), 0);
        assert!(in_file.reader(&caller("a"), &memory).is_err());
    }

    #[test]
    fn the_index_of_a_folder_is_limited_whatever_its_quota() {
        let frame: Bytes = FrameEncoder::new(Metadata::default()).encode(b"").unwrap().into();
        let head = OwnedHead::decode(&frame).unwrap();
        let index = PER_CONTEXT + head.bytes().len();
        let context = StoredContext::in_file("id".into(), "", head, file(0), 0);
        for quota in [1, INDEX_MEMORY, 2 * INDEX_MEMORY - 1, 8 << 30, 1 << 40] {
            assert!(quota / context.occupied(quota) * index <= INDEX_MEMORY, "{quota}");
        }
    }
}
