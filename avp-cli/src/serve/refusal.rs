//! What the model refuses, as a client of the server is told.

use avp_runtime_ort::{ContextError, RunError};
use avp_transport::{server::Refusal, wire::Reply};
use http::StatusCode;
use serde_json::{Map, json};

/// Of a run. What the caller can mend is told; what it cannot goes into the log.
pub(super) fn of_run(error: &RunError) -> Refusal {
    let wrong = |code, field: &'static str| Refusal::bad_request(code, error.to_string()).of_field(field);
    match error {
        RunError::EmptyPrompt => wrong("empty_prompt", "messages"),
        RunError::PromptTooLong { .. } | RunError::ContextTooLong { .. } => {
            wrong("context_length_exceeded", "messages")
        }
        RunError::Option { option, .. } | RunError::UnknownToken { option, .. } => {
            wrong("invalid_value", option)
        }
        RunError::EmptyStop => wrong("invalid_value", "stop"),
        RunError::Context(error) => of_context(error),
        RunError::Template { .. } | RunError::TemplateLimit { .. } | RunError::Tokenizer { .. } => {
            wrong("invalid_value", "messages")
        }
        RunError::Busy { .. } => Refusal::busy("busy", error.to_string()),
        RunError::OutOfMemory { .. } => Refusal::busy("out_of_memory", "there is no memory for this now"),
        RunError::Cancelled => Refusal::busy("cancelled", "the server is stopping"),
        // Its words may hold anything; where it was is in the log already.
        RunError::Panicked { .. } => Refusal::internal(),
        _ => {
            tracing::error!(%error, "the model failed");
            Refusal::internal()
        }
    }
}

/// Of a context that the model should go on from.
pub(super) fn of_context(error: &ContextError) -> Refusal {
    match error {
        ContextError::Runtime { .. } | ContextError::Io { .. } | ContextError::File { .. } => {
            tracing::error!(%error, "cannot use the context");
            Refusal::internal()
        }
        ContextError::Decode(_) | ContextError::NotAKvCache { .. } | ContextError::Empty { .. } => {
            Refusal::bad_request("not_a_context", error.to_string()).of_field("avp_context")
        }
        _ => Refusal::bad_request("context_mismatch", error.to_string()).of_field("avp_context"),
    }
}

/// As clients of OpenAI's API read it.
pub(super) fn in_openai_shape(refusal: &Refusal) -> Reply {
    let kind = match refusal.status() {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let error = json!({
        "message": refusal.message(),
        "type": kind,
        "param": refusal.field(),
        "code": refusal.code(),
    });
    Map::from_iter([("error".to_owned(), error)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_can_mend_names_its_field() {
        for (error, status, field) in [
            (RunError::EmptyPrompt, 400, Some("messages")),
            (RunError::Option { option: "top_p", expected: "x", got: 7.0 }, 400, Some("top_p")),
            (RunError::EmptyStop, 400, Some("stop")),
            (ContextError::NotAKvCache { got: "embedding" }.into(), 400, Some("avp_context")),
            (RunError::Busy { places: 1 }, 503, None),
            (RunError::Stopped, 500, None),
        ] {
            let refusal = of_run(&error);
            assert_eq!((refusal.status().as_u16(), refusal.field()), (status, field), "{error}");
        }
    }

    #[test]
    fn what_is_not_the_callers_affair_is_not_told() {
        for error in [
            RunError::Panicked { message: "secret".into() },
            RunError::Runtime { message: "secret".into() },
            ContextError::Runtime { message: "secret".into() }.into(),
        ] {
            assert!(!of_run(&error).to_string().contains("secret"));
        }
    }
}
