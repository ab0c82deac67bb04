//! Frames and words on their way to the server.

use std::{sync::Arc, time::Duration};

use avp_core::{Dialect, Mode, messages::JsonMessage};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_TYPE, ETAG},
};

use super::{
    Client, ClientError, Outgoing, Session, exchange::ascii, parcel::Parcel, pieces::Feeder, retry::Retries,
    session::seconds,
};
use crate::{
    id::random_id,
    wire::{FRAME, IDEMPOTENCY_HEADER, REQUEST_ID_HEADER, Reply, VERSION_HEADER, binding_version},
};

/// A server's answer to something it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    reply: Reply,
    etag: Option<String>,
    request_id: Option<String>,
}

impl Receipt {
    /// The whole answer: of a peer's server, whatever its handler says.
    #[must_use]
    pub const fn reply(&self) -> &Reply {
        &self.reply
    }

    /// The id under which the server keeps the context, if it does.
    #[must_use]
    pub fn context_id(&self) -> Option<&str> {
        self.reply.text("context_id")
    }

    /// The `ETag` of the kept context.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.reply.text("etag").or(self.etag.as_deref())
    }

    /// How long the context is kept.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.reply.field("expires_in").and_then(seconds)
    }

    /// The request's name in the server's log.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    pub(super) fn new((reply, headers): (Reply, HeaderMap)) -> Self {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let (etag, request_id) = (text(ETAG), text(REQUEST_ID_HEADER));
        Self { reply, etag, request_id }
    }
}

/// Which way a hand-over went.
#[derive(Debug, Clone, PartialEq)]
pub enum HandedOver {
    /// As a frame.
    Latent(Receipt),
    /// In words.
    Text(Receipt),
}

impl HandedOver {
    /// The server's answer.
    #[must_use]
    pub const fn receipt(&self) -> &Receipt {
        match self {
            Self::Latent(receipt) | Self::Text(receipt) => receipt,
        }
    }
}

impl Client {
    /// Sends a frame as it is.
    ///
    /// Where the connection breaks on the way, it is sent again only to a server that has said in its
    /// [handshake](Self::session) that it takes no frame twice: without a handshake nobody knows.
    ///
    /// Where the server says that the session has expired, and the frame belongs to this client's own session, the client
    /// shakes hands once more and sends the frame in the new session.
    ///
    /// # Errors
    /// [`ClientError::Frame`] where it is none, before a connection is made; [`ClientError::SessionExpired`] where
    /// there is no other session for it; else as the exchange fails.
    pub async fn transmit(&self, outgoing: Outgoing<'_>) -> Result<Receipt, ClientError> {
        let deed = async {
            let (parcel, feeder) = outgoing.open(self.inner.options.limits).await?;
            let delivered = feeding(feeder, self.deliver(parcel)).await?;
            delivered.map_err(|_| ClientError::SessionExpired)
        };
        self.within_total(deed).await
    }

    /// Sends words. Once they have gone out they are not sent again, unless the server says that it has not taken them.
    ///
    /// # Errors
    /// As the exchange fails.
    pub async fn send_text(&self, message: &JsonMessage) -> Result<Receipt, ClientError> {
        self.within_total(self.post_text(message)).await
    }

    /// Hands a context over in the way that the handshake found, which is made first where there was none: as the frame,
    /// or where the server cannot use it, in words. A frame without a `session_id` gets that of the session. `text` is
    /// asked for words only where they are needed, and may take the session's id from its argument.
    ///
    /// ```no_run
    /// # use avp_core::messages::JsonMessage;
    /// # use avp_transport::client::{Client, ClientError, HandedOver, Outgoing};
    /// # async fn example(client: Client, frame: Vec<u8>, summary: String) -> Result<(), ClientError> {
    /// let text = |_: &_| JsonMessage { content: summary.clone(), ..Default::default() };
    /// match client.hand_over(Outgoing::bytes(frame), text).await? {
    ///     HandedOver::Latent(receipt) => println!("kept as {:?}", receipt.context_id()),
    ///     HandedOver::Text(_) => println!("in words"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`session`](Self::session), [`transmit`](Self::transmit) and [`send_text`](Self::send_text).
    pub async fn hand_over(
        &self,
        outgoing: Outgoing<'_>,
        text: impl Fn(&Session) -> JsonMessage,
    ) -> Result<HandedOver, ClientError> {
        let deed = async {
            let mut session = self.current_session().await?;
            if session.mode != Mode::Json {
                let (mut parcel, feeder) = outgoing.open(self.inner.options.limits).await?;
                if parcel.session_id().is_empty() {
                    enter(&mut parcel, &session.id)?;
                }
                match feeding(feeder, self.deliver(parcel)).await? {
                    Ok(receipt) => return Ok(HandedOver::Latent(receipt)),
                    Err(in_words) => session = in_words,
                }
            }
            let receipt = match self.post_text(&text(&session)).await {
                Err(ClientError::SessionExpired) => {
                    let session = self.renewed_session(&session.id).await?;
                    self.post_text(&text(&session)).await?
                }
                other => other?,
            };
            Ok(HandedOver::Text(receipt))
        };
        self.within_total(deed).await
    }

