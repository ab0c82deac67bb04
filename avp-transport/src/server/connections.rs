//! The open connections: how many a caller may have, and which of them makes room for another one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Caller, FairShares, Share, activity::Activity};

/// The memory of a connection, in bytes: buffers of HTTP and TLS, and of HTTP/2 as many requests at a time as it may have, some 6 KiB
/// each, with short responses that the client has not read.
pub const CONNECTION_MEMORY: u64 = 192 << 10;

/// The open connections of a server.
pub(super) struct Connections {
    places: FairShares,
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
}

/// A connection that is counted until it is dropped, or displaced.
pub(super) struct Counted {
    connections: Arc<Connections>,
    number: u64,
}

impl Connections {
    /// At most `max` connections.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { places: FairShares::new(max as u64), open: Mutex::default() })
    }

    /// Counts a connection of `caller`. At the caller's part of the limit, the one of its connections that was idle for longest makes
    /// room, those without an admitted request first; where it has none and the limit itself is reached, one of a caller with more. `None`
    /// if no idle one makes room.
    pub(super) fn count(self: &Arc<Self>, caller: &Caller, activity: &Arc<Activity>) -> Option<Counted> {
        let mut open = self.open();
        if let Some(counted) = self.try_count(&mut open, caller, activity) {
            return Some(counted);
        }
        let mut displaced = open.displace_own(caller);
        if displaced.is_none() && self.places.taken() == self.places.limit() {
            displaced = open.displace_of_another(caller);
        }
        // Its place is free at once; its task ends by itself.
        drop(displaced?);
        self.try_count(&mut open, caller, activity)
    }

    fn try_count(
        self: &Arc<Self>,
        open: &mut Open,
        caller: &Caller,
        activity: &Arc<Activity>,
    ) -> Option<Counted> {
        let place = self.places.take(caller, 1).ok()?;
        open.last += 1;
        let (caller, activity) = (caller.clone(), activity.clone());
        open.by_number.insert(open.last, Entry { caller, activity, _place: place });
        Some(Counted { connections: self.clone(), number: open.last })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Displaces the connection of `caller` that was idle for longest.
    fn displace_own(&mut self, caller: &Caller) -> Option<Entry> {
        let of_caller = self.by_number.iter().filter(|(_, entry)| entry.caller == *caller);
        let idle = of_caller.filter_map(|(number, entry)| Some((entry.activity.idle_since()?, *number)));
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable();
        // One that is in use again by now is left alone.
        let number = idle
            .into_iter()
            .map(|(_, number)| number)
            .find(|number| self.by_number[number].activity.displace_if_idle())?;
        self.by_number.remove(&number)
    }

    /// Displaces an idle connection of one that has more of them than `caller`, from the one with the most on.
    fn displace_of_another(&mut self, caller: &Caller) -> Option<Entry> {
        let mut counts: HashMap<Caller, usize> = HashMap::new();
        self.by_number.values().for_each(|entry| *counts.entry(entry.caller.clone()).or_default() += 1);
        let own = counts.remove(caller).unwrap_or_default();
        let mut others: Vec<_> = counts.into_iter().filter(|(_, count)| *count > own).collect();
        others.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        others.into_iter().find_map(|(other, _)| self.displace_own(&other))
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
        let connections = Connections::new(10);
        let activities: Vec<_> = (0..8).map(|number| activity(100 - number)).collect();
        let trusted = activities[0].clone();
        trusted.trust();
        let in_use = activities[1].begin().unwrap();
        let mut counted: Vec<_> =
            activities.iter().map(|activity| connections.count(&caller(1), activity).unwrap()).collect();
        counted.push(connections.count(&caller(2), &activity(1000)).unwrap());
        counted.push(connections.count(&caller(1), &activity(0)).unwrap());
        for (number, activity) in activities.iter().enumerate() {
            assert_eq!(is_displaced(activity).await, number == 2, "{number}");
        }
        drop(in_use);
        drop(counted);
        assert_eq!(connections.places.taken(), 0);
    }

    #[test]
    fn many_callers_cannot_keep_another_one_out() {
        let connections = Connections::new(100);
        let mut counted = Vec::new();
        for number in 0..50 {
            (0..100).for_each(|age| counted.extend(connections.count(&caller(number), &activity(age))));
        }
        assert_eq!(connections.places.taken(), 100);
        assert!(connections.count(&caller(200), &activity(0)).is_some());
    }

    #[test]
    fn connections_in_use_are_never_displaced() {
        let connections = Connections::new(1);
        let first = activity(100);
        let in_use = first.begin().unwrap();
        let _counted = connections.count(&caller(1), &first).unwrap();
        assert!(connections.count(&caller(2), &activity(0)).is_none());
        drop(in_use);
        assert!(connections.count(&caller(2), &activity(0)).is_some());
    }
}
