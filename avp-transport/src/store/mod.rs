//! Stored contexts: verified frames in memory or in a folder, each under an id and for a limited time.
//!
//! A frame is stored once its last byte has arrived and its checksum matches, and never changes. In a folder each
//! context is a file, `ID.avp`, with its owner and its expiry in `ID.json` beside it. Both outlive the process. The
//! files of a [sealed folder](ContextStore::in_sealed_folder) are encrypted.

mod cache;
mod error;
mod folder;
mod link;
mod open;
mod owner;
pub(crate) mod part;
mod record;
mod recovery;
mod seal;
mod stored;
mod transmission;
mod vault;

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
pub use link::{ContextLink, NotALink};
pub use owner::Owner;
#[cfg(test)]
pub(crate) use recovery::START;
#[cfg(test)]
pub(crate) use seal::SEAL_MEMORY;
pub(crate) use seal::Sealer;
pub use seal::{InvalidSealKeys, SealKeys};
#[cfg(test)]
pub(crate) use stored::MAX_READER_MEMORY;
pub use stored::StoredContext;
pub(crate) use transmission::{Digest, Transmission, sha256};
pub(crate) use vault::{StoredFile, Vault};

use self::{folder::Folder, link::LinkKey, record::Record, recovery::Recovery};
use crate::id::random_id;

/// The default quota, in bytes: 8 GiB.
pub const DEFAULT_QUOTA: usize = 8 << 30;

/// The default time to live: five minutes, as in the Python package's store.
pub const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// The memory for the index of contexts in a folder, in bytes.
pub const INDEX_MEMORY: usize = 128 << 20;

/// Files that are being received take disk in pieces of this many bytes.
pub(crate) const DISK_PIECE: u64 = 1 << 20;

/// Contexts by id, within a quota of bytes and a time to live. Where a new context needs room, the least recently used
/// ones are removed, of the owner that holds the most.
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
    recovery: Recovery,
    link_key: LinkKey,
    options: StoreOptions,
    started: Instant,
}

