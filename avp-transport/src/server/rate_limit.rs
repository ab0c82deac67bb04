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
pub(super) struct RateLimiter {
    /// The time in which the quota regains one request.
    interval: Duration,
    agents: Mutex<Agents>,
}

struct Agents {
    /// When each agent's quota is full again.
    full_at: HashMap<Caller, Instant>,
    /// The number of agents at which those with a full quota are forgotten.
    max: usize,
}

impl RateLimiter {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        let agents = Mutex::new(Agents { full_at: HashMap::new(), max: MANY_AGENTS });
        Self { interval: Duration::from_secs(1) / per_second.get(), agents }
    }

    /// Whether the agent may make a request at `now`, which is then counted.
    pub(super) fn admit(&self, agent: Caller, now: Instant) -> bool {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.full_at.len() > agents.max {
            agents.full_at.retain(|_, full_at| *full_at > now);
            // Forgetting takes time for each agent, so there are as many requests before the next time.
            agents.max = MANY_AGENTS.max(2 * agents.full_at.len());
        }
        let full_at = agents.full_at.entry(agent).or_insert(now);
        let next = now.max(*full_at) + self.interval;
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

    fn limiter(per_second: u32) -> RateLimiter {
        RateLimiter::new(NonZeroU32::new(per_second).unwrap())
    }

    #[test]
    fn an_agent_has_a_quota_of_its_own_that_fills_evenly() {
        let (limiter, start) = (limiter(4), Instant::now());
        let admitted = |name, after_ms| {
            let now = start + Duration::from_millis(after_ms);
            (0..10).filter(|_| limiter.admit(agent(name), now)).count()
        };
        assert_eq!((admitted("a", 0), admitted("a", 249)), (4, 0));
        assert_eq!((admitted("a", 250), admitted("a", 750)), (1, 2));
        assert_eq!(admitted("b", 750), 4, "another agent");
        assert_eq!(admitted("a", 60_000), 4, "no more than the burst");
    }

    #[test]
    fn agents_with_a_full_quota_are_forgotten_and_others_are_not() {
        let (limiter, start) = (limiter(1), Instant::now());
        for number in 0..=MANY_AGENTS {
            assert!(limiter.admit(agent(&number.to_string()), start));
        }
        let (soon, later) = (start + Duration::from_millis(999), start + BURST);
        assert!(!limiter.admit(agent("0"), soon), "it is still known");
        for number in 0..=MANY_AGENTS {
            assert!(limiter.admit(agent(&format!("new {number}")), soon));
        }
        assert!(limiter.admit(agent("one more"), soon));
        let count = || limiter.agents.lock().unwrap().full_at.len();
        assert_eq!(count(), 2 * MANY_AGENTS + 3, "none has a full quota yet");
        assert!(limiter.admit(agent("last"), later));
        assert_eq!(count(), MANY_AGENTS + 3, "the first ones have");
        assert!(!limiter.admit(agent("one more"), later), "it is still known");
    }
}
