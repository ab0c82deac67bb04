//! Sending frames and text.

use std::{sync::Arc, time::Duration};

use avp_core::{Dialect, Mode, messages::JsonMessage};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_TYPE, ETAG},
};

use super::{
    Client, ClientError, FrameBody, Session, chunks::Feeder, exchange::ascii, outgoing_frame::OutgoingFrame,
    retry::Retries, session::seconds,
};
use crate::{
    id::random_id,
    wire::{FRAME, IDEMPOTENCY_HEADER, REQUEST_ID_HEADER, Reply, VERSION_HEADER, binding_version},
};

/// A server's reply to an accepted request.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    reply: Reply,
    etag: Option<String>,
    request_id: Option<String>,
}

impl Receipt {
    /// The whole reply.
    #[must_use]
    pub const fn reply(&self) -> &Reply {
        &self.reply
    }

    /// The id of the stored context, if the server stored one.
    #[must_use]
    pub fn context_id(&self) -> Option<&str> {
        self.reply.text("context_id")
    }

    /// The `ETag` of the stored context.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.reply.text("etag").or(self.etag.as_deref())
    }

    /// How long the context is stored.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.reply.field("expires_in").and_then(seconds)
    }

    /// The request's id in the server's log.
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

/// The form in which a context was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Sent {
    /// As a frame.
    Latent(Receipt),
    /// As text.
    Text(Receipt),
}

impl Sent {
    /// The server's reply.
    #[must_use]
    pub const fn receipt(&self) -> &Receipt {
        match self {
            Self::Latent(receipt) | Self::Text(receipt) => receipt,
        }
    }
}

impl Client {
    /// Sends a frame.
    ///
    /// After a broken connection it is sent again only to a server whose [handshake](Self::session) announced idempotency
    /// keys.
    ///
    /// If the server reports that the session has expired, and it is this client's own, the client repeats the handshake and
    /// sends the frame in the new session.
    ///
    /// # Errors
    /// [`ClientError::Frame`] for an invalid frame, before connecting; [`ClientError::SessionExpired`] where the frame
    /// cannot be sent in another session; or the error of the exchange.
    pub async fn transmit(&self, body: FrameBody<'_>) -> Result<Receipt, ClientError> {
        let operation = async {
            let (outgoing, feeder) = body.open(self.inner.options.limits).await?;
            let delivered = feeding(feeder, self.deliver(outgoing)).await?;
            delivered.map_err(|_| ClientError::SessionExpired)
        };
        self.within_total(operation).await
    }

    /// Sends a text message. It is retried only if the server cannot have processed it.
    ///
    /// # Errors
    /// The error of the exchange.
    pub async fn send_text(&self, message: &JsonMessage) -> Result<Receipt, ClientError> {
        self.within_total(self.post_text(message)).await
    }

    /// Sends a context in the negotiated mode, after a handshake if needed: as the frame, or as text where the server
    /// cannot use the frame. A frame without a `session_id` gets that of the session. `text` is called only if text is
    /// sent.
    ///
    /// ```
    /// use avp_core::messages::JsonMessage;
    /// use avp_transport::client::{Client, ClientError, FrameBody, Sent};
    ///
    /// async fn send_context(client: Client, frame: Vec<u8>, summary: String) -> Result<(), ClientError> {
    ///     let text = |_: &_| JsonMessage { content: summary.clone(), ..Default::default() };
    ///     match client.send(FrameBody::bytes(frame), text).await? {
    ///         Sent::Latent(receipt) => println!("stored as {:?}", receipt.context_id()),
    ///         Sent::Text(_) => println!("sent as text"),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of [`session`](Self::session), [`transmit`](Self::transmit) and [`send_text`](Self::send_text).
    pub async fn send(
        &self,
        body: FrameBody<'_>,
        text: impl Fn(&Session) -> JsonMessage,
    ) -> Result<Sent, ClientError> {
        let operation = async {
            let mut session = self.current_session().await?;
            if session.mode != Mode::Json {
                let (mut outgoing, feeder) = body.open(self.inner.options.limits).await?;
                if outgoing.session_id().is_empty() {
                    enter(&mut outgoing, &session.id)?;
                }
                match feeding(feeder, self.deliver(outgoing)).await? {
                    Ok(receipt) => return Ok(Sent::Latent(receipt)),
                    Err(text_session) => session = text_session,
                }
            }
            let receipt = match self.post_text(&text(&session)).await {
                Err(ClientError::SessionExpired) => {
                    let session = self.renewed_session(&session.id).await?;
                    self.post_text(&text(&session)).await?
                }
                other => other?,
            };
            Ok(Sent::Text(receipt))
        };
        self.within_total(operation).await
    }

    /// Sends a frame, in a new session if needed. `Ok(Err)` is a new session whose mode is not latent.
    async fn deliver(
        &self,
        mut outgoing: OutgoingFrame,
    ) -> Result<Result<Receipt, Arc<Session>>, ClientError> {
        // Checked before sending, because another task may renew the session meanwhile.
        let is_ours = self.cached_session().is_some_and(|session| session.id == outgoing.session_id());
        let expired = match self.post_frame(&outgoing).await {
            Err(error @ ClientError::SessionExpired) => error,
            other => return other.map(Ok),
        };
        if !is_ours {
            return Err(expired);
        }
        let session = self.renewed_session(outgoing.session_id()).await?;
        if session.mode == Mode::Json {
            return Ok(Err(session));
        }
        if !outgoing.is_whole() {
            return Err(expired);
        }
        enter(&mut outgoing, &session.id)?;
        self.post_frame(&outgoing).await.map(Ok)
    }

    async fn post_frame(&self, outgoing: &OutgoingFrame) -> Result<Receipt, ClientError> {
        let key = ascii(&random_id());
        let session = self.cached_session();
        // A frame that is equal in both dialects is sent in the server's.
        let dialect = outgoing.head().head().dialect().unwrap_or_else(|| self.dialect());
        let mut retries = Retries::new(&self.inner.options.retry);
        loop {
            let mut request = self.request(Method::POST, &["avp", "v2", "transmit"]);
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME));
            headers.insert(VERSION_HEADER, version(dialect));
            headers.insert(IDEMPOTENCY_HEADER, key.clone());
            match self.reply(request, Some(outgoing.upload())).await {
                Ok(answer) => return Ok(Receipt::new(answer)),
                Err(error) => {
                    let again = outgoing.is_whole() && is_safe(&error, session.as_deref());
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
                // Text has no idempotency key.
                Err(error) => {
                    let again = error.is_unprocessed();
                    retries.pause(error, again).await?;
                }
            }
        }
    }
}

/// Whether a repeated frame cannot be processed twice: the server supports idempotency keys, or has not begun to process
/// it.
fn is_safe(error: &ClientError, session: Option<&Session>) -> bool {
    session.is_some_and(|session| session.supports_idempotency)
        || error.is_in_progress()
        || error.is_unprocessed()
}

fn enter(outgoing: &mut OutgoingFrame, session_id: &str) -> Result<(), ClientError> {
    // A valid frame can be encoded again unless the id makes its metadata too long.
    outgoing
        .enter(session_id)
        .map_err(|_| ClientError::Protocol { expected: "a session id that fits a frame" })
}

fn version(dialect: Dialect) -> HeaderValue {
    HeaderValue::from_static(binding_version(dialect))
}

/// Runs the feeder of a borrowed buffer while `operation` sends it.
async fn feeding<T>(feeder: Option<Feeder<'_>>, operation: impl Future<Output = T>) -> T {
    match feeder {
        Some(feeder) => tokio::join!(operation, feeder.run()).0,
        None => operation.await,
    }
}
