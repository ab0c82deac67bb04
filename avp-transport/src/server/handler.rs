//! `Handler`: what the server calls for each kind of request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use avp_core::{
    Dialect,
    messages::{Hello, JsonMessage},
};
use http::{Request, Response};

use super::{
    Caller, ErrorResponse, IncomingBody, IncomingFrame, Principal, PrincipalLimits, ResponseBody, Scope,
    audit::AuditNotes,
};
use crate::{
    store::{ContextLink, Owner, StoredContext},
    wire::Reply,
};

/// Answers requests. Each method may run many times concurrently.
///
/// ```
/// use avp_transport::{server::{ErrorResponse, Handler, IncomingFrame, RequestInfo}, wire::Reply};
///
/// struct Counter;
///
/// impl Handler for Counter {
///     async fn transmit(&self, frame: IncomingFrame, _: &RequestInfo) -> Result<Reply, ErrorResponse> {
///         if frame.head().metadata().model_id != "ours" {
///             return Err(ErrorResponse::bad_request("other_model", "only frames of our model")); // the body is not read
///         }
///         let (bytes, _) = frame.into_bytes().await?;
///         Ok(Reply::new().with("bytes", bytes.len()))
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Answers a handshake. By default the client's own identity is returned, as by the Python package: then every model
    /// counts as compatible, and the reader of the frames must check.
    fn handshake(
        &self,
        hello: Hello,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<Reply, ErrorResponse>> + Send {
        let _ = info;
        std::future::ready(Ok(echo(&hello)))
    }

    /// Answers a frame. Its head has been read; its body is received as the handler reads it.
    fn transmit(
        &self,
        frame: IncomingFrame,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<Reply, ErrorResponse>> + Send;

    /// Answers a text message. By default 501, as from the Python package.
    fn text(
        &self,
        message: JsonMessage,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<Reply, ErrorResponse>> + Send {
        let _ = (message, info);
        let error = ErrorResponse::new(
            http::StatusCode::NOT_IMPLEMENTED,
            "no_text",
            "this server accepts frames only, no text messages",
        );
        std::future::ready(Err(error))
    }

    /// The stored context with this id. By default there is none. The id is the rest of the path, percent-decoded, and never
    /// empty.
    fn context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<Option<Arc<StoredContext>>, ErrorResponse>> + Send {
        let _ = (id, info);
        std::future::ready(Ok(None))
    }

    /// Makes a [link](ContextLink) to the stored context with this id, valid for `valid_for` at most, and tells it in the reply as `link`.
    /// By default there is no context.
    fn link_context(
        &self,
        id: &str,
        valid_for: Option<Duration>,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<Option<Reply>, ErrorResponse>> + Send {
        let _ = (id, valid_for, info);
        std::future::ready(Ok(None))
    }

    /// The stored context of a link, if the link is valid. By default there is none. The request may have no token: the link is all
    /// that it needs.
    fn linked_context(
        &self,
        link: &ContextLink,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<Option<Arc<StoredContext>>, ErrorResponse>> + Send {
        let _ = (link, info);
        std::future::ready(Ok(None))
    }

    /// Deletes the stored context with this id and returns whether there was one.
    fn delete_context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<bool, ErrorResponse>> + Send {
        let _ = (id, info);
        std::future::ready(Ok(false))
    }

    /// Answers a request to any other path. By default 404. Tokens, rate limits and the limit of a JSON body apply.
    fn fallback(
        &self,
        request: Request<IncomingBody>,
        info: &RequestInfo,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ErrorResponse>> + Send {
        let _ = (request, info);
        std::future::ready(Err(ErrorResponse::not_found("no such path; those of AVP begin with /avp/v2/")))
    }

    /// The JSON of an error response on any other path, for APIs whose clients expect another shape than AVP's.
    fn fallback_error(&self, error: &ErrorResponse) -> Reply {
        error.reply()
    }

    /// Removes what has expired. [`serve`](super::serve) calls it periodically, on a thread that may block.
    fn remove_expired(&self) {}

    /// The number of bytes stored, for the metrics.
    fn stored_bytes(&self) -> u64 {
        0
    }
}

/// The sender and the ids of a request, from its headers.
#[derive(Debug, Clone, Default)]
pub struct RequestInfo {
    /// The principal whose token the request has; `None` where the server requires no token.
    pub principal: Option<Arc<Principal>>,
    /// The agent id that the client claims, unverified; `""` for none. It is for logs, never a permission.
    pub agent_id: String,
    /// The dialect of the client, from `AVP-Version`.
    pub dialect: Option<Dialect>,
    /// The remote address; `None` behind a server other than [`serve`](super::serve).
    pub address: Option<SocketAddr>,
    /// The request's id in logs.
    pub request_id: String,
    /// The key that repetitions of a request share.
    pub idempotency_key: Option<String>,
    /// For the audit log.
    pub(super) audit_notes: AuditNotes,
}

impl RequestInfo {
    /// The owner of what the request stores; nobody where the server requires no token.
    #[must_use]
    pub fn owner(&self) -> Owner<'_> {
        match &self.principal {
            Some(principal) => Owner { name: &principal.name, quota: principal.limits.quota },
            None => Owner::default(),
        }
    }

    /// Notes for the [audit log](super::AuditLog) that the request named or stored this context.
    pub fn note_context(&self, id: &str, etag: Option<&str>) {
        self.audit_notes.context(id, etag);
    }

    pub(super) const fn audit_notes(&self) -> &AuditNotes {
        &self.audit_notes
    }

    /// The caller, for limits that are shared among callers.
    #[must_use]
    pub fn caller(&self) -> Caller {
        match &self.principal {
            Some(principal) => Caller::Principal(principal.name.clone()),
            None => Caller::at(self.address.map(|address| address.ip())),
        }
    }

    /// The limits of the principal; none where the server requires no token.
    #[must_use]
    pub fn limits(&self) -> PrincipalLimits {
        self.principal.as_ref().map_or_else(PrincipalLimits::default, |principal| principal.limits)
    }

    /// Whether the request may see a context of this owner.
    #[must_use]
    pub fn may_see(&self, owner: &str) -> bool {
        self.principal
            .as_ref()
            .is_none_or(|principal| principal.name == owner || principal.scopes.contains(Scope::Admin))
    }
}

/// The reply of the Python package's server to a handshake.
pub(super) fn echo(hello: &Hello) -> Reply {
    let reply = Reply::new().with("agent_id", hello.agent_id.as_str());
    match &hello.identity {
        Some(identity) => reply.with("identity", serde_json::to_value(identity).unwrap_or_default()),
        None => reply.with("identity", serde_json::Map::new()),
    }
}
