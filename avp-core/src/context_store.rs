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
    /// Keys by time of last use; holds exactly the keys of `entries`.
    by_use: BTreeMap<u64, String>,
    /// The sum of all entries' `bytes`; never above `quota`.
    used: usize,
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
        Self { entries: BTreeMap::new(), by_use: BTreeMap::new(), used: 0, quota, uses: 0 }
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
        let pinned: usize = self
            .entries
            .iter()
            .filter(|(name, entry)| entry.pins > 0 && *name != key)
            .map(|(_, entry)| entry.bytes)
            .sum();
        let available = self.quota - pinned;
        if bytes > available {
            return Err(QuotaError { needed: bytes, available });
        }
        let pins = self.take(key).map_or(0, |entry| entry.pins);
        let mut evicted = self.take_expired(now);
        while self.used > self.quota - bytes {
            // Room enough is not pinned, so something else is there to go.
            let Some(oldest) = self.oldest_unpinned() else { break };
            evicted.extend(self.take(&oldest).map(|entry| (oldest, entry.value)));
        }
        self.used += bytes;
        self.uses += 1;
        self.by_use.insert(self.uses, key.into());
        let entry = Entry { value, bytes, expires: now.saturating_add(ttl), pins, last_use: self.uses };
        self.entries.insert(key.into(), entry);
        Ok(evicted)
    }

    /// The context under `key`, which counts as used now. One that has expired is removed and not returned.
    pub fn get(&mut self, key: &str, now: Duration) -> Option<&T> {
        if self.entries.get(key)?.is_expired(now) {
            self.take(key);
        }
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        if let Some(key) = self.by_use.remove(&entry.last_use) {
            self.by_use.insert(self.uses, key);
        }
        entry.last_use = self.uses;
        Some(&entry.value)
    }

    /// Whether there is a context under `key`; does not count as use.
    #[must_use]
    pub fn contains(&self, key: &str, now: Duration) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.is_expired(now))
    }

    /// Keeps the context under `key` until it is unpinned as often as it was pinned; whether there is one.
    pub fn pin(&mut self, key: &str, now: Duration) -> bool {
        match self.entries.get_mut(key).filter(|entry| !entry.is_expired(now)) {
            Some(entry) => {
                entry.pins = entry.pins.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// Takes one pin off the context under `key`; whether there was one.
    pub fn unpin(&mut self, key: &str) -> bool {
        match self.entries.get_mut(key).filter(|entry| entry.pins > 0) {
            Some(entry) => {
                entry.pins -= 1;
                true
            }
            None => false,
        }
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

    /// Removes every expired context and returns them with their keys, for a caller that has more to clear away.
    pub fn take_expired(&mut self, now: Duration) -> Vec<(String, T)> {
        let expired: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_expired(now))
            .map(|(key, _)| key.clone())
            .collect();
        expired.into_iter().filter_map(|key| self.take(&key).map(|entry| (key, entry.value))).collect()
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

    fn take(&mut self, key: &str) -> Option<Entry<T>> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.last_use);
        self.used -= entry.bytes;
        Some(entry)
    }

    fn oldest_unpinned(&self) -> Option<String> {
        self.by_use.values().find(|key| self.entries.get(*key).is_some_and(|entry| entry.pins == 0)).cloned()
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
}
