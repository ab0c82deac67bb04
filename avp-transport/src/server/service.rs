//! The server as a service: a request in, a response out, no sockets. [`tower`]'s middleware can wrap it.
//!
//! [`tower`]: https://docs.rs/tower

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use avp_core::HeadReader;
use axum::{Router, body::Body, extract::State, middleware::Next, response::Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use tracing::Instrument as _;

use super::{
    Caller, ErrorResponse, Handler, IncomingBody, IncomingFrame, Metrics, RequestInfo, ResponseBody,
    ServerOptions, Tokens,
    activity::Activity,
    admission::{Admission, RequestMemory},
    audit::AuditEntry,
    drain::DrainOnDrop,
    held_body,
    incoming::Reception,
    listen::STREAM_WINDOW,
    metrics::Endpoint,
    rate_limit::RateLimiter,
    request_body::RequestBody,
    request_info, response, routes,
};
use crate::{store::ContextLink, wire};

/// An error of any type, such as that of another server's request body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// AVP's HTTP binding over a [`Handler`].
///
/// ```
/// use avp_transport::{server::{ContextHandler, ServerOptions, Service}, store::ContextStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), http::Error> {
/// let handler = ContextHandler::new("relay", ContextStore::in_memory(Default::default()));
/// let service = Service::new(handler, ServerOptions::default());
/// let request = http::Request::get("/health").body(http_body_util::Empty::new())?;
/// assert_eq!(service.answer(request).await.status(), 200);
/// # Ok(())
/// # }
/// ```
pub struct Service<H> {
    shared: Arc<Shared<H>>,
    router: Router,
}

/// The state that all requests share.
pub(super) struct Shared<H> {
    pub(super) handler: H,
    pub(super) options: ServerOptions,
    /// Those of the options, until they are replaced.
    tokens: RwLock<Arc<Tokens>>,
    admission: Arc<Admission>,
    rate: RateLimiter,
    pub(super) metrics: Metrics,
}

impl<H: Handler> Service<H> {
    /// A service that answers with `handler`.
    #[must_use]
    pub fn new(handler: H, options: ServerOptions) -> Self {
        let limits = &options.limits;
        let admission = Arc::new(Admission::new(limits.bodies, options.memory.clone()));
        let rate = RateLimiter::new();
        let tokens = RwLock::new(Arc::new(options.tokens.clone()));
        let shared = Arc::new(Shared { handler, options, tokens, admission, rate, metrics: Metrics::new() });
        Self { router: routes::router(shared.clone()), shared }
    }

    /// The handler.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.shared.handler
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &ServerOptions {
        &self.shared.options
    }

    /// Accepts these tokens from the next request on, in place of those of the options. Requests in progress go on.
    pub fn replace_tokens(&self, tokens: Tokens) {
        *self.shared.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Answers a request. A panic in the handler becomes a 500; the service keeps serving.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| Body::new(DrainOnDrop::new(body)));
        let mut router = self.router.clone();
        match tower_service::Service::call(&mut router, request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The middleware of every endpoint: admission, log, metrics, error responses as JSON, and panics.
pub(super) async fn guard<H: Handler>(
    State((shared, endpoint)): State<(Arc<Shared<H>>, Endpoint)>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let start = Instant::now();
    let tokens = shared.tokens.read().unwrap_or_else(PoisonError::into_inner).clone();
    let info = Arc::new(request_info::of(&request, &tokens));
    let span = tracing::info_span!(
        "request",
        // As texts, which the log quotes: what a client says must not look like fields.
        id = info.request_id.as_str(),
        method = method_name(request.method()),
        endpoint = endpoint.0,
        principal = info.principal.as_ref().map(|principal| &*principal.name),
        agent = info.agent_id.as_str(),
        address = info.address.map(tracing::field::display),
    );
    // Health checks come all the time, and need no token.
    let is_health = endpoint == Endpoint::HEALTH;
    let audit = shared.options.audit.as_ref().filter(|_| !is_health);
    let audit = AuditEntry::new(audit, &info, endpoint.0, request.method());
    let memory = RequestMemory::default();
    let outcome = async {
        let link = link_of(endpoint, &request);
        shared.admit(endpoint, &request, &info, tokens.is_open() || link.is_some())?;
        // Whether a link is valid is not known yet.
        let is_trusted = !is_health && link.is_none();
        if let Some(link) = link {
            request.extensions_mut().insert(link);
        }
        if is_trusted && let Some(connection) = request.extensions().get::<Arc<Activity>>() {
            connection.trust();
        }
        request.extensions_mut().insert(info.clone());
        request.extensions_mut().insert(memory.clone());
        let mut response = next.run(request).await;
        match response.extensions_mut().remove::<ErrorResponse>() {
            Some(error) => Err(error),
            None => Ok(response),
        }
    };
    let outcome = AssertUnwindSafe(outcome).catch_unwind().instrument(span.clone()).await;
    let outcome = outcome.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("the handler panicked"));
        Err(ErrorResponse::internal())
    });
    let outcome =
        outcome.and_then(|response| Ok(held_body::hold(response, &shared.admission, &info.caller())?));
    let code = outcome.as_ref().err().map(|error| error.code().to_owned());
    let mut response = match outcome {
        Ok(response) => response,
        Err(error) => {
            span.in_scope(|| tracing::warn!(code = error.code(), "refused"));
            shared.refuse(endpoint, &error, &info.request_id)
        }
    };
    audit.answered(response.status().as_u16(), code.as_deref());
    // A request id consists of characters that a header can hold.
    if let Ok(id) = HeaderValue::from_str(&info.request_id) {
        response.headers_mut().insert(wire::REQUEST_ID_HEADER, id);
    }
    let (status, took) = (response.status().as_u16(), start.elapsed());
    shared.metrics.answered(endpoint, status, took);
    let ms = took.as_secs_f64() * 1e3;
    span.in_scope(|| match is_health {
        true => tracing::debug!(status, ms, "answered"),
        false => tracing::info!(status, ms, "answered"),
    });
    response
}

