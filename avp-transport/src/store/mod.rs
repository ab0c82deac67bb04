//! Contexts between the request that brings one and the one that takes it away: whole frames, in memory or in a folder.
//!
//! What is here is whole and sound: a frame is let in when its last byte has come and its checksum is right, and never
//! changes. In a folder each is a file, `ID.avp`, and outlives the process.

mod folder;
mod kept;
pub(crate) mod part;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use avp_core::context_store::{ContextStore, DEFAULT_CONTEXT_TTL};
use bytes::Bytes;
use http::StatusCode;

pub use kept::Kept;

use self::folder::Folder;
use crate::{
    id::random_id,
    server::{BodyError, IncomingFrame, Refusal},
};

/// The most bytes of contexts where nobody says otherwise: 8 GiB.
pub const DEFAULT_QUOTA: usize = 8 << 30;

/// Contexts by id, within a quota of bytes and a time to live. Where a new one needs room, those that were used longest
/// ago make it.
///
/// ```
/// # use avp_transport::store::{Contexts, Keeping};
/// let contexts = Contexts::in_memory(Keeping { quota: 1 << 20, ..Default::default() });
/// assert!(contexts.get("no such id").is_none());
/// assert_eq!(contexts.bytes_used(), 0);
/// ```
#[derive(Debug)]
pub struct Contexts(Arc<Inner>);

/// What a context is kept in to the end, also where nobody waits for it any more.
#[derive(Debug)]
struct Inner {
    entries: Mutex<ContextStore<Arc<Kept>>>,
    /// Where the frames lie; `None` for memory.
    folder: Option<Folder>,
    keeping: Keeping,
    started: Instant,
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// The most bytes of frames: [`DEFAULT_QUOTA`] unless said otherwise.
    pub quota: usize,
    /// How long a context is kept: five minutes unless said otherwise, as by the peers' store.
    pub ttl: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { quota: DEFAULT_QUOTA, ttl: DEFAULT_CONTEXT_TTL }
    }
}

impl Contexts {
    /// Contexts in memory.
    #[must_use]
    pub fn in_memory(keeping: Keeping) -> Self {
        Self::new(None, keeping)
    }

    /// Contexts in files of `folder`, which is made where it is not there, and belongs to these contexts until they are
    /// dropped. Those that an earlier process kept are kept on, for a whole time to live; what it was still receiving is
    /// cleared away, and so is what is no longer sound.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) where other contexts have the folder, and nothing in it was touched; and
    /// when it cannot be made, or a file in it cannot be read, which then stays.
    pub fn in_folder(folder: impl AsRef<Path>, keeping: Keeping) -> io::Result<Self> {
        let folder = Folder::take(folder.as_ref())?;
        let found = folder.recover()?;
        let contexts = Self::new(Some(folder), keeping);
        for kept in found {
            // One that no longer fits goes, like any other.
            if contexts.0.insert(kept).is_err() {
                tracing::warn!("a kept context does not fit into the quota");
            }
        }
        Ok(contexts)
    }

    fn new(folder: Option<Folder>, keeping: Keeping) -> Self {
        let entries = Mutex::new(ContextStore::new(keeping.quota));
        Self(Arc::new(Inner { entries, folder, keeping, started: Instant::now() }))
    }

