//! Chat completions in OpenAI's format, with stored contexts.

mod events;
mod reply;
mod request;

use avp_transport::{
    server::{ErrorResponse, IncomingBody, RequestInfo, ResponseBody},
    wire,
};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use self::{events::Events, reply::Completion, request::ChatRequest};
use super::model_handler::ModelHandler;

/// The path of completions.
pub(super) const COMPLETIONS: &str = "/v1/chat/completions";

/// The path of the list of models.
pub(super) const MODELS: &str = "/v1/models";

/// Answers one request.
///
/// # Errors
/// When a field is invalid or unknown, the context is missing or does not match, or too many requests are in progress.
pub(super) async fn complete(
    handler: &ModelHandler,
    body: IncomingBody,
    info: &RequestInfo,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let text = body.into_text().await?;
    let (request, len) = (ChatRequest::parse(&text)?, text.len());
    drop(text);
    if request.model.as_deref().is_some_and(|model| model != handler.name()) {
        let words = format!("unknown model; this server has {:?}", handler.name());
        return Err(ErrorResponse::new(StatusCode::NOT_FOUND, "model_not_found", words).of_field("model"));
    }
    let running = handler.begin(len, request.avp_context.as_deref(), info).await?;
    let prompt = handler.prompt(request.chat);
    let completion = Completion::new(handler.name());
    if let Some(steps) = request.avp_think {
        let (thought, stored) = handler.think(running, prompt, (steps, request.avp_form), info).await?;
        return Ok(json_answer(&completion.thought(&thought, stored.id(), handler.ttl())));
    }
    if request.stream {
        let memory = handler.event_memory(&running, &request.options)?;
        let (stream, running) = handler.stream(running, prompt, request.options).await?;
        let events = Events::start(stream, completion, request.include_usage, running, memory);
        let mut response = Response::new(ResponseBody::new(events));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        return Ok(response);
    }
    let generation = handler.answer(running, prompt, request.options).await?;
    Ok(json_answer(&completion.whole(&generation)))
}

/// The list with the server's model.
pub(super) fn models(handler: &ModelHandler) -> Response<ResponseBody> {
    let model = json!({ "id": handler.name(), "object": "model", "created": 0, "owned_by": "avp" });
    json_answer(&json!({ "object": "list", "data": [model] }))
}

fn json_answer(value: &Value) -> Response<ResponseBody> {
    let mut response = Response::new(value.to_string().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::JSON));
    response
}