impl<H: Handler> Shared<H> {
    /// Checks a request's head against framing rules, limits, tokens and rates.
    fn admit(
        &self,
        endpoint: Endpoint,
        request: &Request<Body>,
        info: &RequestInfo,
        needs_no_token: bool,
    ) -> Result<(), ErrorResponse> {
        let (limits, headers) = (&self.options.limits, request.headers());
        if !is_known(request.method()) {
            let message = "the server knows the methods of HTTP alone";
            return Err(ErrorResponse::new(StatusCode::NOT_IMPLEMENTED, "unknown_method", message));
        }
        // Another server checks this before it passes a request on, and may remove the headers.
        if info.address.is_some() {
            check_framing(request)?;
        }
        let len: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if len > limits.headers {
            let message = format!("header fields of {len} bytes exceed the limit of {}", limits.headers);
            return Err(ErrorResponse::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                message,
            ));
        }
        self.options.hosts.check(request)?;
        self.options.origins.check(headers)?;
        // Before the token, so that guesses count too.
        if let Some(per_second) = info.limits().requests_per_second.or(limits.requests_per_second)
            && !self.rate.admit(info.caller(), per_second, Instant::now())
        {
            let message = "this principal, or address, exceeds the limit of requests per second";
            return Err(ErrorResponse::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
                .retry_after(Duration::from_secs(1)));
        }
        // Health checks have no token.
        if let Some(scope) = endpoint.scope(request.method())
            && !needs_no_token
        {
            let Some(principal) = &info.principal else {
                let message = "this server requires a valid bearer token";
                return Err(ErrorResponse::new(StatusCode::UNAUTHORIZED, "unauthorized", message));
            };
            if !principal.scopes.contains(scope) {
                let message = format!("this token lacks the scope `{}`", scope.as_str());
                return Err(ErrorResponse::new(StatusCode::FORBIDDEN, "missing_scope", message));
            }
        }
        Ok(())
    }

    /// A request whose body is read within the limit for JSON.
    pub(super) fn json(&self, request: Request<Body>) -> Request<IncomingBody> {
        let is_json = has_content_type(request.headers(), &[wire::JSON]);
        let (limit, window, caller) = (self.options.limits.json, window(&request), caller(&request));
        let memory = request.extensions().get::<RequestMemory>().cloned().unwrap_or_default();
        request.map(|body| {
            let body = RequestBody::new(body, self.options.body_timeouts);
            IncomingBody::new(body, is_json, limit, window, caller, self.admission.clone(), memory)
        })
    }

    /// Reads the head of the frame that a request carries.
    pub(super) async fn incoming_frame(
        &self,
        request: Request<Body>,
    ) -> Result<IncomingFrame, ErrorResponse> {
        let (window, caller) = (window(&request), caller(&request));
        let (parts, body) = request.into_parts();
        let mut body = RequestBody::new(body, self.options.body_timeouts);
        if !has_content_type(&parts.headers, &[wire::FRAME, "application/octet-stream"]) {
            return Err(ErrorResponse::content_type("not_a_frame", wire::FRAME));
        }
        let limits = self.options.limits.frame;
        let permit = self.admission.admit(&caller, window)?;
        let mut reader = HeadReader::new(limits);
        let (head, first) = loop {
            match body.chunk().await? {
                Some(bytes) => {
                    if let Some(found) = reader.feed(bytes)? {
                        break found;
                    }
                }
                None => return Err(reader.finish().into()),
            }
        };
        // A length that contradicts the frame's is known before the body is read.
        let announced = content_length(&parts.headers);
        if let Some(announced) = announced.filter(|announced| *announced != head.header().frame_len()) {
            let message =
                format!("the frame is {} bytes long, the request {announced}", head.header().frame_len());
            return Err(ErrorResponse::bad_request("length_mismatch", message));
        }
        let (admission, metrics) = (self.admission.clone(), self.metrics.clone());
        let reception = Reception { limits, caller, admission, metrics, _permit: permit };
        Ok(IncomingFrame::new(head, first, body, reception))
    }

    fn refuse(&self, endpoint: Endpoint, error: &ErrorResponse, request_id: &str) -> Response {
        self.metrics.refused(error.code());
        let body = match endpoint {
            Endpoint::OTHER => self.handler.fallback_error(error),
            _ => error.reply(),
        };
        response::error(error, body, request_id)
    }
}