    /// Receives a frame to its end and keeps it, under an id that nobody guesses.
    ///
    /// # Errors
    /// When it does not fit into the quota (before its body is read), or does not arrive whole and sound. Then nothing of
    /// it is kept.
    pub async fn keep(&self, frame: IncomingFrame) -> Result<Arc<Kept>, Refusal> {
        let needed = frame.head().frame_len();
        let quota = self.0.keeping.quota;
        if needed > quota as u64 {
            let message = format!("a frame of {needed} bytes is more than the {quota} kept here");
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "quota", message));
        }
        let (id, head) = (random_id(), frame.head().clone());
        match &self.0.folder {
            None => {
                let (bytes, crc32) = frame.into_bytes().await?;
                self.0.insert(Kept::in_memory(id, head, bytes, crc32))
            }
            Some(folder) => {
                let (file, crc32) = frame.into_file(folder.path()).await?;
                let path = folder.path_of(&id);
                self.to_the_end(move |inner| {
                    // The name is what makes it a context: it appears all at once.
                    part::publish(file, &path).map_err(BodyError::from)?;
                    inner.insert(Kept::in_file(id, head, path, crc32))
                })
                .await
            }
        }
    }

    /// Keeps a frame that was made here.
    ///
    /// ```
    /// # use avp_core::{FrameEncoder, MetadataFields};
    /// # use avp_transport::store::{Contexts, Keeping};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), avp_transport::server::Refusal> {
    /// let contexts = Contexts::in_memory(Keeping::default());
    /// let frame = FrameEncoder::new(MetadataFields::default()).encode(b"tensor").unwrap();
    /// let kept = contexts.keep_bytes(frame.into()).await?;
    /// assert!(contexts.get(kept.id()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it is no frame, or damaged, or does not fit into the quota or on the disk. Then nothing of it is kept.
    pub async fn keep_bytes(&self, frame: Bytes) -> Result<Arc<Kept>, Refusal> {
        let id = random_id();
        self.to_the_end(move |inner| {
            let (head, crc32) = folder::read(&frame).map_err(BodyError::from)?;
            inner.insert(match &inner.folder {
                None => Kept::in_memory(id, head, frame, crc32),
                Some(folder) => {
                    let path = folder.write(&id, &frame).map_err(BodyError::from)?;
                    Kept::in_file(id, head, path, crc32)
                }
            })
        })
        .await
    }

    /// Does what may block on a thread that may, and to its end: whoever stops waiting leaves no file behind that is nobody's.
    async fn to_the_end(
        &self,
        work: impl FnOnce(&Inner) -> Result<Arc<Kept>, Refusal> + Send + 'static,
    ) -> Result<Arc<Kept>, Refusal> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|_| Err(BodyError::Storage(io::ErrorKind::Other).into()))
    }

    /// The context with this id, unless its time is over. Counts as use.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Kept>> {
        self.sweep();
        self.0.entries().get(id, self.0.now()).cloned()
    }

    /// Whether there is a context with this id. Does not count as use, and clears nothing away.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.0.entries().contains(id, self.0.now())
    }

    /// Lets the context with this id go; whether there was one. Whoever is reading it reads it to its end.
    pub fn remove(&self, id: &str) -> bool {
        let gone = self.get(id).is_some().then(|| self.0.entries().remove(id)).flatten();
        gone.inspect(|kept| kept.discard()).is_some()
    }

    /// The ids of all contexts, in their own order.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.0.entries().keys(self.0.now()).map(str::to_owned).collect()
    }

    /// How long a new context is kept.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.0.keeping.ttl
    }

    /// Bytes that the contexts take.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.sweep();
        self.0.entries().bytes_used()
    }

    /// Lets go of what has expired, as the other methods do by the way: for a time when nobody calls them.
    pub fn sweep(&self) {
        let gone = self.0.entries().take_expired(self.0.now());
        gone.iter().for_each(|(_, kept)| kept.discard());
    }
}

impl Inner {
    fn insert(&self, kept: Kept) -> Result<Arc<Kept>, Refusal> {
        let bytes = usize::try_from(kept.len()).unwrap_or(usize::MAX);
        let kept = Arc::new(kept);
        let gone = self.entries().insert(kept.id(), kept.clone(), bytes, self.keeping.ttl, self.now());
        match gone {
            Ok(gone) => {
                gone.iter().for_each(|(_, kept)| kept.discard());
                Ok(kept)
            }
            Err(error) => {
                kept.discard();
                Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, error.kind(), error.to_string()))
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A panic elsewhere leaves the entries whole, so their lock's poison tells nothing.
    fn entries(&self) -> MutexGuard<'_, ContextStore<Arc<Kept>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
