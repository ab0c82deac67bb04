//! What a server does with what it is sent: one trait, a few deeds.

use std::{net::SocketAddr, sync::Arc};

use avp_core::{
    Dialect,
    messages::{Hello, JsonMessage},
};
use http::{Request, Response};

use super::{Answer, IncomingBody, IncomingFrame, Refusal};
use crate::{store::Kept, wire::Reply};

/// What answers requests. Every method may be called many times at once.
///
/// ```
/// use avp_transport::{server::{Caller, Handler, IncomingFrame, Refusal}, wire::Reply};
///
/// struct Counter;
///
/// impl Handler for Counter {
///     async fn transmit(&self, frame: IncomingFrame, _caller: &Caller) -> Result<Reply, Refusal> {
///         if frame.head().metadata().model_id() != "ours" {
///             return Err(Refusal::bad_request("other_model", "only frames of our model")); // the body is not read
///         }
///         let (bytes, _) = frame.into_bytes().await?;
///         Ok(Reply::new().with("bytes", bytes.len()))
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// A client says hello. Unless a handler says more, the client's own identity goes back, as from the peers: then
    /// everybody is taken for compatible, and who reads the frames decides.
    fn handshake(
        &self,
        hello: Hello,
        caller: &Caller,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send {
        let _ = caller;
        std::future::ready(Ok(echo(&hello)))
    }

    /// A frame arrives. Its head is there; its body comes as the handler reads it.
    fn transmit(
        &self,
        frame: IncomingFrame,
        caller: &Caller,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send;

    /// Words arrive. Refused unless a handler takes them, as by the peers.
    fn text(
        &self,
        message: JsonMessage,
        caller: &Caller,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send {
        let _ = (message, caller);
        let refusal = Refusal::new(
            http::StatusCode::NOT_IMPLEMENTED,
            "no_text",
            "this server takes frames only, no text messages",
        );
        std::future::ready(Err(refusal))
    }

    /// A client asks for a kept context. There are none unless a handler keeps some.
    fn context(
        &self,
        id: &str,
        caller: &Caller,
    ) -> impl Future<Output = Result<Option<Arc<Kept>>, Refusal>> + Send {
        let _ = (id, caller);
        std::future::ready(Ok(None))
    }

    /// A client wants a kept context gone; whether there was one.
    fn forget(&self, id: &str, caller: &Caller) -> impl Future<Output = Result<bool, Refusal>> + Send {
        let _ = (id, caller);
        std::future::ready(Ok(false))
    }

    /// A request for a path that is not AVP's: there is none unless a handler has some. Tokens, rates and the limit of a
    /// JSON body hold for it too.
    fn other(
        &self,
        request: Request<IncomingBody>,
        caller: &Caller,
    ) -> impl Future<Output = Result<Response<Answer>, Refusal>> + Send {
        let _ = (request, caller);
        std::future::ready(Err(Refusal::not_found("no such path; AVP's begin with /avp/v2/")))
    }

    /// The JSON that answers such a request with a refusal, this server's or the handler's own: AVP's, unless clients of
    /// these paths read another.
    fn other_refusal(&self, refusal: &Refusal) -> Reply {
        refusal.reply()
    }

    /// Clears away what is over, such as contexts whose time is up. [`serve`](super::serve) calls it now and then, also while
    /// nobody asks for anything, on a thread that may block. There is nothing to clear away unless a handler says so.
    fn tidy(&self) {}

    /// How many bytes the handler keeps, for the metrics.
    fn stored_bytes(&self) -> u64 {
        0
    }
}

/// Who asks, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The agent that the client says it is; `""` where it says none. Anybody can write a name.
    pub agent_id: String,
    /// The dialect that the client speaks, by its `AVP-Version`.
    pub dialect: Option<Dialect>,
    /// The other end of the connection; `None` where the service runs behind another server than this crate's.
    pub address: Option<SocketAddr>,
    /// The request's name in logs.
    pub request_id: String,
    /// The name of the deed, the same in every repetition of it.
    pub idempotency_key: Option<String>,
}

/// The answer of the peers' own server to a hello.
pub(super) fn echo(hello: &Hello) -> Reply {
    let reply = Reply::new().with("agent_id", hello.agent_id.as_str());
    match &hello.identity {
        Some(identity) => reply.with("identity", serde_json::to_value(identity).unwrap_or_default()),
        None => reply.with("identity", serde_json::Map::new()),
    }
}
