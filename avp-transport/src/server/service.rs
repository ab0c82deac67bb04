//! The server as a service: a request in, an answer out, no sockets. [`tower`]'s middleware can stand before it.
//!
//! [`tower`]: https://docs.rs/tower

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use avp_core::messages::{Hello, JsonMessage};
use bytes::Bytes;
use futures_util::FutureExt as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use tracing::Instrument as _;

use super::{
    Caller, Handler, IncomingBody, IncomingFrame, Metrics, Refusal, ServerOptions,
    admission::Admission,
    answer::{self, Answer},
    caller,
    metrics::Endpoint,
    source::{BoxError, Source},
};
use crate::{reader::HeadReader, wire};

/// AVP's HTTP binding over a [`Handler`].
///
/// ```
/// # use avp_transport::{server::{Caller, Handler, IncomingFrame, Refusal, Service, ServerOptions}, wire::Reply};
/// # struct Sink;
/// # impl Handler for Sink {
/// #     async fn transmit(&self, frame: IncomingFrame, _: &Caller) -> Result<Reply, Refusal> {
/// #         Ok(Reply::new().with("bytes", frame.into_bytes().await?.0.len()))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = Service::new(Sink, ServerOptions::default());
/// let request = http::Request::get("/health").body(http_body_util::Empty::new()).unwrap();
/// assert_eq!(service.answer(request).await.status(), 200);
/// # }
/// ```
pub struct Service<H>(Arc<Inner<H>>);

struct Inner<H> {
    handler: H,
    options: ServerOptions,
    admission: Arc<Admission>,
    rate: Option<DefaultKeyedRateLimiter<caller::Name>>,
    metrics: Metrics,
}

/// When more names than this are known to the rate limiter, those that are at rest are forgotten.
const MANY_NAMES: usize = 10_000;

impl<H: Handler> Service<H> {
    /// The service that answers with `handler`.
    #[must_use]
    pub fn new(handler: H, options: ServerOptions) -> Self {
        let limits = &options.limits;
        let admission = Arc::new(Admission::new(limits.bodies, limits.buffered));
        let rate = limits.requests_per_second.map(|rate| RateLimiter::keyed(Quota::per_second(rate)));
        Self(Arc::new(Inner { handler, options, admission, rate, metrics: Metrics::new() }))
    }

    /// The handler.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.0.handler
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &ServerOptions {
        &self.0.options
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Answers a request. A handler that panics has refused it, and answers the next one.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let start = Instant::now();
        let endpoint = endpoint(request.uri().path());
        let caller = caller::of(&request);
        let request_id = caller.request_id.clone();
        let span = tracing::info_span!(
            "request",
            id = %request_id,
            method = %request.method(),
            endpoint = endpoint.as_str(),
            agent = %caller.agent_id,
            address = caller.address.map(tracing::field::display),
        );
        let inner = &*self.0;
        let outcome = AssertUnwindSafe(inner.dispatch(endpoint, request, caller)).catch_unwind();
        let mut response = match outcome.instrument(span.clone()).await {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => {
                span.in_scope(|| tracing::warn!(code = refusal.code(), "refused"));
                inner.refuse(endpoint, &refusal, &request_id)
            }
            Err(_) => {
                span.in_scope(|| tracing::error!("the handler panicked"));
                inner.refuse(endpoint, &Refusal::internal(), &request_id)
            }
        };
        // What a caller may name itself by, a header may hold.
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(wire::REQUEST_ID_HEADER, id);
        }
        let took = start.elapsed();
        inner.metrics.answered(endpoint, response.status().as_u16(), took);
        let (status, ms) = (response.status().as_u16(), took.as_secs_f64() * 1e3);
        span.in_scope(|| match endpoint {
            // Who watches a server's health asks all the time.
            Endpoint::Health => tracing::debug!(status, ms, "answered"),
            _ => tracing::info!(status, ms, "answered"),
        });
        response
    }
}

