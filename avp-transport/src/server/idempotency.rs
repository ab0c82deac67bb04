//! Idempotency keys: a transmission that is repeated under its key gets the first one's reply.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{store::Cache, wire::Reply};

/// How long the key of a completed transmission is remembered.
const TTL: Duration = Duration::from_secs(600);

/// The maximum number of completed transmissions that are remembered. The least recently used one is forgotten first.
const MAX_KEYS: usize = 10_000;

/// The transmissions with an idempotency key, by key.
pub(super) struct IdempotencyTable {
    records: Mutex<Records>,
    started: Instant,
}

struct Records {
    /// The CRC-32 of each frame's head. An entry neither expires nor makes room for another one: its [`Reservation`]
    /// removes it. Each belongs to a body that is being received, so the limit of bodies is also theirs.
    in_progress: HashMap<String, u32>,
    /// Each record counts as one byte, so the quota is a number of records.
    completed: Cache<Record>,
}

struct Record {
    /// The CRC-32 of the frame's head: another frame under the same key is a client's mistake.
    head_crc32: u32,
    completed: Arc<Completed>,
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
        let records = Records { in_progress: HashMap::new(), completed: Cache::new(MAX_KEYS) };
        Self { records: Mutex::new(records), started: Instant::now() }
    }

    /// Looks a key up, and reserves it where it is new. A completed transmission whose context is no longer stored
    /// counts as forgotten.
    pub(super) fn begin<'a>(
        &'a self,
        key: &'a str,
        head_crc32: u32,
        is_stored: impl Fn(&str) -> bool,
    ) -> KeyState<'a> {
        self.begin_at(self.started.elapsed(), key, head_crc32, is_stored)
    }

    /// [`begin`](Self::begin) at this time after the start.
    fn begin_at<'a>(
        &'a self,
        now: Duration,
        key: &'a str,
        head_crc32: u32,
        is_stored: impl Fn(&str) -> bool,
    ) -> KeyState<'a> {
        let mut records = self.records();
        if let Some(first) = records.in_progress.get(key) {
            return if *first == head_crc32 { KeyState::InProgress } else { KeyState::OtherFrame };
        }
        let record = records.completed.get(key, now);
        match record.filter(|record| is_stored(&record.completed.context_id)) {
            Some(record) if record.head_crc32 != head_crc32 => KeyState::OtherFrame,
            Some(record) => KeyState::Completed(record.completed.clone()),
            None => {
                records.in_progress.insert(key.to_owned(), head_crc32);
                KeyState::New(Reservation { table: self, key, completed: None })
            }
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that is reserved for a transmission. Dropping it releases the key, unless the transmission has completed.
pub(super) struct Reservation<'a> {
    table: &'a IdempotencyTable,
    key: &'a str,
    completed: Option<Arc<Completed>>,
}

impl Reservation<'_> {
    pub(super) fn complete(mut self, completed: Completed) {
        self.completed = Some(Arc::new(completed));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut records = self.table.records();
        let head_crc32 = records.in_progress.remove(self.key);
        if let (Some(head_crc32), Some(completed)) = (head_crc32, self.completed.take()) {
            let now = self.table.started.elapsed();
            // One record always fits the quota.
            let _ = records.completed.insert(self.key, Record { head_crc32, completed }, 1, TTL, now);
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

    #[test]
    fn a_completed_key_expires_and_one_in_progress_does_not() {
        let table = IdempotencyTable::new();
        let begin_at = |now, key| table.begin_at(now, key, 1, |_| true);
        complete(begin_at(Duration::ZERO, "done"), "c1");
        let slow = begin_at(Duration::ZERO, "slow");
        assert!(matches!(begin_at(TTL, "done"), KeyState::Completed(_)));
        // A second after the end, whenever within this one the transmission completed.
        let late = table.started.elapsed() + TTL + Duration::from_secs(1);
        assert!(matches!(begin_at(late, "done"), KeyState::New(_)));
        assert!(matches!(begin_at(late, "slow"), KeyState::InProgress));
        complete(slow, "c2");
        assert!(matches!(begin_at(TTL, "slow"), KeyState::Completed(_)));
    }

    #[test]
    fn the_least_recently_used_key_makes_room_and_one_in_progress_does_not() {
        let keys: Vec<String> = (0..MAX_KEYS).map(|number| number.to_string()).collect();
        let table = IdempotencyTable::new();
        let begin = |key| table.begin(key, 1, |_| true);
        let slow = begin("slow");
        keys.iter().for_each(|key| complete(begin(key), "c1"));
        assert!(matches!(begin("0"), KeyState::Completed(_)), "all of them are remembered");
        complete(begin("one more"), "c1");
        assert!(matches!(begin("0"), KeyState::Completed(_)), "it was used since");
        assert!(matches!(begin("1"), KeyState::New(_)));
        assert!(matches!(begin("slow"), KeyState::InProgress));
        complete(slow, "c2");
    }
}
