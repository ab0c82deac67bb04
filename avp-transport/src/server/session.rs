//! Sessions: the agreements of handshakes, each with a mode and a lifetime.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use avp_core::Mode;

use crate::id::random_id;

/// The default lifetime of a session: one hour, as in the Python package.
pub const DEFAULT_SESSION_TTL: Duration = Duration::from_secs(3600);

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
#[derive(Debug)]
pub struct SessionManager {
    sessions: Mutex<BTreeMap<String, Session>>,
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
        Self { sessions: Mutex::default(), default_ttl }
    }

    /// Creates a session with a random id.
    pub fn create<S: Into<String>>(
        &self,
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
        self.sessions().insert(session.id.clone(), session.clone());
        session
    }

    /// The session with this id, unless it has expired.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Session> {
        let now = Instant::now();
        self.sessions().get(id).filter(|session| !session.is_expired(now)).cloned()
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
        let (mut sessions, now) = (self.sessions(), Instant::now());
        let before = sessions.len();
        sessions.retain(|_, session| !session.is_expired(now));
        before - sessions.len()
    }

    /// The number of active sessions.
    #[must_use]
    pub fn active_count(&self) -> usize {
        let now = Instant::now();
        self.sessions().values().filter(|session| !session.is_expired(now)).count()
    }

    /// No operation panics halfway through a change, so the sessions behind a poisoned lock are consistent.
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
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
        let brief = sessions.create(["a", "b"], Mode::Json, "", Some(Duration::ZERO));
        let long = sessions.create(["b", "c"], Mode::Json, "", None);
        while !brief.is_expired(Instant::now()) {}
        assert_eq!(sessions.get(&brief.id), None);
        assert_eq!((sessions.find("a"), sessions.find("b")), (vec![], vec![long.clone()]));
        assert_eq!(sessions.active_count(), 1);
        assert_eq!((sessions.cleanup_expired(), sessions.cleanup_expired()), (1, 0));
        assert!(sessions.invalidate(&long.id) && !sessions.invalidate(&long.id));
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
