//! A store for contexts between the request that makes them and the one that uses them: each has a key, a size and a
//! time to live, all together a quota.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::{fmt, time::Duration};

/// How long a context lives where nobody says otherwise: five minutes, as for the peers.
pub const DEFAULT_CONTEXT_TTL: Duration = Duration::from_secs(300);

/// Contexts by key, within a quota of bytes.
///
/// When a new context needs room, the ones that were used longest ago make it. A pinned context stays whatever happens:
/// it neither makes room nor expires until it is unpinned. `now` is the time since any moment that the caller keeps to.
///
/// # Examples
///
/// ```
/// # use avp_core::context_store::ContextStore;
/// # use core::time::Duration;
/// let (mut store, now, ttl) = (ContextStore::new(100), Duration::ZERO, Duration::from_secs(60));
/// store.insert("a", "context of a", 60, ttl, now)?;
/// let evicted = store.insert("b", "context of b", 60, ttl, now)?;
/// assert_eq!(evicted, [("a".to_string(), "context of a")]);
/// assert_eq!(store.get("b", now), Some(&"context of b"));
/// # Ok::<(), avp_core::context_store::QuotaError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ContextStore<T> {
    entries: BTreeMap<String, Entry<T>>,
    /// Keys by time of last use; holds exactly the keys of `entries` that are not pinned.
    by_use: BTreeMap<u64, String>,
    /// Keys by when they expire and when they were last used; the same keys.
    by_expiry: BTreeMap<(Duration, u64), String>,
    /// The sum of all entries' `bytes`; never above `quota`.
    used: usize,
    /// The sum of pinned entries' `bytes`.
    pinned: usize,
    quota: usize,
    uses: u64,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    value: T,
    bytes: usize,
    expires: Duration,
    pins: u32,
    last_use: u64,
}

impl<T> Entry<T> {
    fn is_expired(&self, now: Duration) -> bool {
        self.pins == 0 && now > self.expires
    }
}

/// Why a context cannot be stored. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaError {
    /// Bytes that the context needs.
    pub needed: usize,
    /// Bytes that could be had: the quota less what is pinned.
    pub available: usize,
}

impl QuotaError {
    /// `"quota"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        "quota"
    }
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a context of {} bytes does not fit into the {} that can be had",
            self.needed, self.available
        )
    }
}

impl core::error::Error for QuotaError {}

