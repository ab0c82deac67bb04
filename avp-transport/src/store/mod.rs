//! Contexts between the request that brings one and the one that takes it away: whole frames, in memory or in a folder.
//!
//! What is here is whole and sound: a frame is let in when its last byte has come and its checksum is right, and never
//! changes. In a folder each is a file, `ID.avp`, and outlives the process.

mod folder;
mod kept;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use avp_core::context_store::{ContextStore, DEFAULT_CONTEXT_TTL};
use bytes::Bytes;
use http::StatusCode;

pub use kept::Kept;

use crate::server::{BodyError, IncomingFrame, Refusal, new_id};

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
pub struct Contexts {
    entries: Mutex<ContextStore<Arc<Kept>>>,
    /// Where the frames lie; `None` for memory.
    folder: Option<PathBuf>,
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

    /// Contexts in files of `folder`, which is made where it is not there. Those that an earlier process kept are kept
    /// on, for a whole time to live; what it was still receiving is cleared away, and so is what is no longer sound.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn in_folder(folder: impl AsRef<Path>, keeping: Keeping) -> io::Result<Self> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder)?;
        let contexts = Self::new(Some(folder.to_owned()), keeping);
        for kept in folder::recover(folder)? {
            // One that no longer fits goes, like any other.
            if contexts.insert(Arc::new(kept)).is_err() {
                tracing::warn!("a kept context does not fit into the quota");
            }
        }
        Ok(contexts)
    }

    fn new(folder: Option<PathBuf>, keeping: Keeping) -> Self {
        let entries = Mutex::new(ContextStore::new(keeping.quota));
        Self { entries, folder, keeping, started: Instant::now() }
    }

    /// Receives a frame to its end and keeps it, under an id that nobody guesses.
    ///
    /// # Errors
    /// When it does not fit into the quota (before its body is read), or does not arrive whole and sound. Then nothing of
    /// it is kept.
    pub async fn keep(&self, frame: IncomingFrame) -> Result<Arc<Kept>, Refusal> {
        let needed = frame.head().frame_len();
        if needed > self.keeping.quota as u64 {
            let message =
                format!("a frame of {needed} bytes is more than the {} kept here", self.keeping.quota);
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "quota", message));
        }
        let (id, head) = (new_id(), frame.head().clone());
        let kept = match &self.folder {
            None => {
                let (bytes, crc32) = frame.into_bytes().await?;
                Kept::in_memory(id, head, bytes, crc32)
            }
            Some(folder) => {
                let (file, crc32) = frame.into_file(folder).await?;
                let path = folder::path_of(folder, &id);
                // The name is what makes it a context: it appears all at once.
                file.persist_noclobber(&path).map_err(|error| BodyError::from(error.error))?;
                Kept::in_file(id, head, path, crc32)
            }
        };
        let kept = Arc::new(kept);
        self.insert(kept.clone())?;
        Ok(kept)
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
        let (id, folder) = (new_id(), self.folder.clone());
        let keeping = tokio::task::spawn_blocking(move || {
            let (head, crc32) = folder::read(&frame).map_err(BodyError::from)?;
            let Some(folder) = folder else { return Ok(Kept::in_memory(id, head, frame, crc32)) };
            let path = folder::path_of(&folder, &id);
            folder::write(&folder, &path, &frame)?;
            Ok::<_, BodyError>(Kept::in_file(id, head, path, crc32))
        });
        let kept = keeping.await.unwrap_or(Err(BodyError::Storage(io::ErrorKind::Other)))?;
        let kept = Arc::new(kept);
        self.insert(kept.clone())?;
        Ok(kept)
    }

    fn insert(&self, kept: Arc<Kept>) -> Result<(), Refusal> {
        let (id, bytes) = (kept.id().to_owned(), usize::try_from(kept.len()).unwrap_or(usize::MAX));
        let gone = self.entries().insert(&id, kept.clone(), bytes, self.keeping.ttl, self.started.elapsed());
        match gone {
            Ok(gone) => {
                gone.iter().for_each(|(_, kept)| kept.discard());
                Ok(())
            }
            Err(error) => {
                kept.discard();
                Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, error.kind(), error.to_string()))
            }
        }
    }

    /// The context with this id, unless its time is over. Counts as use.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Kept>> {
        self.sweep();
        self.entries().get(id, self.started.elapsed()).cloned()
    }

    /// Lets the context with this id go; whether there was one. Whoever is reading it reads it to its end.
    pub fn remove(&self, id: &str) -> bool {
        let gone = self.get(id).is_some().then(|| self.entries().remove(id)).flatten();
        gone.inspect(|kept| kept.discard()).is_some()
    }

    /// The ids of all contexts, in their own order.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.entries().keys(self.started.elapsed()).map(str::to_owned).collect()
    }

    /// How long a new context is kept.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.keeping.ttl
    }

    /// Bytes that the contexts take.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.sweep();
        self.entries().bytes_used()
    }

    /// Lets go of what has expired.
    fn sweep(&self) {
        let gone = self.entries().take_expired(self.started.elapsed());
        gone.iter().for_each(|(_, kept)| kept.discard());
    }

    /// A panic elsewhere leaves the entries whole, so their lock's poison tells nothing.
    fn entries(&self) -> MutexGuard<'_, ContextStore<Arc<Kept>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
