//! The open connections: how many a caller may have, and which of them makes room for another one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Caller, FairShares, Share, activity::Activity};

/// The memory of an idle connection, in bytes: buffers of HTTP and TLS, and a task.
pub(super) const CONNECTION_MEMORY: u64 = 96 << 10;

/// Connections may occupy this part of the memory.
const PART_OF_MEMORY: u64 = 8;

/// The open connections of a server.
pub(super) struct Connections {
    places: FairShares,
    memory: FairShares,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    by_number: HashMap<u64, Entry>,
}

struct Entry {
    caller: Caller,
    activity: Arc<Activity>,
    _place: Share,
    _memory: Share,
}

/// A connection that is counted until it is dropped, or displaced.
pub(super) struct Counted {
    connections: Arc<Connections>,
    number: u64,
}

impl Connections {
    /// At most `max` connections, and no more than an eighth of the memory.
    pub(super) fn new(max: usize, memory: FairShares) -> Arc<Self> {
        let max = (max as u64).min(memory.limit() / PART_OF_MEMORY / CONNECTION_MEMORY).max(1);
        Arc::new(Self { places: FairShares::new(max), memory, open: Mutex::default() })
    }

    /// Counts a connection of `caller`. At the caller's part of the limit, the one of its connections that was idle for longest makes
    /// room, those without an admitted request first; where the caller has none, that of the caller with the most. `None` if there
    /// is no idle one.
    pub(super) fn count(self: &Arc<Self>, caller: &Caller, activity: &Arc<Activity>) -> Option<Counted> {
        let mut open = self.open();
        if let Some(number) = self.try_count(&mut open, caller, activity) {
            return Some(number);
        }
        let number = open.longest_idle(caller)?;
        let displaced = open.by_number.remove(&number)?;
        displaced.activity.displace();
        drop(displaced);
        self.try_count(&mut open, caller, activity)
    }

    fn try_count(
        self: &Arc<Self>,
        open: &mut Open,
        caller: &Caller,
        activity: &Arc<Activity>,
    ) -> Option<Counted> {
        let place = self.places.take(caller, 1).ok()?;
        let memory = self.memory.take(&Caller::Server, CONNECTION_MEMORY).ok()?;
        open.last += 1;
        let (caller, activity) = (caller.clone(), activity.clone());
        open.by_number.insert(open.last, Entry { caller, activity, _place: place, _memory: memory });
        Some(Counted { connections: self.clone(), number: open.last })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The number of the idle connection that makes room for one of `caller`.
    fn longest_idle(&self, caller: &Caller) -> Option<u64> {
        let idlest = |of: &Caller| {
            let of_caller = self.by_number.iter().filter(|(_, entry)| entry.caller == *of);
            let idle = of_caller.filter_map(|(number, entry)| Some((entry.activity.idle_since()?, *number)));
            Some(idle.min()?.1)
        };
        idlest(caller).or_else(|| {
            let mut counts: HashMap<&Caller, usize> = HashMap::new();
            self.by_number.values().for_each(|entry| *counts.entry(&entry.caller).or_default() += 1);
            idlest(counts.into_iter().max_by_key(|(_, count)| *count)?.0)
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Displaced ones are gone already. What an entry held is dropped outside of the lock.
        let gone = self.connections.open().by_number.remove(&self.number);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::*;

    fn caller(number: u8) -> Caller {
        Caller::at(Some([192, 0, 2, number].into()))
    }

    fn activity(age: u64) -> Arc<Activity> {
        let now = Instant::now();
        Arc::new(Activity::new(now.checked_sub(Duration::from_secs(age)).unwrap_or(now)))
    }

    async fn is_displaced(activity: &Activity) -> bool {
        let day = Duration::from_secs(86_400);
        let timeouts = super::super::activity::Timeouts { head: day, idle: day, body: Default::default() };
        timeout(Duration::from_millis(1), activity.ended(&timeouts)).await.is_ok()
    }

    #[tokio::test]
    async fn the_callers_own_connection_that_is_idle_for_longest_makes_room() {
        let connections = Connections::new(10, FairShares::new(1 << 30));
        let activities: Vec<_> = (0..8).map(|number| activity(100 - number)).collect();
        let trusted = activities[0].clone();
        trusted.trust();
        let in_use = activities[1].begin();
        let mut counted: Vec<_> =
            activities.iter().map(|activity| connections.count(&caller(1), activity).unwrap()).collect();
        counted.push(connections.count(&caller(2), &activity(1000)).unwrap());
        counted.push(connections.count(&caller(1), &activity(0)).unwrap());
        for (number, activity) in activities.iter().enumerate() {
            assert_eq!(is_displaced(activity).await, number == 2, "{number}");
        }
        drop(in_use);
        drop(counted);
        assert_eq!((connections.places.taken(), connections.memory.taken()), (0, 0));
    }

    #[test]
    fn many_callers_cannot_keep_another_one_out() {
        let connections = Connections::new(100, FairShares::new(1 << 30));
        let mut counted = Vec::new();
        for number in 0..50 {
            (0..100).for_each(|age| counted.extend(connections.count(&caller(number), &activity(age))));
        }
        assert_eq!(connections.places.taken(), 100);
        assert!(connections.count(&caller(200), &activity(0)).is_some());
    }

    #[test]
    fn connections_in_use_are_never_displaced() {
        let connections = Connections::new(1, FairShares::new(1 << 30));
        let first = activity(100);
        let in_use = first.begin();
        let _counted = connections.count(&caller(1), &first).unwrap();
        assert!(connections.count(&caller(2), &activity(0)).is_none());
        drop(in_use);
        assert!(connections.count(&caller(2), &activity(0)).is_some());
    }

    #[test]
    fn connections_occupy_an_eighth_of_the_memory() {
        let memory = FairShares::new(16 * PART_OF_MEMORY * CONNECTION_MEMORY);
        assert_eq!(Connections::new(4096, memory).places.limit(), 16);
    }
}
