//! The routes: one line and one function for each endpoint.

use std::{sync::Arc, time::Duration};

use avp_core::messages::{Hello, JsonMessage};
use axum::{
    Extension, Router,
    extract::{Path, Request, State, rejection::PathRejection},
    handler::Handler as _,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use http::Method;

use super::{
    ErrorResponse, Handler,
    activity::Activity,
    metrics::{self, Endpoint},
    response,
    service::{Shared, guard},
};
use crate::{store::ContextLink, wire};

/// The routes over `shared`, each behind the [`guard`].
pub(super) fn router<H: Handler>(shared: Arc<Shared<H>>) -> Router {
    let guarded = |endpoint| middleware::from_fn_with_state((shared.clone(), endpoint), guard::<H>);
    let endpoint = |endpoint, methods: MethodRouter<Arc<Shared<H>>>| {
        methods.fallback(method_not_allowed).layer(guarded(endpoint))
    };
    let pages = shared.options.origins.layer();
    let contexts =
        endpoint(Endpoint::CONTEXT, get(context::<H>).post(link_context::<H>).delete(delete_context::<H>));
    let router = Router::new()
        .route(wire::HEALTH, endpoint(Endpoint::HEALTH, get(health)))
        .route(wire::METRICS, endpoint(Endpoint("metrics"), get(metrics::<H>)))
        .route(wire::HANDSHAKE, endpoint(Endpoint("handshake"), post(handshake::<H>)))
        .route(wire::TEXT, endpoint(Endpoint("text"), post(text::<H>)))
        .route(wire::TRANSMIT, endpoint(Endpoint("transmit"), post(transmit::<H>)))
        // Every path below the prefix is AVP's, an empty id and one with a slash included.
        .route(wire::CONTEXTS, contexts.clone())
        .route(&format!("{}{{*id}}", wire::CONTEXTS), contexts)
        .fallback(fallback::<H>.layer(guarded(Endpoint::OTHER)))
        .with_state(shared);
    match pages {
        Some(pages) => router.layer(pages),
        None => router,
    }
}

type SharedState<H> = State<Arc<Shared<H>>>;

/// The [`RequestInfo`](super::RequestInfo), which the [`guard`] has read from the request.
type RequestInfo = Extension<Arc<super::RequestInfo>>;

async fn health() -> Response {
    response::text(wire::JSON, r#"{"status":"ok"}"#.to_owned())
}

async fn metrics<H: Handler>(State(shared): SharedState<H>) -> Response {
    shared.metrics.stored(shared.handler.stored_bytes());
    response::text(metrics::MEDIA_TYPE, shared.metrics.text())
}

async fn handshake<H: Handler>(
    State(shared): SharedState<H>,
    Extension(info): RequestInfo,
    request: Request,
) -> Result<Response, Rejection> {
    let hello = Hello::parse(&shared.json(request).into_body().into_text().await?)
        .map_err(|error| ErrorResponse::bad_request("bad_hello", error.to_string()))?;
    Ok(response::reply(&shared.handler.handshake(hello, &info).await?))
}

async fn text<H: Handler>(
    State(shared): SharedState<H>,
    Extension(info): RequestInfo,
    request: Request,
) -> Result<Response, Rejection> {
    let message = JsonMessage::parse(&shared.json(request).into_body().into_text().await?)
        .map_err(|error| ErrorResponse::bad_request("bad_message", error.to_string()))?;
    Ok(response::reply(&shared.handler.text(message, &info).await?))
}

async fn transmit<H: Handler>(
    State(shared): SharedState<H>,
    Extension(info): RequestInfo,
    request: Request,
) -> Result<Response, Rejection> {
    let _counted = shared.metrics.body();
    let frame = shared.incoming_frame(request).await?;
    Ok(response::reply(&shared.handler.transmit(frame, &info).await?))
}

async fn context<H: Handler>(
    State(shared): SharedState<H>,
    Extension(info): RequestInfo,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Rejection> {
    let Path(id) = id.map_err(|_| no_context())?;
    let context = match request.extensions().get::<ContextLink>() {
        Some(link) => {
            let linked = shared.handler.linked_context(link, &info).await?.ok_or_else(no_context)?;
            // Like a token, a valid link is a reason not to displace the connection.
            if let Some(connection) = request.extensions().get::<Arc<Activity>>() {
                connection.trust();
            }
            linked
        }
        None => shared.handler.context(&id, &info).await?.ok_or_else(no_context)?,
    };
    let (caller, memory) = (info.caller(), &shared.options.memory);
    let response = response::context(&context, request.method(), request.headers(), &caller, memory).await?;
    if request.method() == Method::GET {
        shared.metrics.sent(response::content_len(&response));
    }
    Ok(response)
}

async fn link_context<H: Handler>(
    State(shared): SharedState<H>,
    Extension(info): RequestInfo,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Rejection> {
    let Path(id) = id.map_err(|_| no_context())?;
    let asked: LinkRequest = serde_json::from_str(&shared.json(request).into_body().into_text().await?)
        .map_err(|error| not_a_link_request(&error))?;
    let valid_for = asked.expires_in.map(Duration::from_secs);
    let reply = shared.handler.link_context(&id, valid_for, &info).await?.ok_or_else(no_context)?;
    Ok(response::reply(&reply))
}

async fn delete_context<H: Handler>(
    State(shared): SharedState<H>,
    Extension(info): RequestInfo,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = id.map_err(|_| no_context())?;
    if !shared.handler.delete_context(&id, &info).await? {
        return Err(no_context().into());
    }
    Ok(response::reply(&wire::Reply::new()))
}

async fn fallback<H: Handler>(
    State(shared): SharedState<H>,
    Extension(info): RequestInfo,
    request: Request,
) -> Result<Response, Rejection> {
    Ok(shared.handler.fallback(shared.json(request), &info).await?)
}

async fn method_not_allowed() -> Rejection {
    ErrorResponse::other_method().into()
}

/// The error of serde repeats names and values of the request.
fn not_a_link_request(error: &serde_json::Error) -> ErrorResponse {
    let place = format!("line {}, column {}", error.line(), error.column());
    let expected = "expected a JSON object with nothing but `expires_in`, in whole seconds";
    ErrorResponse::bad_request("bad_message", format!("{expected}; it differs at {place}"))
}

fn no_context() -> ErrorResponse {
    ErrorResponse::not_found("no context with this id is stored here")
}

/// The body of a request for a link.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkRequest {
    /// In seconds. Default: as long as contexts are kept.
    expires_in: Option<u64>,
}

/// An error response on its way to the [`guard`], which logs it, counts it and writes the response.
struct Rejection(ErrorResponse);

impl<E: Into<ErrorResponse>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = self.0.status().into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}
