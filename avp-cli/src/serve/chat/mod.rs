//! Chat completions in OpenAI's shape, behind kept contexts.

mod events;
mod reply;
mod request;

use avp_runtime_ort::Prompt;
use avp_transport::{
    server::{IncomingBody, Refusal, ResponseBody},
    wire,
};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use self::{events::Events, reply::Completion, request::ChatRequest};
use super::thinker::Thinker;

/// Where completions are asked for.
pub(super) const COMPLETIONS: &str = "/v1/chat/completions";

/// Where clients ask what there is to talk to.
pub(super) const MODELS: &str = "/v1/models";

/// Answers one conversation.
///
/// # Errors
/// A field that is wrong or unknown, by name; a context that is not there or does not fit; no place for another request.
pub(super) async fn complete(
    thinker: &Thinker,
    body: IncomingBody,
) -> Result<Response<ResponseBody>, Refusal> {
    let request = ChatRequest::parse(&body.into_text().await?)?;
    if request.model.as_deref().is_some_and(|model| model != thinker.name()) {
        let words = format!("the model here is {:?}", thinker.name());
        return Err(Refusal::new(StatusCode::NOT_FOUND, "model_not_found", words).of_field("model"));
    }
    let place = thinker.place()?;
    let context = match &request.avp_context {
        Some(id) => Some(thinker.context(id).await?),
        None => None,
    };
    let prompt = Prompt::Chat(request.chat);
    let completion = Completion::new(thinker.name());
    if let Some(steps) = request.avp_think {
        let (thought, kept) = thinker.think(prompt, context, steps).await?;
        return Ok(json_answer(&completion.thought(&thought, kept.id(), thinker.ttl())));
    }
    if request.stream {
        let stream = thinker.stream(prompt, context, request.options).await?;
        let events = Events::start(stream, completion, request.include_usage, place);
        let mut response = Response::new(ResponseBody::new(events));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        return Ok(response);
    }
    let generation = thinker.answer(prompt, context, request.options).await?;
    Ok(json_answer(&completion.whole(&generation)))
}

/// The one model that there is.
pub(super) fn models(thinker: &Thinker) -> Response<ResponseBody> {
    let model = json!({ "id": thinker.name(), "object": "model", "created": 0, "owned_by": "avp" });
    json_answer(&json!({ "object": "list", "data": [model] }))
}

fn json_answer(value: &Value) -> Response<ResponseBody> {
    let mut response = Response::new(value.to_string().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::JSON));
    response
}
