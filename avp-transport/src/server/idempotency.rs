//! Idempotency keys: a transmission that is repeated under its key gets the first one's reply.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{store::Cache, wire::Reply};

/// How long a key is remembered.
const TTL: Duration = Duration::from_secs(600);

/// The maximum number of keys that are remembered. The least recently used one is forgotten first.
const MAX_KEYS: usize = 10_000;

/// The transmissions with an idempotency key, by key.
pub(super) struct IdempotencyTable {
    /// Each record counts as one byte, so the quota is a number of records.
    records: Mutex<Cache<IdempotencyRecord>>,
    started: Instant,
}

#[derive(Clone)]
struct IdempotencyRecord {
    /// The CRC-32 of the frame's head: another frame under the same key is a client's mistake.
    head_crc32: u32,
    /// `None` while the transmission is in progress.
    completed: Option<Arc<Completed>>,
}

/// A completed transmission.
pub(super) struct Completed {
    /// The id of the stored context.
    pub(super) context_id: String,
    /// The CRC-32 of the body on the wire: a head need not name one.
    pub(super) body_crc32: u32,
    pub(super) reply: Reply,
}

/// The state of a key when a transmission with it begins.
pub(super) enum KeyState<'a> {
    /// The key is new, and reserved for this transmission.
    New(Reservation<'a>),
    /// A transmission with this key and head is in progress.
    InProgress,
    /// A transmission with this key and head has completed.
    Completed(Arc<Completed>),
    /// The key belongs to a frame with another head.
    OtherFrame,
}

impl IdempotencyTable {
    pub(super) fn new() -> Self {
        Self { records: Mutex::new(Cache::new(MAX_KEYS)), started: Instant::now() }
    }

    /// Looks a key up, and reserves it where it is new. A completed transmission whose context is no longer stored
    /// counts as forgotten.
    pub(super) fn begin<'a>(
        &'a self,
        key: &'a str,
        head_crc32: u32,
        is_stored: impl Fn(&str) -> bool,
    ) -> KeyState<'a> {
        let now = self.started.elapsed();
        let mut records = self.records();
        let is_current = |record: &IdempotencyRecord| {
            record.completed.as_ref().is_none_or(|completed| is_stored(&completed.context_id))
        };
        match records.get(key, now).filter(|record| is_current(record)).cloned() {
            Some(record) if record.head_crc32 != head_crc32 => KeyState::OtherFrame,
            Some(IdempotencyRecord { completed: Some(completed), .. }) => KeyState::Completed(completed),
            Some(IdempotencyRecord { completed: None, .. }) => KeyState::InProgress,
            None => {
                // One record always fits the quota.
                let _ = records.insert(key, IdempotencyRecord { head_crc32, completed: None }, 1, TTL, now);
                KeyState::New(Reservation { table: self, key, head_crc32, completed: None })
            }
        }
    }

    fn records(&self) -> MutexGuard<'_, Cache<IdempotencyRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that is reserved for a transmission. Dropping it releases the key, unless the transmission has completed.
pub(super) struct Reservation<'a> {
    table: &'a IdempotencyTable,
    key: &'a str,
    head_crc32: u32,
    completed: Option<Arc<Completed>>,
}

impl Reservation<'_> {
    pub(super) fn complete(mut self, completed: Completed) {
        self.completed = Some(Arc::new(completed));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let (mut records, now) = (self.table.records(), self.table.started.elapsed());
        match self.completed.take() {
            Some(completed) => {
                let record = IdempotencyRecord { head_crc32: self.head_crc32, completed: Some(completed) };
                let _ = records.insert(self.key, record, 1, TTL, now);
            }
            None => drop(records.remove(self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(reservation: KeyState<'_>, context_id: &str) {
        let KeyState::New(reservation) = reservation else { panic!("the key is taken") };
        reservation.complete(Completed {
            context_id: context_id.to_owned(),
            body_crc32: 7,
            reply: Reply::new().with("context_id", context_id),
        });
    }

    #[test]
    fn a_key_is_in_progress_until_its_transmission_completes() {
        let table = IdempotencyTable::new();
        let first = table.begin("k", 1, |_| true);
        assert!(matches!(table.begin("k", 1, |_| true), KeyState::InProgress));
        assert!(matches!(table.begin("k", 2, |_| true), KeyState::OtherFrame));
        complete(first, "c1");
        let KeyState::Completed(completed) = table.begin("k", 1, |id| id == "c1") else { panic!() };
        assert_eq!(completed.reply.text("context_id"), Some("c1"));
    }

    #[test]
    fn a_key_is_free_again_after_a_failure_and_without_its_context() {
        let table = IdempotencyTable::new();
        drop(table.begin("k", 1, |_| true));
        complete(table.begin("k", 1, |_| true), "c1");
        assert!(matches!(table.begin("k", 2, |_| false), KeyState::New(_)));
    }
}