/// How much a store keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// The maximum number of bytes that all contexts together occupy. Default: [`DEFAULT_QUOTA`]. In memory that is the frames and what
    /// the store needs for each. In a folder it is whole blocks of 4 KiB, and a context with little data and much metadata counts for
    /// its part of the [`INDEX_MEMORY`]. Frames that are being received into a folder may occupy as much again, and a quarter more.
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
        Self::new(None, LinkKey::random(), options)
    }

    /// A store in files of `folder`, which is created for this user alone if needed, and locked until the store is dropped.
    /// Contexts of an earlier process are verified and kept until they expire; damaged and incomplete files are removed. That takes at most
    /// half a second of this call and goes on behind it; a context is found once it is verified.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) where another store has locked the folder, which is then left
    /// untouched; or the error of creating the folder or of reading a file in it, which is then kept.
    pub fn in_folder(folder: impl AsRef<Path>, options: StoreOptions) -> io::Result<Self> {
        Self::in_vault(folder.as_ref(), Vault::default(), options)
    }

    /// As [`in_folder`](Self::in_folder), in files that are sealed with `keys`. Files that are not sealed, or whose key is not among `keys`,
    /// are left alone and not found.
    ///
    /// ```no_run
    /// use avp_transport::store::{ContextStore, StoreOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let keys = std::fs::read_to_string("/etc/avp/seal-keys")?.parse()?;
    /// let store = ContextStore::in_sealed_folder("/var/lib/avp", keys, StoreOptions::default())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`in_folder`](Self::in_folder).
    pub fn in_sealed_folder(
        folder: impl AsRef<Path>,
        keys: SealKeys,
        options: StoreOptions,
    ) -> io::Result<Self> {
        Self::in_vault(folder.as_ref(), Vault::sealed(keys), options)
    }

    fn in_vault(folder: &Path, vault: Vault, options: StoreOptions) -> io::Result<Self> {
        let folder = Folder::lock(folder, vault, options.quota)?;
        let link_key = LinkKey::in_folder(folder.path(), folder.vault())?;
        let store = Self::new(Some(folder), link_key, options);
        store.0.recover()?;
        Ok(store)
    }

    fn new(folder: Option<Folder>, link_key: LinkKey, options: StoreOptions) -> Self {
        let entries = Mutex::new(Cache::new(options.quota));
        let (recovery, started) = (Recovery::default(), Instant::now());
        Self(Arc::new(Inner { entries, folder, recovery, link_key, options, started }))
    }

    /// Verifies a frame and stores it, without an owner.
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
        self.insert_for(Owner::default(), frame).await
    }

    /// As [`insert`](Self::insert), for `owner`.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub async fn insert_for(&self, owner: Owner<'_>, frame: Bytes) -> Result<Arc<StoredContext>, StoreError> {
        let (id, owner, quota) = (random_id(), owner.name.to_owned(), owner.quota);
        self.run_to_completion(move |inner| {
            let (head, crc32) = folder::read(&frame)?;
            let context = match &inner.folder {
                None => StoredContext::in_memory(id, &owner, head, frame, crc32),
                Some(folder) => {
                    let mut file = part::create(folder.path())?;
                    folder.vault().write(&owner, &frame, &mut file)?;
                    file.as_file().sync_data()?;
                    let path = folder.publish(&id, &Record::new(&owner, inner.options.ttl, None), file)?;
                    folder.context(id, &owner, head, path, crc32)
                }
            };
            inner.insert(context, quota, inner.options.ttl)
        })
        .await
    }

    /// Refuses a frame that could never fit, before its body is read.
    pub(crate) fn check_len(&self, head: &OwnedHead, owner: Owner<'_>) -> Result<(), StoreError> {
        let quota = self.0.options.quota;
        let vault = self.0.folder.as_ref().map(Folder::vault);
        let needed = stored::occupied(head, vault, quota);
        let quota = quota.min(owner.quota.unwrap_or(usize::MAX));
        if needed > quota {
            return Err(StoreError::Quota { needed: needed as u64, quota: quota as u64 });
        }
        Ok(())
    }

    /// The folder of this store; `None` for memory.
    pub(crate) fn folder(&self) -> Option<&Folder> {
        self.0.folder.as_ref()
    }

    /// Stores a frame that has been verified as it arrived. `crc32` is that of its body on the wire.
    pub(crate) fn insert_bytes(
        &self,
        owner: Owner<'_>,
        head: OwnedHead,
        frame: Bytes,
        crc32: u32,
        transmission: Option<Transmission>,
    ) -> Result<Arc<StoredContext>, StoreError> {
        let context = StoredContext::in_memory(random_id(), owner.name, head, frame, crc32);
        self.0.insert(context.with_transmission(transmission), owner.quota, self.0.options.ttl)
    }

    /// As [`insert_bytes`](Self::insert_bytes), for a synced [part file](part::create) of [`folder`](Self::folder).
    pub(crate) async fn insert_file(
        &self,
        owner: Owner<'_>,
        head: OwnedHead,
        file: NamedTempFile,
        crc32: u32,
        transmission: Option<Transmission>,
    ) -> Result<Arc<StoredContext>, StoreError> {
        let (id, owner, quota) = (random_id(), owner.name.to_owned(), owner.quota);
        self.run_to_completion(move |inner| {
            let folder = inner.folder.as_ref().ok_or(StoreError::Io(io::ErrorKind::NotFound))?;
            let path = folder.publish(&id, &Record::new(&owner, inner.options.ttl, transmission), file)?;
            let context = folder.context(id, &owner, head, path, crc32);
            inner.insert(context.with_transmission(transmission), quota, inner.options.ttl)
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
        self.get_if(id, |_| true)
    }

    /// As [`get`](Self::get), if `is_visible`. Looking at an invisible context does not count as a use.
    pub(crate) fn get_if(
        &self,
        id: &str,
        is_visible: impl Fn(&StoredContext) -> bool,
    ) -> Option<Arc<StoredContext>> {
        self.remove_expired();
        let (mut entries, now) = (self.0.entries(), self.0.now());
        if !entries.peek(id, now).is_some_and(|context| is_visible(context)) {
            return None;
        }
        entries.get(id, now).cloned()
    }

    /// A link to the context with this id, for whoever gets it, valid for `valid_for` and no longer than the store's time to live.
    /// `None` without such a context. In a folder, links outlive the process.
    ///
    /// ```
    /// use std::time::Duration;
    /// use avp_core::{FrameEncoder, Metadata};
    /// use avp_transport::store::ContextStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ContextStore::in_memory(Default::default());
    /// let context = store.insert(FrameEncoder::new(Metadata::default()).encode(b"tensor")?.into()).await?;
    /// let link = store.link(context.id(), Duration::from_secs(60)).ok_or("no context")?;
    /// assert_eq!(store.linked(&link).ok_or("no context")?.id(), context.id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn link(&self, id: &str, valid_for: Duration) -> Option<ContextLink> {
        self.contains(id).then(|| self.0.link_key.link(id, valid_for.min(self.ttl())))
    }

    /// The context of a link, unless the link or the context has expired. Counts as a use.
    #[must_use]
    pub fn linked(&self, link: &ContextLink) -> Option<Arc<StoredContext>> {
        if self.0.link_key.is_valid(link) { self.get(link.id()) } else { None }
    }

    /// Whether the link is valid and its context has yet to be verified.
    pub(crate) fn is_pending_link(&self, link: &ContextLink) -> bool {
        self.0.link_key.is_valid(link) && self.is_pending(link.id())
    }

    /// Seals and opens contexts with these keys from now on, in place of those of [`in_sealed_folder`](Self::in_sealed_folder). Responses
    /// that have begun go on.
    pub fn replace_seal_keys(&self, keys: SealKeys) {
        if let Some(folder) = &self.0.folder {
            folder.vault().replace_keys(keys);
            if let Err(error) = self.0.link_key.seal(folder.path(), folder.vault()) {
                tracing::error!(%error, "the key of the links is sealed as before: keep its key");
            }
        }
    }

    /// The same store, for work that outlives its caller.
    pub(crate) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Whether there is a context with this id. Does not count as a use and removes nothing.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.entries().contains(id, self.0.now())
    }

    /// Removes the context with this id and returns whether there was one. Reads that have begun go on to their end.
    ///
    /// # Errors
    /// [`StoreError::Io`] where its file cannot be removed: then the context stays.
    pub fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let Some(context) = self.get(id) else { return Ok(false) };
        context.delete_file()?;
        Ok(self.0.entries().remove(id).is_some())
    }

    /// The ids of all contexts, sorted.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.0.entries().keys(self.0.now()).map(str::to_owned).collect()
    }

    /// Calls `on_recovered` for each context, and for each of an earlier process that is verified later.
    pub(crate) fn for_each_recovered(&self, on_recovered: impl Fn(&StoredContext) + Send + 'static) {
        self.0.for_each_recovered(on_recovered);
    }

    /// Whether there may be a context with this id that has yet to be verified.
    #[must_use]
    pub fn is_pending(&self, id: &str) -> bool {
        self.0.recovery.is_pending(id)
    }

    /// The owner of a context of an earlier process, as its record says; `""` for none.
    pub(crate) async fn recorded_owner(&self, id: &str) -> String {
        let (inner, id) = (self.0.clone(), id.to_owned());
        let read = move || inner.folder.as_ref().map(|folder| folder.owner(&id)).unwrap_or_default();
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// Whether contexts of an earlier process have yet to be verified.
    pub(crate) fn is_recovering(&self) -> bool {
        self.0.recovery.is_going_on()
    }

    /// How long a new context is kept.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.0.options.ttl
    }

    /// The number of bytes that all contexts occupy, as [`StoreOptions::quota`] counts them.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.remove_expired();
        self.0.entries().bytes_used()
    }

    /// Removes expired contexts. Other methods do so too, so this is for times without requests.
    pub fn remove_expired(&self) {
        self.0.remove_expired();
    }
}

