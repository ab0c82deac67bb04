//! A map with owners, a quota of bytes and expiry: the index of stored contexts and of idempotency keys.

use std::{
    collections::{BTreeMap, btree_map},
    time::Duration,
};

use super::Owner;

/// Values by key. Where a new value needs room, values of the owner that holds the most bytes are removed, the least recently
/// used first: nobody loses a value to an owner that holds more. `now` is the time since any fixed moment.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    entries: BTreeMap<String, Entry<T>>,
    /// The owners of `entries`.
    owners: BTreeMap<String, Held>,
    /// The keys of `entries` by expiry and last use.
    by_expiry: BTreeMap<(Duration, u64), String>,
    /// The sum of `bytes` of all entries; at most `quota`.
    used: usize,
    quota: usize,
    uses: u64,
}

/// What an owner holds; never nothing.
#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// Keys by last use.
    by_use: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    owner: String,
    bytes: usize,
    expires: Duration,
    last_use: u64,
}

/// The value is larger than the quota, or fits only in place of values of owners that hold less. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuotaExceeded;

impl<T> Cache<T> {
    pub(crate) const fn new(quota: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            owners: BTreeMap::new(),
            by_expiry: BTreeMap::new(),
            used: 0,
            quota,
            uses: 0,
        }
    }

    /// Stores a value of `owner`, of `bytes` bytes, for `ttl`. Returns the entries that made room. Expired entries count until
    /// they are [taken](Self::take_expired).
    pub(crate) fn insert(
        &mut self,
        key: &str,
        owner: Owner<'_>,
        value: T,
        bytes: usize,
        ttl: Duration,
        now: Duration,
    ) -> Result<Vec<(String, T)>, QuotaExceeded> {
        let room = self.quota.checked_sub(bytes).ok_or(QuotaExceeded)?;
        let evicted = self.in_the_way(owner, bytes, room).ok_or(QuotaExceeded)?;
        self.remove(key);
        let take = |key: String| self.remove(&key).map(|value| (key, value));
        let evicted = evicted.into_iter().filter_map(take).collect();
        self.uses += 1;
        let (owner, expires) = (owner.name.to_owned(), now.saturating_add(ttl));
        self.put(key, Entry { value, owner, bytes, expires, last_use: self.uses });
        Ok(evicted)
    }

    /// The keys to remove so that the entries beside a new one of `owner` have at most `room` bytes, and its owner has no more than its
    /// own quota; `None` if the new one alone is more than that, or would make its owner hold the most.
    fn in_the_way(&self, owner: Owner<'_>, bytes: usize, room: usize) -> Option<Vec<String>> {
        let others = self.owners.iter().filter(|(name, _)| *name != owner.name);
        let mut others: Vec<_> = others.map(|(_, held)| (held.bytes, held.by_use.values())).collect();
        let mut own = match self.owners.get(owner.name) {
            Some(held) => (held.bytes + bytes, held.by_use.values()),
            None => (bytes, btree_map::Values::default()),
        };
        let mut used = self.used;
        let mut keys = Vec::new();
        loop {
            let exceeds_own = owner.quota.is_some_and(|quota| own.0 > quota);
            if !exceeds_own && used <= room {
                break;
            }
            let most = others.iter_mut().max_by_key(|(held, _)| *held);
            // Of two that hold the same, the one that wants more makes room.
            let (held, oldest) = match most {
                Some(other) if !exceeds_own && other.0 > own.0 => other,
                _ => &mut own,
            };
            let key = oldest.next()?;
            let len = self.entries.get(key)?.bytes;
            *held -= len;
            used -= len;
            keys.push(key.clone());
        }
        Some(keys)
    }

    /// The value under `key`, unless it has expired. Counts as a use.
    pub(crate) fn get(&mut self, key: &str, now: Duration) -> Option<&T> {
        if !self.contains(key, now) {
            return None;
        }
        let entry = self.take(key)?;
        self.uses += 1;
        self.put(key, Entry { last_use: self.uses, ..entry });
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value under `key`, unless it has expired. Does not count as a use.
    pub(crate) fn peek(&self, key: &str, now: Duration) -> Option<&T> {
        self.entries.get(key).filter(|entry| now <= entry.expires).map(|entry| &entry.value)
    }

    /// Whether there is a value under `key`. Does not count as a use.
    pub(crate) fn contains(&self, key: &str, now: Duration) -> bool {
        self.entries.get(key).is_some_and(|entry| now <= entry.expires)
    }

    /// Removes and returns the value under `key`, expired or not.
    pub(crate) fn remove(&mut self, key: &str) -> Option<T> {
        self.take(key).map(|entry| entry.value)
    }

    /// Removes and returns every expired entry. Takes time for each of those only.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Vec<(String, T)> {
        let mut expired = Vec::new();
        while let Some((&(expires, _), key)) = self.by_expiry.first_key_value()
            && now > expires
        {
            let key = key.clone();
            expired.extend(self.remove(&key).map(|value| (key, value)));
        }
        expired
    }

    /// The keys of the entries that have not expired, sorted.
    pub(crate) fn keys(&self, now: Duration) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(move |(_, entry)| now <= entry.expires).map(|(key, _)| key.as_str())
    }

    /// The values of all entries, including expired ones that have not been removed.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// The sum of the bytes of all entries, including expired ones that have not been removed.
    pub(crate) const fn bytes_used(&self) -> usize {
        self.used
    }

    fn put(&mut self, key: &str, entry: Entry<T>) {
        self.used += entry.bytes;
        let held = self.owners.entry(entry.owner.clone()).or_default();
        held.bytes += entry.bytes;
        held.by_use.insert(entry.last_use, key.to_owned());
        self.by_expiry.insert((entry.expires, entry.last_use), key.to_owned());
        self.entries.insert(key.to_owned(), entry);
    }

    fn take(&mut self, key: &str) -> Option<Entry<T>> {
        let entry = self.entries.remove(key)?;
        self.used -= entry.bytes;
        if let Some(held) = self.owners.get_mut(&entry.owner) {
            held.bytes -= entry.bytes;
            held.by_use.remove(&entry.last_use);
            if held.by_use.is_empty() {
                self.owners.remove(&entry.owner);
            }
        }
        self.by_expiry.remove(&(entry.expires, entry.last_use));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);
    const START: Duration = Duration::from_secs(1000);

    fn keys(cache: &Cache<u8>, now: Duration) -> Vec<&str> {
        cache.keys(now).collect()
    }

    #[test]
    fn the_least_recently_used_is_removed_first() {
        let mut cache = Cache::new(30);
        for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
            assert_eq!(cache.insert(key, Owner::default(), value, 10, TTL, START), Ok(vec![]));
        }
        assert_eq!(cache.get("a", START), Some(&1));
        assert_eq!(
            cache.insert("d", Owner::default(), 4, 15, TTL, START),
            Ok(vec![("b".into(), 2), ("c".into(), 3)])
        );
        assert_eq!((keys(&cache, START), cache.bytes_used()), (vec!["a", "d"], 25));
    }

    #[test]
    fn a_value_over_the_quota_is_refused_and_changes_nothing() {
        let mut cache = Cache::new(20);
        cache.insert("a", Owner::default(), 1, 10, TTL, START).unwrap();
        assert_eq!(cache.insert("a", Owner::default(), 2, 21, TTL, START), Err(QuotaExceeded));
        assert_eq!((cache.get("a", START).copied(), cache.bytes_used()), (Some(1), 10));
    }

    #[test]
    fn a_value_that_replaces_another_frees_its_bytes() {
        let mut cache = Cache::new(20);
        cache.insert("a", Owner::default(), 1, 20, TTL, START).unwrap();
        assert_eq!(cache.insert("a", Owner::default(), 2, 15, TTL, START), Ok(vec![]));
        assert_eq!((cache.bytes_used(), cache.get("a", START)), (15, Some(&2)));
        assert_eq!(cache.remove("a"), Some(2));
        assert_eq!(cache.bytes_used(), 0);
    }

    #[test]
    fn expired_values_are_not_found_and_give_back_their_room() {
        let mut cache = Cache::new(20);
        cache.insert("brief", Owner::default(), 1, 10, Duration::ZERO, START).unwrap();
        cache.insert("old", Owner::default(), 2, 10, TTL, START).unwrap();
        let now = START + Duration::from_secs(1);
        assert!(!cache.contains("brief", now));
        assert_eq!(cache.get("brief", now), None);
        assert_eq!(cache.take_expired(now), [("brief".into(), 1)]);
        assert_eq!(cache.insert("new", Owner::default(), 3, 10, TTL, now), Ok(vec![]));
        assert_eq!(keys(&cache, now), ["new", "old"]);
    }

    #[test]
    fn who_holds_the_most_makes_room_and_nobody_else() {
        let mut cache = Cache::new(100);
        let mut insert = |key: &str, owner, bytes| {
            let evicted = cache.insert(key, Owner::from(owner), 0, bytes, TTL, START);
            evicted.map(|evicted| evicted.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
        };
        assert_eq!(insert("a1", "alice", 30), Ok(vec![]));
        for key in ["b1", "b2", "b3"] {
            assert_eq!(insert(key, "bob", 20), Ok(vec![]));
        }
        assert_eq!(insert("b4", "bob", 20), Ok(vec!["b1".to_owned()]), "his own");
        assert_eq!(insert("a2", "alice", 29), Ok(vec!["b2".to_owned()]));
        assert_eq!(insert("c1", "carol", 61), Err(QuotaExceeded), "she would hold the most");
        assert_eq!(insert("c1", "carol", 30), Ok(vec!["a1".to_owned()]));
    }

    #[test]
    fn an_owner_keeps_no_more_than_its_own_quota_and_its_own_entries_make_room() {
        let mut cache = Cache::new(100);
        let alice = Owner { name: "alice", quota: Some(30) };
        let mut insert = |key: &str, owner, bytes| {
            let evicted = cache.insert(key, owner, 0, bytes, TTL, START);
            evicted.map(|evicted| evicted.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
        };
        assert_eq!(insert("b1", "bob".into(), 40), Ok(vec![]));
        for key in ["a1", "a2", "a3"] {
            assert_eq!(insert(key, alice, 10), Ok(vec![]));
        }
        assert_eq!(insert("a4", alice, 15), Ok(vec!["a1".to_owned(), "a2".to_owned()]));
        assert_eq!(insert("a5", alice, 31), Err(QuotaExceeded));
        assert_eq!(insert("b2", "bob".into(), 40), Ok(vec!["b1".to_owned()]), "25 are hers");
        assert_eq!(insert("a6", Owner { quota: Some(0), ..alice }, 1), Err(QuotaExceeded));
    }

    proptest::proptest! {
        #[test]
        fn sums_and_orders_are_those_of_the_entries_after_any_operations(
            operations in proptest::collection::vec((0..5_u8, 0..5_u8, 0..3_u8, 0..60_usize), 0..60),
        ) {
            let (mut cache, mut now) = (Cache::new(100), START);
            for (operation, key, owner, number) in operations {
                let key = ["a", "b", "c", "d", "e"][usize::from(key)];
                let quota = (owner == 2).then_some(70);
                let owner = Owner { name: ["", "alice", "bob"][usize::from(owner)], quota };
                let ttl = Duration::from_secs(number as u64);
                match operation {
                    0 | 1 => drop(cache.insert(key, owner, operation, number, ttl, now)),
                    2 => drop(cache.get(key, now)),
                    3 => drop(cache.remove(key)),
                    _ => now += ttl / 4,
                }
                assert_eq!(cache.used, cache.entries.values().map(|entry| entry.bytes).sum::<usize>());
                assert!(cache.used <= cache.quota);
                assert!(cache.owners.get("bob").is_none_or(|held| held.bytes <= 70));
                let mut by_use: Vec<_> = cache
                    .entries
                    .iter()
                    .map(|(key, entry)| (entry.owner.clone(), entry.last_use, key.clone()))
                    .collect();
                by_use.sort();
                let held = cache.owners.iter().flat_map(|(owner, held)| {
                    held.by_use.iter().map(|(at, key)| (owner.clone(), *at, key.clone()))
                });
                assert!(held.eq(by_use));
                for (owner, held) in &cache.owners {
                    let entries = cache.entries.values().filter(|entry| entry.owner == *owner);
                    assert_eq!(held.bytes, entries.map(|entry| entry.bytes).sum::<usize>());
                }
                let mut by_expiry: Vec<_> = cache
                    .entries
                    .iter()
                    .map(|(key, entry)| ((entry.expires, entry.last_use), key.clone()))
                    .collect();
                by_expiry.sort();
                assert!(cache.by_expiry.iter().map(|(at, key)| (*at, key.clone())).eq(by_expiry));
            }
        }
    }
}