impl<T> ContextStore<T> {
    /// An empty store for this many bytes.
    #[must_use]
    pub const fn new(quota: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            by_expiry: BTreeMap::new(),
            used: 0,
            pinned: 0,
            quota,
            uses: 0,
        }
    }

    /// Stores a context of `bytes` bytes under `key` for `ttl`, in place of one that was there (whose pins stay).
    /// Returns what had to go to make room, with keys: expired contexts first, then the longest unused.
    ///
    /// # Errors
    ///
    /// [`QuotaError`] where it cannot fit beside what is pinned.
    pub fn insert(
        &mut self,
        key: &str,
        value: T,
        bytes: usize,
        ttl: Duration,
        now: Duration,
    ) -> Result<Vec<(String, T)>, QuotaError> {
        let replaced = self.entries.get(key).filter(|entry| entry.pins > 0).map_or(0, |entry| entry.bytes);
        let available = self.quota - (self.pinned - replaced);
        if bytes > available {
            return Err(QuotaError { needed: bytes, available });
        }
        let pins = self.take(key).map_or(0, |entry| entry.pins);
        let mut evicted = self.take_expired(now);
        while self.used > self.quota - bytes {
            // Room enough is not pinned, so something else is there to go.
            let Some(oldest) = self.by_use.first_key_value().map(|(_, key)| key.clone()) else { break };
            evicted.extend(self.take(&oldest).map(|entry| (oldest, entry.value)));
        }
        self.uses += 1;
        self.put(key, Entry { value, bytes, expires: now.saturating_add(ttl), pins, last_use: self.uses });
        Ok(evicted)
    }

    /// The context under `key`, which counts as used now. One that has expired is removed and not returned.
    pub fn get(&mut self, key: &str, now: Duration) -> Option<&T> {
        let entry = self.take(key).filter(|entry| !entry.is_expired(now))?;
        self.uses += 1;
        self.put(key, Entry { last_use: self.uses, ..entry });
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Whether there is a context under `key`; does not count as use.
    #[must_use]
    pub fn contains(&self, key: &str, now: Duration) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.is_expired(now))
    }

    /// Keeps the context under `key` until it is unpinned as often as it was pinned; whether there is one.
    pub fn pin(&mut self, key: &str, now: Duration) -> bool {
        self.change(key, |entry| {
            let lives = !entry.is_expired(now);
            entry.pins = entry.pins.saturating_add(lives.into());
            lives
        })
    }

    /// Takes one pin off the context under `key`; whether there was one.
    pub fn unpin(&mut self, key: &str) -> bool {
        self.change(key, |entry| {
            let pinned = entry.pins > 0;
            entry.pins = entry.pins.saturating_sub(1);
            pinned
        })
    }

    /// Removes and returns the context under `key`, pinned or not, expired or not.
    pub fn remove(&mut self, key: &str) -> Option<T> {
        self.take(key).map(|entry| entry.value)
    }

    /// Removes every context, pinned or not.
    pub fn clear(&mut self) {
        *self = Self::new(self.quota);
    }

    /// Removes every expired context, and returns how many there were.
    pub fn cleanup_expired(&mut self, now: Duration) -> usize {
        self.take_expired(now).len()
    }

    /// Removes every expired context and returns them with their keys, for a caller that has more to clear away. Takes as
    /// long as there are expired ones, not as there are others.
    pub fn take_expired(&mut self, now: Duration) -> Vec<(String, T)> {
        let mut expired = Vec::new();
        while let Some((&(expires, _), key)) = self.by_expiry.first_key_value()
            && now > expires
        {
            let key = key.clone();
            expired.extend(self.take(&key).map(|entry| (key, entry.value)));
        }
        expired
    }

    /// The keys of the contexts that have not expired, in their own order.
    pub fn keys(&self, now: Duration) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(move |(_, entry)| !entry.is_expired(now)).map(|(key, _)| key.as_str())
    }

    /// Bytes that the stored contexts take, expired ones included until they are removed.
    #[must_use]
    pub const fn bytes_used(&self) -> usize {
        self.used
    }

    /// Bytes that they may take.
    #[must_use]
    pub const fn quota(&self) -> usize {
        self.quota
    }

    fn change(&mut self, key: &str, change: impl FnOnce(&mut Entry<T>) -> bool) -> bool {
        let Some(mut entry) = self.take(key) else { return false };
        let changed = change(&mut entry);
        self.put(key, entry);
        changed
    }

    fn put(&mut self, key: &str, entry: Entry<T>) {
        self.used += entry.bytes;
        match entry.pins {
            0 => {
                self.by_use.insert(entry.last_use, key.into());
                self.by_expiry.insert((entry.expires, entry.last_use), key.into());
            }
            _ => self.pinned += entry.bytes,
        }
        self.entries.insert(key.into(), entry);
    }

    fn take(&mut self, key: &str) -> Option<Entry<T>> {
        let entry = self.entries.remove(key)?;
        self.used -= entry.bytes;
        match entry.pins {
            0 => {
                self.by_use.remove(&entry.last_use);
                self.by_expiry.remove(&(entry.expires, entry.last_use));
            }
            _ => self.pinned -= entry.bytes,
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const TTL: Duration = Duration::from_secs(10);
    const START: Duration = Duration::from_secs(1000);

    fn keys(store: &ContextStore<u8>, now: Duration) -> Vec<&str> {
        store.keys(now).collect()
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut store = ContextStore::new(30);
        for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(store.insert(key, value, 10, TTL, START), Ok(vec![]));
        }
        assert_eq!(store.get("a", START), Some(&1));
        assert_eq!(store.insert("d", 4, 15, TTL, START), Ok(vec![("b".into(), 2), ("c".into(), 3)]));
        assert_eq!((keys(&store, START), store.bytes_used()), (vec!["a", "d"], 25));
    }

    #[test]
    fn what_is_pinned_neither_goes_nor_expires() {
        let mut store = ContextStore::new(20);
        store.insert("a", 1, 10, TTL, START).unwrap();
        store.insert("b", 2, 10, TTL, START).unwrap();
        assert!(store.pin("a", START) && store.pin("a", START));
        assert_eq!(store.insert("c", 3, 11, TTL, START), Err(QuotaError { needed: 11, available: 10 }));
        assert_eq!(keys(&store, START), ["a", "b"], "a refusal changes nothing");
        assert_eq!(store.insert("c", 3, 10, TTL, START), Ok(vec![("b".into(), 2)]));
        let later = START + TTL + TTL;
        assert_eq!(keys(&store, later), ["a"]);
        assert!(store.unpin("a") && store.unpin("a") && !store.unpin("a"));
        assert_eq!(store.cleanup_expired(later), 2);
        assert_eq!(store.bytes_used(), 0);
        assert!(!store.pin("a", later));
    }

    #[test]
    fn a_context_in_place_of_another_keeps_its_pins_and_frees_its_bytes() {
        let mut store = ContextStore::new(20);
        store.insert("a", 1, 20, TTL, START).unwrap();
        store.pin("a", START);
        assert_eq!(store.insert("a", 2, 15, TTL, START), Ok(vec![]));
        assert_eq!((store.bytes_used(), store.get("a", START + TTL + TTL)), (15, Some(&2)));
        assert_eq!(store.remove("a"), Some(2));
        assert_eq!(store.bytes_used(), 0);
    }

    #[test]
    fn expired_contexts_make_room_before_used_ones_do() {
        let mut store = ContextStore::new(20);
        store.insert("brief", 1, 10, Duration::ZERO, START).unwrap();
        store.insert("old", 2, 10, TTL, START).unwrap();
        let now = START + Duration::from_secs(1);
        assert!(!store.contains("brief", now));
        assert_eq!(store.insert("new", 3, 10, TTL, now), Ok(vec![("brief".into(), 1)]));
        assert_eq!(keys(&store, now), ["new", "old"]);
        assert_eq!(store.get("brief", now), None);
        store.clear();
        assert_eq!((store.bytes_used(), store.quota()), (0, 20));
    }

    proptest::proptest! {
        #[test]
        fn sums_and_orders_are_those_of_the_entries_whatever_is_done(
            deeds in proptest::collection::vec((0..7_u8, 0..5_u8, 0..40_usize), 0..60),
        ) {
            let (mut store, mut now) = (ContextStore::new(100), START);
            for (deed, key, number) in deeds {
                let key = ["a", "b", "c", "d", "e"][usize::from(key)];
                match deed {
                    0 | 1 => drop(store.insert(key, deed, number, Duration::from_secs(number as u64), now)),
                    2 => drop(store.get(key, now)),
                    3 => drop(store.pin(key, now)),
                    4 => drop(store.unpin(key)),
                    5 => drop(store.remove(key)),
                    _ => now += Duration::from_secs(number as u64 / 4),
                }
                let sum = |pinned: bool| -> usize {
                    store.entries.values().filter(|entry| (entry.pins > 0) >= pinned).map(|entry| entry.bytes).sum()
                };
                assert_eq!((store.used, store.pinned), (sum(false), sum(true)));
                assert!(store.used <= store.quota);
                let unpinned = store.entries.iter().filter(|(_, entry)| entry.pins == 0);
                let mut by_use: Vec<_> = unpinned.map(|(key, entry)| (entry.last_use, key.clone())).collect();
                by_use.sort();
                assert_eq!(store.by_use.iter().map(|(at, key)| (*at, key.clone())).collect::<Vec<_>>(), by_use);
                let mut keys: Vec<_> = store.by_expiry.values().cloned().collect();
                keys.sort();
                by_use.sort_by(|(_, left), (_, right)| left.cmp(right));
                assert_eq!(keys, by_use.into_iter().map(|(_, key)| key).collect::<Vec<_>>());
            }
        }
    }
}