/// The methods of RFC 9110 and RFC 5789. Any other is a text of the client's, of any length.
fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::CONNECT
            | Method::OPTIONS
            | Method::TRACE
            | Method::PATCH
    )
}

/// The method as logs show it.
pub(super) fn method_name(method: &Method) -> &str {
    if is_known(method) { method.as_str() } else { "unknown" }
}

/// The caller of a request, which the [`guard`] has found.
fn caller<B>(request: &Request<B>) -> Caller {
    let info = request.extensions().get::<Arc<RequestInfo>>();
    info.map_or(Caller::Address(None), |info| info.caller())
}

/// The link in place of an id in a request that reads a context: then no token is needed.
fn link_of<B>(endpoint: Endpoint, request: &Request<B>) -> Option<ContextLink> {
    let reads = endpoint == Endpoint::CONTEXT && matches!(*request.method(), Method::GET | Method::HEAD);
    request.uri().path().strip_prefix(wire::CONTEXTS).filter(|_| reads)?.parse().ok()
}

/// The bytes of a request's body that an HTTP/2 connection may hold before they are read. Those of HTTP/1.1 are the connection's.
fn window<B>(request: &Request<B>) -> u64 {
    if request.version() != Version::HTTP_2 {
        return 0;
    }
    content_length(request.headers()).unwrap_or(u64::MAX).min(STREAM_WINDOW.into())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses requests that two HTTP/1.1 parsers could frame differently (RFC 9112, 3.2 and 6.1).
fn check_framing(request: &Request<Body>) -> Result<(), ErrorResponse> {
    let headers = request.headers();
    if request.version() == Version::HTTP_11 && headers.get_all(header::HOST).iter().count() != 1 {
        return Err(ErrorResponse::bad_request("host", "expected exactly one `Host` header"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(ErrorResponse::new(
            StatusCode::NOT_IMPLEMENTED,
            "transfer_encoding",
            "the only supported transfer coding is `chunked`",
        ));
    }
    Ok(())
}

/// Whether a body is declared as one of these media types. A web page cannot send them without asking the server first, unlike
/// `text/plain`.
fn has_content_type(headers: &HeaderMap, expected: &[&str]) -> bool {
    let given = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    // Parameters follow a semicolon.
    let essence = given.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    expected.iter().any(|expected| essence.eq_ignore_ascii_case(expected.as_bytes()))
}

impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), router: self.router.clone() }
    }
}

impl<H: std::fmt::Debug> std::fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("handler", &self.shared.handler)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl<H, B> tower_service::Service<Request<B>> for Service<H>
where
    H: Handler,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
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
