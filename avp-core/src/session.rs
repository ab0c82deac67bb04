//! Sessions: who talks to whom, in which mode, until when.
//!
//! [`SessionStore`] takes the time as an argument, so it runs anywhere and tests need not wait. [`SessionManager`], with
//! `std`, adds a clock, a lock and ids.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use crate::Mode;

/// How long a session lives where nobody says otherwise: one hour, as for the peers.
pub const DEFAULT_SESSION_TTL: Duration = Duration::from_secs(3600);

/// An agreement between agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The id that frames carry as `session_id`.
    pub id: String,
    /// The agents that take part.
    pub agents: Vec<String>,
    /// How they talk.
    pub mode: Mode,
    /// The projection map between their models; `""` for none.
    pub avp_map_id: String,
    /// When the session began, on the clock of whoever passes `now`.
    pub created: Duration,
    /// How long it lives.
    pub ttl: Duration,
}

impl Session {
    /// Whether the session has ended by itself at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Duration) -> bool {
        now > self.created.saturating_add(self.ttl)
    }
}

/// Sessions by id. `now` is the time since any moment that the caller keeps to.
///
/// # Examples
///
/// ```
/// # use avp_core::{Mode, session::{Session, SessionStore}};
/// # use core::time::Duration;
/// let mut store = SessionStore::default();
/// let (created, ttl) = (Duration::from_secs(10), Duration::from_secs(60));
/// store.insert(Session {
///     id: "s1".into(),
///     agents: vec!["a".into(), "b".into()],
///     mode: Mode::Latent,
///     avp_map_id: String::new(),
///     created,
///     ttl,
/// });
/// assert!(store.get("s1", created + ttl).is_some());
/// assert!(store.get("s1", created + ttl + Duration::from_secs(1)).is_none());
/// ```
#[derive(Debug, Clone, Default)]
pub struct SessionStore {
    sessions: BTreeMap<String, Session>,
}

impl SessionStore {
    /// Adds a session and returns the one that had its id.
    pub fn insert(&mut self, session: Session) -> Option<Session> {
        self.sessions.insert(session.id.clone(), session)
    }

    /// The session with this id. One that has expired is removed and not returned.
    pub fn get(&mut self, id: &str, now: Duration) -> Option<&Session> {
        if self.sessions.get(id)?.is_expired(now) {
            self.sessions.remove(id);
        }
        self.sessions.get(id)
    }

    /// The active sessions that an agent takes part in, by id.
    pub fn find(&self, agent: &str, now: Duration) -> impl Iterator<Item = &Session> {
        self.active(now).filter(move |session| session.agents.iter().any(|name| name == agent))
    }

    /// Removes a session; whether there was one.
    pub fn invalidate(&mut self, id: &str) -> bool {
        self.sessions.remove(id).is_some()
    }

    /// Removes every expired session, and returns how many there were.
    pub fn cleanup_expired(&mut self, now: Duration) -> usize {
        let before = self.sessions.len();
        self.sessions.retain(|_, session| !session.is_expired(now));
        before - self.sessions.len()
    }

    /// How many sessions are active.
    #[must_use]
    pub fn active_count(&self, now: Duration) -> usize {
        self.active(now).count()
    }

    fn active(&self, now: Duration) -> impl Iterator<Item = &Session> {
        self.sessions.values().filter(move |session| !session.is_expired(now))
    }
}

#[cfg(feature = "std")]
pub use self::manager::SessionManager;

#[cfg(feature = "std")]
mod manager {
    use std::{
        hash::{BuildHasher as _, RandomState},
        sync::{Mutex, MutexGuard, PoisonError},
        time::Instant,
    };

    use super::{DEFAULT_SESSION_TTL, Duration, Mode, Session, SessionStore, String, Vec};

    /// A [`SessionStore`] for many threads, with a clock of its own.
    ///
    /// Only available when `std` is enabled. It reads the system's clock, which the target
    /// `wasm32-unknown-unknown` lacks; use [`SessionStore`] there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use avp_core::{Mode, session::SessionManager};
    /// let sessions = SessionManager::default();
    /// let session = sessions.create(["a", "b"], Mode::Latent, "", None);
    /// assert_eq!(sessions.get(&session.id), Some(session));
    /// ```
    #[derive(Debug)]
    pub struct SessionManager {
        store: Mutex<SessionStore>,
        started: Instant,
        default_ttl: Duration,
        /// Two secret keys, from the operating system.
        keys: [RandomState; 2],
    }

    impl Default for SessionManager {
        fn default() -> Self {
            Self::new(DEFAULT_SESSION_TTL)
        }
    }

