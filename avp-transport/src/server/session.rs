//! Sessions: the agreements of handshakes, each with a mode and a lifetime.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use avp_core::Mode;

use super::Caller;
use crate::{id::random_id, store::Cache};

/// The default lifetime of a session: one hour, as in the Python package.
pub const DEFAULT_SESSION_TTL: Duration = Duration::from_secs(3600);

/// The memory for sessions, in bytes: some 50,000 of them.
pub const SESSION_MEMORY: usize = 48 << 20;

/// What a session occupies beside its texts, in bytes: its id as a key in three maps, and itself.
const PER_SESSION: usize = 768;

/// An agreement between agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The id that frames carry as `session_id`: 32 hexadecimal digits.
    pub id: String,
    /// The agents of the session.
    pub agents: Vec<String>,
    /// What they exchange.
    pub mode: Mode,
    /// The projection map between their models; `""` if none is needed.
    pub avp_map_id: String,
    /// When the session was created.
    pub created: Instant,
    /// The lifetime.
    pub ttl: Duration,
}

impl Session {
    /// Whether the session has expired at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Instant) -> bool {
        now.duration_since(self.created) > self.ttl
    }
}

/// The sessions of a server, by id.
///
/// ```
/// use avp_core::Mode;
/// use avp_transport::server::SessionManager;
///
/// let sessions = SessionManager::default();
/// let session = sessions.create(["a", "b"], Mode::Latent, "", None);
/// assert_eq!(sessions.get(&session.id), Some(session));
/// ```
///
/// They occupy at most [`SESSION_MEMORY`]. A new one then takes the place of the one that was not used for longest, of the caller with
/// the most.
#[derive(Debug)]
pub struct SessionManager {
    sessions: Mutex<Cache<Session>>,
    started: Instant,
    default_ttl: Duration,
}

impl Default for SessionManager {
    fn default() -> Self {
        Self::new(DEFAULT_SESSION_TTL)
    }
}

impl SessionManager {
    /// A manager whose sessions have this lifetime by default.
    #[must_use]
    pub fn new(default_ttl: Duration) -> Self {
        Self::within(SESSION_MEMORY, default_ttl)
    }

    fn within(memory: usize, default_ttl: Duration) -> Self {
        Self { sessions: Mutex::new(Cache::new(memory)), started: Instant::now(), default_ttl }
    }

    /// Creates a session of the server's own with a random id.
    pub fn create<S: Into<String>>(
        &self,
        agents: impl IntoIterator<Item = S>,
        mode: Mode,
        avp_map_id: &str,
        ttl: Option<Duration>,
    ) -> Session {
        self.create_for(&Caller::Server, agents, mode, avp_map_id, ttl)
    }

    /// As [`create`](Self::create), for `caller`.
    pub fn create_for<S: Into<String>>(
        &self,
        caller: &Caller,
        agents: impl IntoIterator<Item = S>,
        mode: Mode,
        avp_map_id: &str,
        ttl: Option<Duration>,
    ) -> Session {
        let session = Session {
            id: random_id(),
            agents: agents.into_iter().map(Into::into).collect(),
            mode,
            avp_map_id: avp_map_id.to_owned(),
            created: Instant::now(),
            ttl: ttl.unwrap_or(self.default_ttl),
        };
        let texts = session.agents.iter().map(String::len).sum::<usize>() + avp_map_id.len();
        let (mut sessions, now) = (self.sessions(), self.started.elapsed());
        sessions.take_expired(now);
        let (owner, bytes) = (caller.to_string(), PER_SESSION + texts);
        // One that does not fit has expired at once: its texts are longer than the memory for all.
        let _ = sessions.insert(&session.id, owner.as_str().into(), session.clone(), bytes, session.ttl, now);
        session
    }

