//! Stored contexts: verified frames in memory or in a folder, each under an id and for a limited time.
//!
//! A frame is stored once its last byte has arrived and its checksum matches, and never changes. In a folder each
//! context is a file, `ID.avp`, which outlives the process.

mod cache;
mod error;
mod folder;
pub(crate) mod part;
mod stored;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use avp_core::OwnedHead;
use bytes::Bytes;
use tempfile::NamedTempFile;

pub(crate) use cache::Cache;
pub use error::StoreError;
pub use stored::StoredContext;

use self::folder::Folder;
use crate::id::random_id;

/// The default quota, in bytes: 8 GiB.
pub const DEFAULT_QUOTA: usize = 8 << 30;

/// The default time to live: five minutes, as in the Python package's store.
pub const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// Contexts by id, within a quota of bytes and a time to live. Where a new context needs room, the least recently used
/// ones are removed.
///
/// ```
/// use avp_transport::store::{ContextStore, StoreOptions};
///
/// let store = ContextStore::in_memory(StoreOptions { quota: 1 << 20, ..Default::default() });
/// assert!(store.get("unknown id").is_none());
/// assert_eq!(store.bytes_used(), 0);
/// ```
#[derive(Debug)]
pub struct ContextStore(Arc<Inner>);

/// Shared with blocking tasks, which finish what they store even when their caller has stopped waiting.
#[derive(Debug)]
struct Inner {
    entries: Mutex<Cache<Arc<StoredContext>>>,
    /// The folder of the frames; `None` for memory.
    folder: Option<Folder>,
    options: StoreOptions,
    started: Instant,
}

/// How much a store keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// The maximum number of bytes of all frames together. Default: [`DEFAULT_QUOTA`].
    pub quota: usize,
    /// How long a context is kept. Default: [`DEFAULT_TTL`].
    pub ttl: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { quota: DEFAULT_QUOTA, ttl: DEFAULT_TTL }
    }
}

impl ContextStore {
    /// A store in memory.
    #[must_use]
    pub fn in_memory(options: StoreOptions) -> Self {
        Self::new(None, options)
    }

    /// A store in files of `folder`, which is created if needed and locked until the store is dropped. Contexts of an
    /// earlier process are verified and kept for a whole time to live; damaged and incomplete files are removed.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) where another store has locked the folder, which is then left
    /// untouched; or the error of creating the folder or reading a file in it, which is then kept.
    pub fn in_folder(folder: impl AsRef<Path>, options: StoreOptions) -> io::Result<Self> {
        let folder = Folder::lock(folder.as_ref())?;
        let recovered = folder.recover()?;
        let store = Self::new(Some(folder), options);
        for context in recovered {
            // The file of one that does not fit is removed, as for any other.
            if store.0.insert(context).is_err() {
                tracing::warn!("a recovered context exceeds the quota and is removed");
            }
        }
        Ok(store)
    }

    fn new(folder: Option<Folder>, options: StoreOptions) -> Self {
        let entries = Mutex::new(Cache::new(options.quota));
        Self(Arc::new(Inner { entries, folder, options, started: Instant::now() }))
    }

    /// Verifies a frame and stores it.
    ///
    /// ```
    /// use avp_core::{FrameEncoder, Metadata};
    /// use avp_transport::store::{ContextStore, StoreOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ContextStore::in_memory(StoreOptions::default());
    /// let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor")?;
    /// let context = store.insert(frame.into()).await?;
    /// assert!(store.get(context.id()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`], where the bytes are not a valid frame, or fit neither the quota nor the disk. Then nothing is
    /// stored.
    pub async fn insert(&self, frame: Bytes) -> Result<Arc<StoredContext>, StoreError> {
        let id = random_id();
        self.run_to_completion(move |inner| {
            let (head, crc32) = folder::read(&frame)?;
            inner.insert(match &inner.folder {
                None => StoredContext::in_memory(id, head, frame, crc32),
                Some(folder) => {
                    let path = folder.write(&id, &frame)?;
                    StoredContext::in_file(id, head, path, crc32)
                }
            })
        })
        .await
    }