    impl SessionManager {
        /// A manager whose sessions live this long unless said otherwise.
        #[must_use]
        pub fn new(default_ttl: Duration) -> Self {
            Self {
                store: Mutex::default(),
                started: Instant::now(),
                default_ttl,
                keys: [RandomState::new(), RandomState::new()],
            }
        }

        /// Begins a session with an id of its own: 32 hex digits that nobody can guess from others.
        pub fn create<S: Into<String>>(
            &self,
            agents: impl IntoIterator<Item = S>,
            mode: Mode,
            avp_map_id: &str,
            ttl: Option<Duration>,
        ) -> Session {
            let agents: Vec<String> = agents.into_iter().map(Into::into).collect();
            let mut store = self.store();
            let session = Session {
                id: self.next_id(&store),
                agents,
                mode,
                avp_map_id: avp_map_id.into(),
                created: self.started.elapsed(),
                ttl: ttl.unwrap_or(self.default_ttl),
            };
            store.insert(session.clone());
            session
        }

        /// The session with this id, unless it has expired.
        pub fn get(&self, id: &str) -> Option<Session> {
            self.store().get(id, self.started.elapsed()).cloned()
        }

        /// The active sessions that an agent takes part in.
        pub fn find(&self, agent: &str) -> Vec<Session> {
            self.store().find(agent, self.started.elapsed()).cloned().collect()
        }

        /// Removes a session; whether there was one.
        pub fn invalidate(&self, id: &str) -> bool {
            self.store().invalidate(id)
        }

        /// Removes every expired session, and returns how many there were.
        pub fn cleanup_expired(&self) -> usize {
            self.store().cleanup_expired(self.started.elapsed())
        }

        /// How many sessions are active.
        pub fn active_count(&self) -> usize {
            self.store().active_count(self.started.elapsed())
        }

        /// A panic elsewhere leaves the map whole, so its lock's poison tells nothing.
        fn store(&self) -> MutexGuard<'_, SessionStore> {
            self.store.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// `RandomState` is SipHash under a secret key, a pseudo-random function: its value of a counter tells nothing
        /// about the next one.
        fn next_id(&self, store: &SessionStore) -> String {
            (0_u64..)
                .map(|attempt| {
                    let input = (store.sessions.len(), self.started.elapsed(), attempt);
                    let [high, low] = [0, 1].map(|key: usize| self.keys[key].hash_one(input));
                    std::format!("{high:016x}{low:016x}")
                })
                .find(|id| !store.sessions.contains_key(id))
                .unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn session(id: &str, agents: [&str; 2], created: u64, ttl: u64) -> Session {
        Session {
            id: id.into(),
            agents: agents.map(Into::into).to_vec(),
            mode: Mode::Latent,
            avp_map_id: String::new(),
            created: seconds(created),
            ttl: seconds(ttl),
        }
    }

    #[test]
    fn sessions_end_when_their_time_is_up() {
        let mut store = SessionStore::default();
        store.insert(session("short", ["a", "b"], 100, 10));
        store.insert(session("long", ["b", "c"], 100, 1000));
        store.insert(session("endless", ["c", "d"], 100, u64::MAX));
        assert_eq!(store.active_count(seconds(110)), 3);
        assert_eq!(store.active_count(seconds(111)), 2);
        let found: Vec<&str> = store.find("b", seconds(111)).map(|session| session.id.as_str()).collect();
        assert_eq!(found, vec!["long"]);
        assert_eq!(store.get("short", seconds(111)), None);
        assert_eq!(store.cleanup_expired(seconds(111)), 0, "`get` has removed it");
        assert_eq!(store.cleanup_expired(seconds(u64::MAX)), 1);
        assert!(store.invalidate("endless"));
        assert!(!store.invalidate("endless"));
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_manager_serves_many_threads_and_gives_each_session_its_own_id() {
        let manager = SessionManager::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let manager = &manager;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let agents = [std::format!("agent-{thread}"), "hub".into()];
                        let session = manager.create(agents, Mode::Json, "", None);
                        assert_eq!(session.id.len(), 32);
                        assert_eq!(manager.get(&session.id), Some(session));
                    }
                });
            }
        });
        assert_eq!(manager.active_count(), 400);
        assert_eq!((manager.find("hub").len(), manager.find("agent-2").len()), (400, 100));
        let brief = manager.create(["a"], Mode::Json, "", Some(Duration::ZERO));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(manager.get(&brief.id), None);
        assert!(manager.invalidate(&manager.find("agent-0")[0].id));
        assert_eq!(manager.cleanup_expired(), 0);
    }
}