    /// The session with this id, unless it has expired. Counts as a use.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Session> {
        self.sessions().get(id, self.started.elapsed()).cloned()
    }

    /// The active sessions of an agent, sorted by id.
    #[must_use]
    pub fn find(&self, agent: &str) -> Vec<Session> {
        let (sessions, now) = (self.sessions(), Instant::now());
        let of_agent = |session: &&Session| session.agents.iter().any(|name| name == agent);
        sessions.values().filter(|session| !session.is_expired(now)).filter(of_agent).cloned().collect()
    }

    /// Removes a session and returns whether there was one.
    pub fn invalidate(&self, id: &str) -> bool {
        self.sessions().remove(id).is_some()
    }

    /// Removes every expired session and returns their number.
    pub fn cleanup_expired(&self) -> usize {
        self.sessions().take_expired(self.started.elapsed()).len()
    }

    /// The number of active sessions.
    #[must_use]
    pub fn active_count(&self) -> usize {
        let now = Instant::now();
        self.sessions().values().filter(|session| !session.is_expired(now)).count()
    }

    /// No operation panics halfway through a change, so the sessions behind a poisoned lock are consistent.
    fn sessions(&self) -> MutexGuard<'_, Cache<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_expires_after_its_lifetime_even_the_longest() {
        let sessions = SessionManager::new(Duration::from_secs(10));
        let short = sessions.create(["a"], Mode::Latent, "", None);
        let endless = sessions.create(["a"], Mode::Latent, "", Some(Duration::MAX));
        assert!(!short.is_expired(short.created + Duration::from_secs(10)));
        assert!(short.is_expired(short.created + Duration::from_secs(11)));
        assert!(!endless.is_expired(endless.created + Duration::from_secs(1 << 30)));
    }

    #[test]
    fn an_expired_session_is_not_found_and_is_removed() {
        let sessions = SessionManager::default();
        let long = sessions.create(["b", "c"], Mode::Json, "", None);
        let brief = sessions.create(["a", "b"], Mode::Json, "", Some(Duration::ZERO));
        while !brief.is_expired(Instant::now()) {}
        assert_eq!(sessions.get(&brief.id), None);
        assert_eq!((sessions.find("a"), sessions.find("b")), (vec![], vec![long.clone()]));
        assert_eq!(sessions.active_count(), 1);
        assert_eq!((sessions.cleanup_expired(), sessions.cleanup_expired()), (1, 0));
        assert!(sessions.invalidate(&long.id) && !sessions.invalidate(&long.id));
    }

    #[test]
    fn a_caller_with_the_most_sessions_makes_room_and_nobody_loses_one_to_it() {
        let sessions = SessionManager::within(10 * (PER_SESSION + 1), DEFAULT_SESSION_TTL);
        let [few, many] = ["few", "many"].map(|name| Caller::Principal(name.to_owned()));
        let create = |caller: &Caller| sessions.create_for(caller, ["a"], Mode::Json, "", None);
        let (own, first, second) = (create(&few), create(&many), create(&many));
        (0..7).for_each(|_| drop(create(&many)));
        assert_eq!(sessions.active_count(), 10);
        assert_eq!(sessions.get(&first.id), Some(first.clone()), "a use");
        (0..8).for_each(|_| drop(create(&many)));
        assert_eq!((sessions.get(&second.id), sessions.active_count()), (None, 10), "idle for longest");
        assert_eq!(sessions.get(&first.id), Some(first), "used since");
        assert_eq!(sessions.get(&own.id), Some(own), "of another caller");
    }

    #[test]
    fn threads_share_a_manager_and_each_session_has_its_own_id() {
        let sessions = SessionManager::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let sessions = &sessions;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let agents = [format!("agent-{thread}"), "hub".to_owned()];
                        let session = sessions.create(agents, Mode::Json, "", None);
                        assert_eq!(session.id.len(), 32);
                        assert_eq!(sessions.get(&session.id), Some(session));
                    }
                });
            }
        });
        assert_eq!(sessions.active_count(), 400);
        assert_eq!((sessions.find("hub").len(), sessions.find("agent-2").len()), (400, 100));
    }
}
