//! The stock handler: it keeps contexts, and agrees on sessions.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use avp_core::{
    Evidence, Mode, OwnedModelIdentity,
    context_store::ContextStore,
    messages::{AVP_VERSION, Hello},
    resolve,
    session::SessionManager,
};
use http::StatusCode;

use super::{Caller, Handler, IncomingFrame, Refusal, handler};
use crate::{
    store::{Contexts, Kept},
    wire::{IDEMPOTENCY_CAPABILITY, Reply},
};

/// How long an idempotency key is remembered, unless its context goes before.
const DEED_TTL: Duration = Duration::from_secs(600);

/// The most sessions, about: while so many are alive, a hello is asked to come again.
const MOST_SESSIONS: usize = 100_000;

/// Sessions are counted, and those that have ended forgotten, once in so many hellos.
const COUNTED_EVERY: usize = 256;

/// The longest name of an agent, in bytes: a session keeps it.
const LONGEST_NAME: usize = 256;

/// The most idempotency keys that are remembered; the oldest is forgotten first.
const MOST_DEEDS: usize = 10_000;

/// Looks up what two models can exchange beside what their identities say, such as a stored map.
pub type FindEvidence = dyn Fn(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence + Send + Sync;

/// Keeps every frame as a context that can be fetched until its time is over.
///
/// ```
/// # use avp_transport::{server::{Service, ServerOptions, Stock}, store::{Contexts, Keeping}};
/// let stock = Stock::new("relay", Contexts::in_memory(Keeping::default()));
/// let service = Service::new(stock, ServerOptions::default());
/// assert!(service.handler().contexts().ids().is_empty());
/// ```
///
/// A frame that names a session must name one that this server agreed on and that has not ended. One that names none is
/// taken as it is, as the peers take all.
pub struct Stock {
    agent_id: String,
    identity: Option<OwnedModelIdentity>,
    evidence: Option<Box<FindEvidence>>,
    any_session: bool,
    contexts: Contexts,
    sessions: SessionManager,
    hellos: AtomicUsize,
    /// Whether there were too many sessions when they were last counted.
    full: AtomicBool,
    deeds: Mutex<ContextStore<Deed>>,
    started: Instant,
}

/// What became of a transmission with an idempotency key.
#[derive(Debug, Clone)]
struct Deed {
    /// The CRC-32 of the head: the same key over another frame is a mistake of the client's.
    head: u32,
    /// `None` while it is under way.
    done: Option<Done>,
}

/// What a transmission came to.
#[derive(Debug, Clone)]
struct Done {
    context: String,
    /// The CRC-32 of the body on the wire: a head need not name one.
    body: u32,
    reply: Reply,
}

impl Stock {
    /// A handler that answers as `agent_id` and keeps frames in `contexts`.
    #[must_use]
    pub fn new(agent_id: &str, contexts: Contexts) -> Self {
        Self {
            agent_id: agent_id.to_owned(),
            identity: None,
            evidence: None,
            any_session: false,
            contexts,
            sessions: SessionManager::default(),
            hellos: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            deeds: Mutex::new(ContextStore::new(MOST_DEEDS)),
            started: Instant::now(),
        }
    }

    /// Answers hellos with this model's identity. Without one the client's own goes back to it, as from the peers.
    #[must_use]
    pub fn identity(self, identity: OwnedModelIdentity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Looks up evidence for the handshake.
    #[must_use]
    pub fn evidence(
        self,
        find: impl Fn(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence + Send + Sync + 'static,
    ) -> Self {
        Self { evidence: Some(Box::new(find)), ..self }
    }

    /// How long a session lives; an hour unless said otherwise, as with the peers.
    #[must_use]
    pub fn session_ttl(self, ttl: Duration) -> Self {
        Self { sessions: SessionManager::new(ttl), ..self }
    }

    /// Takes frames of any session, also of one that this server does not know.
    #[must_use]
    pub fn any_session(self, any: bool) -> Self {
        Self { any_session: any, ..self }
    }

    /// The contexts.
    #[must_use]
    pub const fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// The sessions.
    #[must_use]
    pub const fn sessions(&self) -> &SessionManager {
        &self.sessions
    }

    /// Refuses a session that this server does not know, or no longer.
    ///
    /// # Errors
    /// 410, `session_expired`.
    pub fn check_session(&self, id: &str) -> Result<(), Refusal> {
        match id.is_empty() || self.any_session || self.sessions.get(id).is_some() {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::GONE,
                "session_expired",
                "no such session lives here: it has ended, or was never agreed on; say hello again",
            )),
        }
    }

    /// Keeps a frame, once for each idempotency key, and answers with what there is to say of it.
    ///
    /// # Errors
    /// Those of [`check_session`](Self::check_session) and [`Contexts::keep`]; and when the key is in use.
    pub async fn keep(&self, frame: IncomingFrame, caller: &Caller) -> Result<Reply, Refusal> {
        self.check_session(frame.head().metadata().session_id())?;
        let Some(key) = &caller.idempotency_key else { return self.keep_once(frame).await };
        // Keys are each agent's own.
        let key = format!("{}\n{key}", caller.agent_id);
        let head = avp_core::crc32(frame.head().bytes());
        let undertaking = match self.begin(&key, head)? {
            Begun::Now(undertaking) => undertaking,
            // All of it is read and compared: one frame is not to be taken for another because their heads are alike.
            Begun::Before(done) => match frame.into_crc32().await? == done.body {
                true => return Ok(done.reply),
                false => return Err(key_reused()),
            },
        };
        let kept = self.contexts.keep(frame).await?;
        let reply = self.receipt(&kept);
        undertaking.done(Done { context: kept.id().to_owned(), body: kept.crc32(), reply: reply.clone() });
        Ok(reply)
    }

    async fn keep_once(&self, frame: IncomingFrame) -> Result<Reply, Refusal> {
        Ok(self.receipt(&*self.contexts.keep(frame).await?))
    }

    fn receipt(&self, kept: &Kept) -> Reply {
        Reply::new()
            .with("context_id", kept.id())
            .with("bytes", kept.len())
            .with("etag", kept.etag())
            .with("expires_in", self.contexts.ttl().as_secs())
    }

    /// Refuses a hello that would cost more memory than it is worth.
    fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.agent_id.len() > LONGEST_NAME {
            let message = format!("expected an `agent_id` of at most {LONGEST_NAME} bytes");
            return Err(Refusal::bad_request("bad_hello", message).of_field("agent_id"));
        }
        if self.hellos.fetch_add(1, Ordering::Relaxed).is_multiple_of(COUNTED_EVERY) {
            self.count_sessions();
        }
        match self.full.load(Ordering::Relaxed) {
            true => Err(Refusal::busy("too_many_sessions", "the server has as many sessions as it can keep")),
            false => Ok(()),
        }
    }

    fn count_sessions(&self) {
        self.sessions.cleanup_expired();
        self.full.store(self.sessions.active_count() >= MOST_SESSIONS, Ordering::Relaxed);
    }

    fn begin<'a>(&'a self, key: &'a str, head: u32) -> Result<Begun<'a>, Refusal> {
        let now = self.started.elapsed();
        let mut deeds = self.deeds();
        // An id that nobody finds any more is no answer: with its context, a deed is forgotten.
        let lives = |deed: &Deed| deed.done.as_ref().is_none_or(|done| self.contexts.has(&done.context));
        match deeds.get(key, now).filter(|deed| lives(deed)).cloned() {
            Some(deed) if deed.head != head => Err(key_reused()),
            Some(Deed { done: Some(done), .. }) => Ok(Begun::Before(done)),
            Some(Deed { done: None, .. }) => Err(Refusal::new(
                StatusCode::CONFLICT,
                "in_progress",
                "a request with this idempotency key is still under way",
            )
            .retry_after(Duration::from_secs(1))),
            None => {
                // Each counts as one, and the quota is a number of them, so one always fits.
                let _ = deeds.insert(key, Deed { head, done: None }, 1, DEED_TTL, now);
                Ok(Begun::Now(Undertaking { stock: self, key, head, done: None }))
            }
        }
    }

    fn deeds(&self) -> std::sync::MutexGuard<'_, ContextStore<Deed>> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Begun<'a> {
    Now(Undertaking<'a>),
    Before(Done),
}

fn key_reused() -> Refusal {
    let message = "this idempotency key came with another frame before";
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
}

/// A transmission under way. When it ends without a reply its key is free again.
struct Undertaking<'a> {
    stock: &'a Stock,
    key: &'a str,
    head: u32,
    done: Option<Done>,
}

impl Undertaking<'_> {
    fn done(mut self, done: Done) {
        self.done = Some(done);
    }
}

