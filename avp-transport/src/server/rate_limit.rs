//! A limit of requests per second for each principal or address.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Caller;

/// One may make the requests of this time at once.
const BURST: Duration = Duration::from_secs(1);

/// Those with a full quota are forgotten when there are more than this.
const MANY_AGENTS: usize = 10_000;

/// A quota of requests for each principal or address: a token bucket as the generic cell rate algorithm (GCRA) keeps it.
pub(super) struct RateLimiter(Mutex<Agents>);

struct Agents {
    /// When each agent's quota is full again.
    full_at: HashMap<Caller, Instant>,
    /// The number of agents at which those with a full quota are forgotten.
    max: usize,
}

impl RateLimiter {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Agents { full_at: HashMap::new(), max: MANY_AGENTS }))
    }

    /// Whether the agent, with a quota of `per_second`, may make a request at `now`, which is then counted.
    pub(super) fn admit(&self, agent: Caller, per_second: NonZeroU32, now: Instant) -> bool {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.full_at.len() > agents.max {
            agents.full_at.retain(|_, full_at| *full_at > now);
            // Forgetting takes time for each agent, so there are as many requests before the next time.
            agents.max = MANY_AGENTS.max(2 * agents.full_at.len());
        }
        let full_at = agents.full_at.entry(agent).or_insert(now);
        // The time in which the quota regains one request.
        let interval = Duration::from_secs(1) / per_second.get();
        let next = now.max(*full_at) + interval;
        let is_admitted = next <= now + BURST;
        if is_admitted {
            *full_at = next;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> Caller {
        Caller::Principal(name.to_owned())
    }

    fn admit(limiter: &RateLimiter, name: &str, per_second: u32, now: Instant) -> bool {
        limiter.admit(agent(name), NonZeroU32::new(per_second).unwrap(), now)
    }

    #[test]
    fn an_agent_has_a_quota_of_its_own_that_fills_evenly() {
        let (limiter, start) = (RateLimiter::new(), Instant::now());
        let admitted = |name, after_ms| {
            let now = start + Duration::from_millis(after_ms);
            (0..10).filter(|_| admit(&limiter, name, 4, now)).count()
        };
        assert_eq!((admitted("a", 0), admitted("a", 249)), (4, 0));
        assert_eq!((admitted("a", 250), admitted("a", 750)), (1, 2));
        assert_eq!(admitted("b", 750), 4, "another agent");
        assert_eq!(admitted("a", 60_000), 4, "no more than the burst");
    }

    #[test]
    fn agents_with_a_full_quota_are_forgotten_and_others_are_not() {
        let (limiter, start) = (RateLimiter::new(), Instant::now());
        let admit = |name: &str, now| admit(&limiter, name, 1, now);
        for number in 0..=MANY_AGENTS {
            assert!(admit(&number.to_string(), start));
        }
        let (soon, later) = (start + Duration::from_millis(999), start + BURST);
        assert!(!admit("0", soon), "it is still known");
        for number in 0..=MANY_AGENTS {
            assert!(admit(&format!("new {number}"), soon));
        }
        assert!(admit("one more", soon));
        let count = || limiter.0.lock().unwrap().full_at.len();
        assert_eq!(count(), 2 * MANY_AGENTS + 3, "none has a full quota yet");
        assert!(admit("last", later));
        assert_eq!(count(), MANY_AGENTS + 3, "the first ones have");
        assert!(!admit("one more", later), "it is still known");
    }
}
