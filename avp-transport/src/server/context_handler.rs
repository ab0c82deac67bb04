//! The handler that stores contexts and negotiates sessions.

use std::{fmt, sync::Arc, time::Duration};

use avp_core::{
    Evidence, Mode, OwnedModelIdentity,
    messages::{AVP_VERSION, Hello},
    resolve,
    sign::PublicKey,
};
use http::StatusCode;

use super::{
    ErrorResponse, Handler, IncomingFrame, RequestInfo, RequiredSigners, handler,
    idempotency::{self, Completed, IdempotencyTable, KeyState},
    session::SessionManager,
    signatures::Claim,
};
use crate::{
    store::{ContextLink, ContextStore, Digest, StoredContext, sha256},
    wire::{IDEMPOTENCY_CAPABILITY, Reply},
};

/// The longest agent id, in bytes: a session stores it.
const MAX_AGENT_ID: usize = 256;

/// Looks up what two models can exchange beyond what their identities say, such as a stored map.
pub type FindEvidence = dyn Fn(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence + Send + Sync;

/// Stores every frame as a context, which can be fetched until it expires.
///
/// ```
/// use avp_transport::{server::ContextHandler, store::{ContextStore, StoreOptions}};
///
/// let handler = ContextHandler::new("relay", ContextStore::in_memory(StoreOptions::default()));
/// assert!(handler.contexts().ids().is_empty());
/// ```
///
/// A frame that names a session must name one that this server has negotiated and that has not expired. A frame without
/// a session is accepted, as the Python package's servers accept every frame.
pub struct ContextHandler {
    agent_id: String,
    identity: Option<OwnedModelIdentity>,
    evidence: Option<Box<FindEvidence>>,
    any_session: bool,
    signers: Option<RequiredSigners>,
    contexts: ContextStore,
    sessions: SessionManager,
    transmissions: Arc<IdempotencyTable>,
}

impl ContextHandler {
    /// A handler that answers as `agent_id` and stores frames in `contexts`.
    #[must_use]
    pub fn new(agent_id: &str, contexts: ContextStore) -> Self {
        let transmissions = IdempotencyTable::new();
        let recovered = transmissions.clone();
        contexts.for_each_recovered(move |context| {
            if let Some(completed) = Completed::of(context) {
                recovered.remember(context.owner(), completed);
            }
        });
        Self {
            agent_id: agent_id.to_owned(),
            identity: None,
            evidence: None,
            any_session: false,
            signers: None,
            contexts,
            sessions: SessionManager::default(),
            transmissions,
        }
    }

    /// Sets the identity for handshakes. By default the client's own is returned to it, as by the Python package.
    #[must_use]
    pub fn identity(self, identity: OwnedModelIdentity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Sets the function that looks up evidence during a handshake.
    #[must_use]
    pub fn evidence(
        self,
        find: impl Fn(&OwnedModelIdentity, &OwnedModelIdentity) -> Evidence + Send + Sync + 'static,
    ) -> Self {
        Self { evidence: Some(Box::new(find)), ..self }
    }

    /// Sets the lifetime of a session. Default: one hour, as in the Python package.
    #[must_use]
    pub fn session_ttl(self, ttl: Duration) -> Self {
        Self { sessions: SessionManager::new(ttl), ..self }
    }

    /// Accepts frames of any session, known to this server or not.
    #[must_use]
    pub fn any_session(self, any: bool) -> Self {
        Self { any_session: any, ..self }
    }

    /// Accepts frames that are signed by these signers alone.
    #[must_use]
    pub fn required_signers(self, signers: RequiredSigners) -> Self {
        Self { signers: Some(signers), ..self }
    }

    /// Accepts frames of these signers from now on, in place of those of [`required_signers`](Self::required_signers).
    pub fn replace_signers(&self, trusted: Vec<PublicKey>) {
        if let Some(signers) = &self.signers {
            signers.replace(trusted);
        }
    }

    /// The stored contexts.
    #[must_use]
    pub const fn contexts(&self) -> &ContextStore {
        &self.contexts
    }

    /// The sessions.
    #[must_use]
    pub const fn sessions(&self) -> &SessionManager {
        &self.sessions
    }

    /// Refuses a session that is unknown or has expired.
    ///
    /// # Errors
    /// 410, `session_expired`.
    pub fn check_session(&self, id: &str) -> Result<(), ErrorResponse> {
        if id.is_empty() || self.any_session || self.sessions.get(id).is_some() {
            return Ok(());
        }
        Err(ErrorResponse::new(
            StatusCode::GONE,
            "session_expired",
            "the session is unknown or has expired; repeat the handshake",
        ))
    }

    /// Stores a frame, once for each idempotency key, and describes it in the reply.
    ///
    /// # Errors
    /// Those of [`check_session`](Self::check_session), of [`RequiredSigners`] and of [`IncomingFrame::store`]; 409 while a request with the same key
    /// is in progress; 503 for a key that is not known while contexts of an earlier process have yet to be verified; 422 where the key
    /// came with another frame.
    pub async fn store(&self, frame: IncomingFrame, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.check_session(frame.head().metadata().session_id)?;
        let owner = info.owner();
        let Some(key) = &info.idempotency_key else {
            let context = self.store_new(frame, info, None).await?;
            return Ok(self.receipt(&context));
        };
        // Each principal has its own keys; without principals, each agent.
        let agent = if info.principal.is_some() { "" } else { &info.agent_id };
        let key = sha256(&[owner.name, agent, key].map(|name| sha256(name.as_bytes())).concat());
        let head = sha256(frame.head().bytes());
        // Asked first: when recovery has ended, every key of an earlier process is known.
        let is_recovering = self.contexts.is_recovering();
        match self.transmissions.begin(owner.name, key, head, |id| self.contexts.contains(id)) {
            // The frame may be among those that were stored under this key and have yet to be verified.
            KeyState::New(_) if is_recovering => Err(verifying("what was stored under idempotency keys")),
            KeyState::New(reservation) => {
                let context = self.store_new(frame, info, Some((key, head, reservation))).await?;
                Ok(self.receipt(&context))
            }
            KeyState::Completed(completed) => {
                let gone = || ErrorResponse::not_found("the context of this idempotency key has expired");
                let context = self.contexts.get(&completed.context_id).ok_or_else(gone)?;
                // Heads can be equal where bodies are not, so the whole frame is read and compared.
                if !frame.matches(&context).await? {
                    return Err(reused());
                }
                info.note_context(context.id(), Some(context.etag()));
                Ok(self.receipt(&context))
            }
            KeyState::OtherFrame => Err(reused()),
            KeyState::InProgress => Err(ErrorResponse::new(
                StatusCode::CONFLICT,
                "in_progress",
                "a request with this idempotency key is in progress",
            )
            .retry_after(Duration::from_secs(1))),
        }
    }

    /// Stores a frame with a key that is new, or without one. It goes on when the client has disconnected, so that no key and no
    /// signature is forgotten whose frame is stored.
    async fn store_new(
        &self,
        mut frame: IncomingFrame,
        info: &RequestInfo,
        key: Option<(Digest, Digest, idempotency::Reservation)>,
    ) -> Result<Arc<StoredContext>, ErrorResponse> {
        let signature = self.check_signature(&mut frame)?;
        let (contexts, sender) = (self.contexts.share(), info.clone());
        let storing = tokio::spawn(async move {
            let once = key.as_ref().map(|(key, head, _)| (*key, *head));
            let context = frame.store_once(&contexts, sender.owner(), once).await?;
            if let Some(Err(replayed)) = signature.map(Claim::accept) {
                // Another request with the same signature was faster. Nobody knows this one's id yet.
                contexts.remove(context.id())?;
                return Err(replayed);
            }
            // Here, because nobody else notes it when the client has gone.
            sender.note_context(context.id(), Some(context.etag()));
            if let (Some((.., reservation)), Some(completed)) = (key, Completed::of(&context)) {
                reservation.complete(completed);
            }
            Ok(context)
        });
        storing.await.unwrap_or_else(|_| Err(ErrorResponse::internal()))
    }

    /// Checks what the head shows of the signature, and has it verified with the body.
    fn check_signature(&self, frame: &mut IncomingFrame) -> Result<Option<Claim>, ErrorResponse> {
        let Some(signers) = &self.signers else { return Ok(None) };
        let (verifier, claim) = signers.check(frame.head())?;
        frame.verify_with(verifier);
        Ok(Some(claim))
    }

    fn receipt(&self, context: &StoredContext) -> Reply {
        Reply::new()
            .with("context_id", context.id())
            .with("bytes", context.len())
            .with("etag", context.etag())
            .with("expires_in", self.contexts.ttl().as_secs())
    }
}

impl Handler for ContextHandler {
    async fn handshake(&self, hello: Hello, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        check_agent_id(&hello)?;
        let remote = hello.identity.clone().unwrap_or_default();
        let local = self.identity.clone().unwrap_or_else(|| remote.clone());
        let evidence = self.evidence.as_ref().map_or_else(Evidence::default, |find| find(&local, &remote));
        // The client sends, so the direction is from its model to ours.
        let resolution = resolve(&remote, &local, evidence);
        let map_id = resolution.map_id.to_string();
        let agents = [hello.agent_id.clone(), self.agent_id.clone()];
        let session = self.sessions.create_for(&info.caller(), agents, resolution.mode, &map_id, None);
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

    async fn transmit(&self, frame: IncomingFrame, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.store(frame, info).await
    }

    async fn context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> Result<Option<Arc<StoredContext>>, ErrorResponse> {
        // Asked first: it may be verified meanwhile.
        let is_pending = self.contexts.is_pending(id);
        let found = self.contexts.get_if(id, |context| info.may_see(context.owner()));
        info.note_context(id, found.as_ref().map(|context| context.etag()));
        if found.is_some() || !is_pending {
            return Ok(found);
        }
        // Who may not see it must not learn that it is there.
        let owner = self.contexts.recorded_owner(id).await;
        if info.may_see(&owner) { Err(verifying("this context")) } else { Ok(None) }
    }

    async fn link_context(
        &self,
        id: &str,
        valid_for: Option<Duration>,
        info: &RequestInfo,
    ) -> Result<Option<Reply>, ErrorResponse> {
        let valid_for = valid_for.unwrap_or(Duration::MAX).min(self.contexts.ttl());
        let context = self.context(id, info).await?;
        let link = context.and_then(|context| self.contexts.link(context.id(), valid_for));
        Ok(link
            .map(|link| Reply::new().with("link", link.to_string()).with("expires_in", valid_for.as_secs())))
    }

    async fn linked_context(
        &self,
        link: &ContextLink,
        info: &RequestInfo,
    ) -> Result<Option<Arc<StoredContext>>, ErrorResponse> {
        // Asked first: it may be verified meanwhile.
        let is_pending = self.contexts.is_pending_link(link);
        let found = self.contexts.linked(link);
        info.note_context(link.id(), found.as_ref().map(|context| context.etag()));
        if found.is_none() && is_pending { Err(verifying("this context")) } else { Ok(found) }
    }

    async fn delete_context(&self, id: &str, info: &RequestInfo) -> Result<bool, ErrorResponse> {
        Ok(self.context(id, info).await?.is_some() && self.contexts.remove(id)?)
    }

    fn remove_expired(&self) {
        self.contexts.remove_expired();
        self.sessions.cleanup_expired();
        if let Some(signers) = &self.signers {
            signers.remove_expired();
        }
    }

    fn stored_bytes(&self) -> u64 {
        self.contexts.bytes_used() as u64
    }
}

fn verifying(what: &str) -> ErrorResponse {
    let message = format!("the server has started a moment ago and has yet to verify {what}");
    ErrorResponse::busy("verifying", message)
}

fn reused() -> ErrorResponse {
    let message = "this idempotency key was used with another frame";
    ErrorResponse::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
}

/// Refuses an agent id that is too long to be stored.
fn check_agent_id(hello: &Hello) -> Result<(), ErrorResponse> {
    if hello.agent_id.len() <= MAX_AGENT_ID {
        return Ok(());
    }
    let message = format!("expected an `agent_id` of at most {MAX_AGENT_ID} bytes");
    Err(ErrorResponse::bad_request("bad_hello", message).of_field("agent_id"))
}

impl fmt::Debug for ContextHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextHandler")
            .field("agent_id", &self.agent_id)
            .field("contexts", &self.contexts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use avp_core::{FrameEncoder, Metadata};
    use http_body_util::Full;

    use super::{
        super::{ServerOptions, Service},
        *,
    };
    use crate::{store::StoreOptions, wire};

    #[tokio::test]
    async fn a_key_that_is_not_known_waits_until_every_stored_key_is() {
        let handler = ContextHandler::new("server", ContextStore::in_memory(StoreOptions::default()));
        let service = Service::new(handler, ServerOptions::default());
        let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
        let send = async |key: Option<&str>| {
            let request = http::Request::post(wire::TRANSMIT).header(http::header::CONTENT_TYPE, wire::FRAME);
            let request = match key {
                Some(key) => request.header(wire::IDEMPOTENCY_HEADER, key),
                None => request,
            };
            let response = service.answer(request.body(Full::from(frame.clone())).unwrap()).await;
            (response.status().as_u16(), response.headers().contains_key(http::header::RETRY_AFTER))
        };
        let contexts = service.handler().contexts();
        assert_eq!(send(Some("known")).await, (200, false));
        contexts.set_pending(&["7"]);
        assert_eq!(send(Some("known")).await, (200, false));
        assert_eq!(send(Some("new")).await, (503, true));
        assert_eq!(send(None).await, (200, false));
        contexts.set_pending(&[]);
        assert_eq!(send(Some("new")).await, (200, false));
        assert_eq!(contexts.ids().len(), 3, "nothing is stored twice");
    }

    #[tokio::test]
    async fn a_context_that_has_yet_to_be_verified_is_told_to_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let id = "7".repeat(32);
        let record = r#"{"owner":"alice","expires":99999999999999}"#;
        let contexts = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
        std::fs::write(folder.path().join(format!("{id}.json")), record).unwrap();
        contexts.set_pending(&[&id]);
        let handler = ContextHandler::new("server", contexts);
        let ask = async |name: &str| {
            let principal = super::super::Principal { name: name.to_owned(), ..Default::default() };
            let info = RequestInfo { principal: Some(Arc::new(principal)), ..Default::default() };
            handler.context(&id, &info).await.map(|found| found.is_some()).map_err(|error| error.status())
        };
        assert_eq!(ask("alice").await, Err(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(ask("bob").await, Ok(false));
    }

    #[test]
    fn an_agent_id_over_the_limit_is_refused() {
        let check = |len| check_agent_id(&Hello { agent_id: "a".repeat(len), ..Default::default() });
        assert_eq!(check(MAX_AGENT_ID), Ok(()));
        let refused = check(MAX_AGENT_ID + 1).unwrap_err();
        assert_eq!((refused.code(), refused.field()), ("bad_hello", Some("agent_id")));
    }
}