impl Drop for Undertaking<'_> {
    fn drop(&mut self) {
        let (mut deeds, now) = (self.stock.deeds(), self.stock.started.elapsed());
        match self.done.take() {
            Some(done) => {
                let deed = Deed { head: self.head, done: Some(done) };
                let _ = deeds.insert(self.key, deed, 1, DEED_TTL, now);
            }
            None => drop(deeds.remove(self.key)),
        }
    }
}

impl Handler for Stock {
    async fn handshake(&self, hello: Hello, _: &Caller) -> Result<Reply, Refusal> {
        self.admit(&hello)?;
        let remote = hello.identity.clone().unwrap_or_default();
        let local = self.identity.clone().unwrap_or_else(|| remote.clone());
        let evidence = self.evidence.as_ref().map_or_else(Evidence::default, |find| find(&local, &remote));
        // As the client sees it: what it sends goes from its model to ours.
        let resolution = resolve(&remote, &local, evidence);
        let map_id = resolution.map_id.to_string();
        let agents = [hello.agent_id.clone(), self.agent_id.clone()];
        let session = self.sessions.create(agents, resolution.mode, &map_id, None);
        let reply = match &self.identity {
            Some(identity) => {
                Reply::new().with("identity", serde_json::to_value(identity).unwrap_or_default())
            }
            None => handler::echo(&hello),
        };
        Ok(reply
            .with("agent_id", self.agent_id.as_str())
            .with("avp_version", AVP_VERSION)
            .with("capabilities", serde_json::json!({ "contexts": true, IDEMPOTENCY_CAPABILITY: true }))
            .with("session_id", session.id)
            .with("mode", if resolution.mode == Mode::Latent { "latent" } else { "json" })
            .with("avp_map_id", map_id)
            .with("resolution_path", resolution.rule.as_str())
            .with("expires_in", session.ttl.as_secs()))
    }