    /// Sends a frame, if need be in a new session; gives that session back where it does not take frames.
    async fn deliver(&self, mut parcel: Parcel) -> Result<Result<Receipt, Arc<Session>>, ClientError> {
        // Whether the frame is in a session of this client's shows now: others may renew it meanwhile.
        let is_ours = self.kept_session().is_some_and(|session| session.id == parcel.session_id());
        let expired = match self.post_frame(&parcel).await {
            Err(error @ ClientError::SessionExpired) => error,
            other => return other.map(Ok),
        };
        if !is_ours {
            return Err(expired);
        }
        let session = self.renewed_session(parcel.session_id()).await?;
        if session.mode == Mode::Json {
            return Ok(Err(session));
        }
        if !parcel.is_whole() {
            return Err(expired);
        }
        enter(&mut parcel, &session.id)?;
        self.post_frame(&parcel).await.map(Ok)
    }

    async fn post_frame(&self, parcel: &Parcel) -> Result<Receipt, ClientError> {
        let key = ascii(&random_id());
        let session = self.kept_session();
        // A frame that both dialects read the same goes to the server in its own.
        let dialect = parcel.head().head().dialect().unwrap_or_else(|| self.dialect());
        let mut retries = Retries::new(&self.inner.options.retry);
        loop {
            let mut request = self.request(Method::POST, &["avp", "v2", "transmit"]);
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME));
            headers.insert(VERSION_HEADER, version(dialect));
            headers.insert(IDEMPOTENCY_HEADER, key.clone());
            match self.reply(request, Some(parcel.upload())).await {
                Ok(answer) => return Ok(Receipt::new(answer)),
                Err(error) => {
                    let again = parcel.is_whole() && is_safe(&error, session.as_deref());
                    retries.pause(error, again).await?;
                }
            }
        }
    }

    async fn post_text(&self, message: &JsonMessage) -> Result<Receipt, ClientError> {
        let text = message.to_string();
        let mut retries = Retries::new(&self.inner.options.retry);
        loop {
            let (request, attempt) = self.json_request(&["avp", "v2", "text"], &text);
            match self.reply(request, Some(attempt)).await {
                Ok(answer) => return Ok(Receipt::new(answer)),
                // Words have no key: whoever reads them twice has been told twice.
                Err(error) => {
                    let again = error.left_nothing_done();
                    retries.pause(error, again).await?;
                }
            }
        }
    }
}

/// Whether repeating a frame cannot make the server take it twice: it has said in its handshake that it knows keys, or
/// says now that it does, or has surely not begun.
fn is_safe(error: &ClientError, session: Option<&Session>) -> bool {
    session.is_some_and(|session| session.knows_keys) || error.is_in_progress() || error.left_nothing_done()
}

fn enter(parcel: &mut Parcel, session_id: &str) -> Result<(), ClientError> {
    // What was read as a frame can be written as one, unless the id makes its metadata too long.
    parcel.enter(session_id).map_err(|_| ClientError::Protocol { expected: "a session id that fits a frame" })
}

fn version(dialect: Dialect) -> HeaderValue {
    HeaderValue::from_static(binding_version(dialect))
}

/// Lends a borrowed buffer while `deed` sends it.
async fn feeding<T>(feeder: Option<Feeder<'_>>, deed: impl Future<Output = T>) -> T {
    match feeder {
        Some(feeder) => tokio::join!(deed, feeder.run()).0,
        None => deed.await,
    }
}