impl Inner {
    /// Stores a context for `ttl`, of an owner with this quota.
    fn insert(
        &self,
        context: StoredContext,
        quota: Option<usize>,
        ttl: Duration,
    ) -> Result<Arc<StoredContext>, StoreError> {
        self.remove_expired();
        let bytes = context.occupied(self.options.quota);
        let context = Arc::new(context);
        let (id, owner) = (context.id(), Owner { name: context.owner(), quota });
        let evicted = self.entries().insert(id, owner, context.clone(), bytes, ttl, self.now());
        match evicted {
            Ok(evicted) => {
                evicted.iter().for_each(|(_, context)| delete_file(context));
                Ok(context)
            }
            Err(_) => {
                delete_file(&context);
                let quota = self.options.quota.min(quota.unwrap_or(usize::MAX));
                Err(StoreError::Quota { needed: bytes as u64, quota: quota as u64 })
            }
        }
    }

    fn remove_expired(&self) {
        let expired = self.entries().take_expired(self.now());
        expired.iter().for_each(|(_, context)| delete_file(context));
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// No operation panics halfway through a change, so the entries behind a poisoned lock are consistent.
    fn entries(&self) -> MutexGuard<'_, Cache<Arc<StoredContext>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes the file of a context that is no longer stored. If that fails, the next process finds the file.
fn delete_file(context: &StoredContext) {
    if let Err(error) = context.delete_file() {
        tracing::warn!(kind = %error.kind(), "cannot remove the file of a context");
    }
}