    async fn transmit(&self, frame: IncomingFrame, caller: &Caller) -> Result<Reply, Refusal> {
        self.keep(frame, caller).await
    }

    async fn context(&self, id: &str, _: &Caller) -> Result<Option<Arc<Kept>>, Refusal> {
        Ok(self.contexts.get(id))
    }

    async fn forget(&self, id: &str, _: &Caller) -> Result<bool, Refusal> {
        Ok(self.contexts.remove(id))
    }

    fn tidy(&self) {
        self.contexts.sweep();
        self.count_sessions();
    }

    fn stored_bytes(&self) -> u64 {
        self.contexts.bytes_used() as u64
    }
}

impl fmt::Debug for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stock")
            .field("agent_id", &self.agent_id)
            .field("contexts", &self.contexts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Keeping;

    fn hello(agent_id: &str) -> Hello {
        Hello { agent_id: agent_id.to_owned(), ..Default::default() }
    }

    #[test]
    fn sessions_that_have_ended_are_forgotten_and_too_many_are_refused() {
        let stock = Stock::new("server", Contexts::in_memory(Keeping::default())).session_ttl(Duration::ZERO);
        for _ in 0..MOST_SESSIONS {
            stock.sessions.create(["a"], Mode::Json, "", None);
        }
        assert_eq!(stock.admit(&hello("a")), Ok(()), "all of them have ended");
        assert_eq!(stock.sessions.cleanup_expired(), 0);
        for _ in 0..MOST_SESSIONS {
            stock.sessions.create(["a"], Mode::Json, "", Some(Duration::from_secs(3600)));
        }
        let refused = (0..COUNTED_EVERY).find_map(|_| stock.admit(&hello("a")).err()).unwrap();
        assert_eq!(refused.code(), "too_many_sessions");
        // Which hello counts them again is not for a server to wait for.
        for session in stock.sessions.find("a") {
            stock.sessions.invalidate(&session.id);
        }
        stock.tidy();
        assert_eq!(stock.admit(&hello("a")), Ok(()), "there is room again");
    }

    #[test]
    fn a_name_that_is_no_name_is_not_kept() {
        let stock = Stock::new("server", Contexts::in_memory(Keeping::default()));
        assert_eq!(stock.admit(&hello(&"a".repeat(LONGEST_NAME))), Ok(()));
        let refused = stock.admit(&hello(&"a".repeat(LONGEST_NAME + 1))).unwrap_err();
        assert_eq!((refused.code(), refused.field()), ("bad_hello", Some("agent_id")));
    }
}
