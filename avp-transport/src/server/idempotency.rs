//! Idempotency keys: a transmission that is repeated under its key gets the first one's context.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::store::{Cache, Digest, StoredContext, Transmission};

/// How long the key of a completed transmission is remembered.
const TTL: Duration = Duration::from_secs(600);

/// The maximum number of completed transmissions that are remembered. The least recently used one of the principal with the most is
/// forgotten first.
pub(super) const MAX_KEYS: usize = 10_000;

/// The transmissions with an idempotency key, by the SHA-256 of principal and key.
pub(super) struct IdempotencyTable {
    records: Mutex<Records>,
    started: Instant,
}

struct Records {
    /// The SHA-256 of each frame's head. An entry neither expires nor makes room for another one: its [`Reservation`]
    /// removes it. Each belongs to a body that is being received, so the limit of bodies is also theirs.
    in_progress: HashMap<Digest, Digest>,
    /// Each record counts as one byte, so the quota is a number of records.
    completed: Cache<Completed>,
}

/// A completed transmission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Completed {
    /// The id of the stored context.
    pub(super) context_id: String,
    pub(super) transmission: Transmission,
}

impl Completed {
    /// The transmission that stored `context`, if it had an idempotency key.
    pub(super) fn of(context: &StoredContext) -> Option<Self> {
        Some(Self { context_id: context.id().to_owned(), transmission: *context.transmission()? })
    }
}

/// The state of a key when a transmission with it begins.
pub(super) enum KeyState {
    /// The key is new, and reserved for this transmission.
    New(Reservation),
    /// A transmission with this key and head is in progress.
    InProgress,
    /// A transmission with this key and head has completed.
    Completed(Completed),
    /// The key belongs to a frame with another head.
    OtherFrame,
}

impl IdempotencyTable {
    pub(super) fn new() -> Arc<Self> {
        let records = Records { in_progress: HashMap::new(), completed: Cache::new(MAX_KEYS) };
        Arc::new(Self { records: Mutex::new(records), started: Instant::now() })
    }

    /// Looks a key up, and reserves it for `owner` where it is new. A completed transmission whose context is no longer stored
    /// counts as forgotten.
    pub(super) fn begin(
        self: &Arc<Self>,
        owner: &str,
        key: Digest,
        head: Digest,
        is_stored: impl Fn(&str) -> bool,
    ) -> KeyState {
        self.begin_at(self.started.elapsed(), owner, key, head, is_stored)
    }

    /// [`begin`](Self::begin) at this time after the start.
    fn begin_at(
        self: &Arc<Self>,
        now: Duration,
        owner: &str,
        key: Digest,
        head: Digest,
        is_stored: impl Fn(&str) -> bool,
    ) -> KeyState {
        let mut records = self.records();
        if let Some(first) = records.in_progress.get(&key) {
            return if *first == head { KeyState::InProgress } else { KeyState::OtherFrame };
        }
        let completed = records.completed.get(&name(&key), now);
        match completed.filter(|completed| is_stored(&completed.context_id)) {
            Some(completed) if completed.transmission.head != head => KeyState::OtherFrame,
            Some(completed) => KeyState::Completed(completed.clone()),
            None => {
                records.in_progress.insert(key, head);
                let (table, owner) = (self.clone(), owner.to_owned());
                KeyState::New(Reservation { table, owner, key, completed: None })
            }
        }
    }

    /// Remembers a completed transmission of `owner`.
    pub(super) fn remember(&self, owner: &str, completed: Completed) {
        let (key, now) = (name(&completed.transmission.key), self.started.elapsed());
        let mut records = self.records();
        records.completed.take_expired(now);
        // One record always fits.
        let _ = records.completed.insert(&key, owner.into(), completed, 1, TTL, now);
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that is reserved for a transmission. Dropping it releases the key, unless the transmission has completed. It belongs to the
/// work of storing the frame, which goes on when the client that waits for it has gone.
pub(super) struct Reservation {
    table: Arc<IdempotencyTable>,
    owner: String,
    key: Digest,
    completed: Option<Completed>,
}

impl Reservation {
    pub(super) fn complete(mut self, completed: Completed) {
        self.completed = Some(completed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Remembered first: between the two, a repetition must not find the key free.
        if let Some(completed) = self.completed.take() {
            self.table.remember(&self.owner, completed);
        }
        self.table.records().in_progress.remove(&self.key);
    }
}

fn name(key: &Digest) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Digest = [1; 32];

    fn key(name: &str) -> Digest {
        crate::store::sha256(name.as_bytes())
    }

    fn complete(reservation: KeyState, context_id: &str) {
        let KeyState::New(reservation) = reservation else { panic!("the key is taken") };
        let transmission = Transmission { key: reservation.key, head: HEAD };
        reservation.complete(Completed { context_id: context_id.to_owned(), transmission });
    }

    #[test]
    fn a_key_is_in_progress_until_its_transmission_completes() {
        let table = IdempotencyTable::new();
        let begin = |head| table.begin("", key("k"), head, |id| id == "c1");
        let first = begin(HEAD);
        assert!(matches!(begin(HEAD), KeyState::InProgress));
        assert!(matches!(begin([2; 32]), KeyState::OtherFrame));
        complete(first, "c1");
        let KeyState::Completed(completed) = begin(HEAD) else { panic!() };
        assert_eq!(completed.context_id, "c1");
        assert!(matches!(begin([2; 32]), KeyState::OtherFrame));
    }

    #[test]
    fn a_key_is_free_again_after_a_failure_and_without_its_context() {
        let table = IdempotencyTable::new();
        drop(table.begin("", key("k"), HEAD, |_| true));
        complete(table.begin("", key("k"), HEAD, |_| true), "c1");
        assert!(matches!(table.begin("", key("k"), [2; 32], |_| false), KeyState::New(_)));
    }

    #[test]
    fn a_completed_key_expires_and_one_in_progress_does_not() {
        let table = IdempotencyTable::new();
        let begin_at = |now, name| table.begin_at(now, "", key(name), HEAD, |_| true);
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
    fn the_least_recently_used_key_of_the_same_owner_makes_room_and_one_in_progress_does_not() {
        let keys: Vec<String> = (1..MAX_KEYS).map(|number| number.to_string()).collect();
        let table = IdempotencyTable::new();
        let begin = |owner, name: &str| table.begin(owner, key(name), HEAD, |_| true);
        let slow = begin("a", "slow");
        complete(begin("b", "0"), "c0");
        keys.iter().for_each(|name| complete(begin("a", name), "c1"));
        assert!(matches!(begin("a", "1"), KeyState::Completed(_)), "all of them are remembered");
        complete(begin("a", "one more"), "c1");
        assert!(matches!(begin("a", "1"), KeyState::Completed(_)), "it was used since");
        assert!(matches!(begin("a", "2"), KeyState::New(_)));
        assert!(matches!(begin("b", "0"), KeyState::Completed(_)), "it is another one's");
        assert!(matches!(begin("a", "slow"), KeyState::InProgress));
        complete(slow, "c2");
    }
}