impl<H: Handler> Inner<H> {
    async fn dispatch<B>(
        &self,
        endpoint: Endpoint,
        request: Request<B>,
        caller: Caller,
    ) -> Result<Response<Answer>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        // From here on the body is read on for a moment, whatever becomes of the request.
        let source = Source::new(body, self.options.pace);
        self.admit(endpoint, &parts, &caller)?;
        match (endpoint, &parts.method) {
            (Endpoint::Health, &Method::GET) => Ok(answer::text(wire::JSON, r#"{"status":"ok"}"#.to_owned())),
            (Endpoint::Metrics, &Method::GET) => {
                self.metrics.stored(self.handler.stored_bytes());
                Ok(answer::text(super::metrics::MEDIA_TYPE, self.metrics.text()))
            }
            (Endpoint::Handshake, &Method::POST) => {
                let hello = Hello::parse(&self.json(source).into_text().await?)
                    .map_err(|error| Refusal::bad_request("bad_hello", error.to_string()))?;
                Ok(answer::reply(self.handler.handshake(hello, &caller).await?))
            }
            (Endpoint::Text, &Method::POST) => {
                let message = JsonMessage::parse(&self.json(source).into_text().await?)
                    .map_err(|error| Refusal::bad_request("bad_message", error.to_string()))?;
                Ok(answer::reply(self.handler.text(message, &caller).await?))
            }
            (Endpoint::Transmit, &Method::POST) => {
                let _counted = self.metrics.body();
                let frame = self.frame(&parts.headers, source).await?;
                Ok(answer::reply(self.handler.transmit(frame, &caller).await?))
            }
            (Endpoint::Context, &(Method::GET | Method::HEAD)) => {
                let id = context_id(parts.uri.path());
                let kept = self.handler.context(id, &caller).await?;
                let kept = kept.ok_or_else(|| Refusal::not_found("no context of this id is kept here"))?;
                let response = answer::context(&kept, &parts.headers, parts.method == Method::HEAD).await?;
                if parts.method == Method::GET {
                    self.metrics.sent(answer::content_len(&response));
                }
                Ok(response)
            }
            (Endpoint::Context, &Method::DELETE) => {
                match self.handler.forget(context_id(parts.uri.path()), &caller).await? {
                    true => Ok(answer::reply(wire::Reply::new())),
                    false => Err(Refusal::not_found("no context of this id is kept here")),
                }
            }
            (Endpoint::Other, _) => {
                self.handler.other(Request::from_parts(parts, self.json(source)), &caller).await
            }
            _ => Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take this method",
            )),
        }
    }

    /// Whether a request may be looked at.
    fn admit(&self, endpoint: Endpoint, parts: &Parts, caller: &Caller) -> Result<(), Refusal> {
        let (limits, headers) = (&self.options.limits, &parts.headers);
        // Other servers have looked at this before they hand a request on, and may have taken it out.
        if caller.address.is_some() {
            check_framing(parts)?;
        }
        let len: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if len > limits.headers {
            let message =
                format!("header fields of {len} bytes are more than the limit of {}", limits.headers);
            return Err(Refusal::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                message,
            ));
        }
        // Who watches a server's health has no token.
        if endpoint != Endpoint::Health && !self.options.tokens.admit(headers) {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this server asks for a bearer token, and no such one was given",
            ));
        }
        if let Some(rate) = &self.rate {
            if rate.len() > MANY_NAMES {
                rate.retain_recent();
            }
            rate.check_key(&caller::name(caller)).map_err(|_| {
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "this agent asks too often")
                    .retry_after(std::time::Duration::from_secs(1))
            })?;
        }
        Ok(())
    }

    /// A short body.
    fn json(&self, source: Source) -> IncomingBody {
        IncomingBody::new(source, self.options.limits.json, self.admission.clone())
    }

    /// The frame that arrives in `source`, as far as its head.
    async fn frame(&self, headers: &HeaderMap, mut source: Source) -> Result<IncomingFrame, Refusal> {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(|found| !is_frame(found)) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_a_frame",
                format!("expected {}", wire::FRAME),
            ));
        }
        let limits = self.options.limits.frame;
        let place = self.admission.admit()?;
        let mut reader = HeadReader::new(limits);
        let (head, first) = loop {
            match source.chunk().await? {
                Some(bytes) => {
                    if let Some(found) = reader.feed(bytes)? {
                        break found;
                    }
                }
                None => return Err(crate::reader::FrameError::from(reader.finish()).into()),
            }
        };
        // A length that contradicts the frame's is known before the body is.
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
        if let Some(announced) = announced.filter(|announced| *announced != head.frame_len()) {
            let message = format!("the frame is {} bytes long, the request {announced}", head.frame_len());
            return Err(Refusal::bad_request("length_mismatch", message));
        }
        let (admission, metrics) = (self.admission.clone(), self.metrics.clone());
        Ok(IncomingFrame::new(head, first, source, limits, admission, metrics, place))
    }

    fn refuse(&self, endpoint: Endpoint, refusal: &Refusal, request_id: &str) -> Response<Answer> {
        self.metrics.refused(refusal.code());
        let body = match endpoint {
            Endpoint::Other => self.handler.other_refusal(refusal),
            _ => refusal.reply(),
        };
        answer::refusal(refusal, body, request_id)
    }
}

/// Refuses what two readers of HTTP/1.1 could take for different requests (RFC 9112, 3.2 and 6.1).
fn check_framing(parts: &Parts) -> Result<(), Refusal> {
    let headers = &parts.headers;
    if parts.version == Version::HTTP_11 && headers.get_all(header::HOST).iter().count() != 1 {
        return Err(Refusal::bad_request("host", "a request has one `Host`"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "transfer_encoding",
            "no transfer coding is known here but `chunked`",
        ));
    }
    Ok(())
}

fn endpoint(path: &str) -> Endpoint {
    match path {
        wire::HANDSHAKE => Endpoint::Handshake,
        wire::TRANSMIT => Endpoint::Transmit,
        wire::TEXT => Endpoint::Text,
        wire::HEALTH => Endpoint::Health,
        wire::METRICS => Endpoint::Metrics,
        _ if path.starts_with(wire::CONTEXTS) => Endpoint::Context,
        _ => Endpoint::Other,
    }
}

fn context_id(path: &str) -> &str {
    path.strip_prefix(wire::CONTEXTS).unwrap_or_default()
}

/// Whether a content type is that of frames, parameters aside.
fn is_frame(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(wire::FRAME.as_bytes())
        || essence.eq_ignore_ascii_case(b"application/octet-stream")
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: std::fmt::Debug> std::fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("handler", &self.0.handler)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl<H, B> tower_service::Service<Request<B>> for Service<H>
where
    H: Handler,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
