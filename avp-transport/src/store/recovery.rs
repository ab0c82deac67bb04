//! The contexts of an earlier process: verified on a thread of their own, so that a server starts at once whatever lies in its folder.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    thread,
    time::Duration,
};

use super::{Inner, StoredContext};

/// How long a start waits for the contexts: most folders are verified by then.
pub(crate) const START: Duration = Duration::from_millis(500);

/// Called for each context that is recovered.
type OnRecovered = dyn Fn(&StoredContext) + Send;

/// What is known of the contexts of an earlier process.
#[derive(Default)]
pub(super) struct Recovery {
    /// The ids that have not been verified yet.
    pending: Mutex<BTreeSet<String>>,
    on_recovered: Mutex<Option<Box<OnRecovered>>>,
}

impl Recovery {
    /// Whether the context with this id has yet to be verified.
    pub(super) fn is_pending(&self, id: &str) -> bool {
        self.pending().contains(id)
    }

    /// Whether any context has yet to be verified.
    pub(super) fn is_going_on(&self) -> bool {
        !self.pending().is_empty()
    }

    fn pending(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_recovered(&self) -> MutexGuard<'_, Option<Box<OnRecovered>>> {
        self.on_recovered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl super::ContextStore {
    /// Makes the store one that has yet to verify these contexts, or none.
    pub(crate) fn set_pending(&self, ids: &[&str]) {
        *self.0.recovery.pending() = ids.iter().map(|id| (*id).to_owned()).collect();
    }
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("pending", &self.pending().len()).finish_non_exhaustive()
    }
}

impl Inner {
    /// Begins to verify the contexts in the folder, and returns when all of them are verified, or after [`START`]. The thread ends with the
    /// store.
    ///
    /// # Errors
    /// Where the folder cannot be read, or by then a file. Later ones are logged. None of them is removed.
    pub(super) fn recover(self: &Arc<Self>) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let ids = folder.list()?;
        if ids.is_empty() {
            return Ok(());
        }
        self.recovery.pending().extend(ids.iter().cloned());
        let (found, faults) = mpsc::channel();
        let store = Arc::downgrade(self);
        thread::Builder::new()
            .name("avp-recover".to_owned())
            .spawn(move || recover_each(&store, &ids, &found))?;
        match faults.recv_timeout(START) {
            Ok(fault) => Err(fault),
            // Either the thread has ended, or it goes on.
            Err(_) => Ok(()),
        }
    }

    /// Calls `on_recovered` for each context that is there, and for each that is recovered later.
    pub(super) fn for_each_recovered(&self, on_recovered: impl Fn(&StoredContext) + Send + 'static) {
        let mut hook = self.recovery.on_recovered();
        // While the hook is locked, none is recovered: each of them is met once.
        let there: Vec<_> = self.entries().values().cloned().collect();
        there.iter().for_each(|context| on_recovered(context));
        *hook = Some(Box::new(on_recovered));
    }

    fn recover_one(&self, id: &str) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let Some((context, record)) = folder.verify(id)? else { return Ok(()) };
        // A clock that was wrong, or a longer time to live of before, keeps no context for longer than one that comes now.
        let ttl = self.options.ttl;
        let left = record.map_or(ttl, |record| record.left().unwrap_or_default().min(ttl));
        let hook = self.recovery.on_recovered();
        // The file of one that does not fit is removed, as for any other.
        match self.insert(context, None, left) {
            Ok(context) => {
                if let Some(on_recovered) = &*hook {
                    on_recovered(&context);
                }
            }
            Err(_) => tracing::warn!(id, "a recovered context exceeds the quota and is removed"),
        }
        Ok(())
    }
}

/// Verifies one context after the other until the store is dropped. The first fault goes to the start, if that still waits.
fn recover_each(store: &Weak<Inner>, ids: &[String], found: &mpsc::Sender<io::Error>) {
    for id in ids {
        let Some(inner) = store.upgrade() else { return };
        let recovered = inner.recover_one(id);
        // What cannot be read is not served: it stays where it is, and is not found.
        inner.recovery.pending().remove(id);
        if let Err(error) = recovered
            && let Err(mpsc::SendError(error)) = found.send(error)
        {
            tracing::error!(%error, "a stored context cannot be verified");
        }
    }
}