    /// Refuses a frame that could never fit, before its body is read.
    pub(crate) fn check_len(&self, frame_len: u64) -> Result<(), StoreError> {
        let quota = self.0.options.quota as u64;
        if frame_len > quota {
            return Err(StoreError::Quota { needed: frame_len, quota });
        }
        Ok(())
    }

    /// The folder for files of this store; `None` for memory.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.0.folder.as_ref().map(Folder::path)
    }

    /// Stores a frame that has been verified as it arrived. `crc32` is that of its body on the wire.
    pub(crate) fn insert_bytes(
        &self,
        head: OwnedHead,
        frame: Bytes,
        crc32: u32,
    ) -> Result<Arc<StoredContext>, StoreError> {
        self.0.insert(StoredContext::in_memory(random_id(), head, frame, crc32))
    }

    /// As [`insert_bytes`](Self::insert_bytes), for a synced [part file](part::create) of [`folder`](Self::folder).
    pub(crate) async fn insert_file(
        &self,
        head: OwnedHead,
        file: NamedTempFile,
        crc32: u32,
    ) -> Result<Arc<StoredContext>, StoreError> {
        let id = random_id();
        self.run_to_completion(move |inner| {
            let folder = inner.folder.as_ref().ok_or(StoreError::Io(io::ErrorKind::NotFound))?;
            let path = folder.path_of(&id);
            part::publish(file, &path)?;
            inner.insert(StoredContext::in_file(id, head, path, crc32))
        })
        .await
    }

    /// Runs blocking work on a thread for it, to its end: a cancelled caller leaves no file without an entry.
    async fn run_to_completion(
        &self,
        work: impl FnOnce(&Inner) -> Result<Arc<StoredContext>, StoreError> + Send + 'static,
    ) -> Result<Arc<StoredContext>, StoreError> {
        let inner = self.0.clone();
        let outcome = tokio::task::spawn_blocking(move || work(&inner)).await;
        outcome.unwrap_or(Err(StoreError::Io(io::ErrorKind::Other)))
    }

    /// The context with this id, unless it has expired. Counts as a use.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<StoredContext>> {
        self.remove_expired();
        self.0.entries().get(id, self.0.now()).cloned()
    }

    /// Whether there is a context with this id. Does not count as a use and removes nothing.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.entries().contains(id, self.0.now())
    }

    /// Removes the context with this id and returns whether there was one. Reads that have begun go on to their end.
    pub fn remove(&self, id: &str) -> bool {
        let removed = self.get(id).is_some().then(|| self.0.entries().remove(id)).flatten();
        removed.inspect(|context| context.delete_file()).is_some()
    }

    /// The ids of all contexts, sorted.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.0.entries().keys(self.0.now()).map(str::to_owned).collect()
    }

    /// How long a new context is kept.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.0.options.ttl
    }

    /// The number of bytes of all contexts.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.remove_expired();
        self.0.entries().bytes_used()
    }

    /// Removes expired contexts. Other methods do so too, so this is for times without requests.
    pub fn remove_expired(&self) {
        let expired = self.0.entries().take_expired(self.0.now());
        expired.iter().for_each(|(_, context)| context.delete_file());
    }
}

impl Inner {
    fn insert(&self, context: StoredContext) -> Result<Arc<StoredContext>, StoreError> {
        let bytes = usize::try_from(context.len()).unwrap_or(usize::MAX);
        let context = Arc::new(context);
        let evicted =
            self.entries().insert(context.id(), context.clone(), bytes, self.options.ttl, self.now());
        match evicted {
            Ok(evicted) => {
                evicted.iter().for_each(|(_, context)| context.delete_file());
                Ok(context)
            }
            Err(_) => {
                context.delete_file();
                Err(StoreError::Quota { needed: context.len(), quota: self.options.quota as u64 })
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// No operation panics halfway through a change, so the entries behind a poisoned lock are consistent.
    fn entries(&self) -> MutexGuard<'_, Cache<Arc<StoredContext>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
