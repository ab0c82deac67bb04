//! Errors of the model as error responses.

use avp_runtime_ort::{ContextError, RunError};
use avp_transport::{server::ErrorResponse, wire::Reply};
use http::StatusCode;
use serde_json::{Map, json};

/// The response to an error of a run. Internal errors are logged and not described.
pub(super) fn of_run(error: &RunError) -> ErrorResponse {
    let wrong =
        |code, field: &'static str| ErrorResponse::bad_request(code, error.to_string()).of_field(field);
    match error {
        RunError::EmptyPrompt => wrong("empty_prompt", "messages"),
        RunError::PromptTooLong { .. } | RunError::ContextTooLong { .. } => {
            wrong("context_length_exceeded", "messages")
        }
        RunError::Option { option, .. } | RunError::UnknownToken { option, .. } => {
            wrong("invalid_value", option)
        }
        RunError::EmptyStop => wrong("invalid_value", "stop"),
        RunError::NotCalibrated => wrong("not_calibrated", "avp_think"),
        RunError::CalibratedForm => wrong("invalid_value", "avp_form"),
        RunError::Context(error) => of_context(error),
        RunError::Template { .. } | RunError::TemplateLimit { .. } | RunError::Tokenizer { .. } => {
            wrong("invalid_value", "messages")
        }
        RunError::Busy { .. } => ErrorResponse::busy("busy", error.to_string()),
        RunError::OutOfMemory { .. } => {
            ErrorResponse::busy("out_of_memory", "not enough memory; try again later")
        }
        RunError::Cancelled => ErrorResponse::busy("cancelled", "the server is stopping"),
        // A panic message may contain payload data; its location is in the log already.
        RunError::Panicked { .. } => ErrorResponse::internal(),
        _ => {
            tracing::error!(%error, "the model failed");
            ErrorResponse::internal()
        }
    }
}

/// As [`of_run`], for a run that may have a context of the caller's: then values that are not finite are the caller's.
pub(super) fn of_run_behind(has_context: bool, error: &RunError) -> ErrorResponse {
    match error {
        RunError::NotFinite { .. } if has_context => {
            ErrorResponse::bad_request("not_finite", error.to_string()).of_field("avp_context")
        }
        _ => of_run(error),
    }
}

/// The response to an error of a context.
pub(super) fn of_context(error: &ContextError) -> ErrorResponse {
    match error {
        ContextError::Runtime { .. } | ContextError::Io { .. } | ContextError::File { .. } => {
            tracing::error!(%error, "cannot use the context");
            ErrorResponse::internal()
        }
        ContextError::Decode(_) | ContextError::NotAKvCache { .. } | ContextError::Empty { .. } => {
            ErrorResponse::bad_request("not_a_context", error.to_string()).of_field("avp_context")
        }
        _ => ErrorResponse::bad_request("context_mismatch", error.to_string()).of_field("avp_context"),
    }
}

/// The error in the format of OpenAI's API.
pub(super) fn in_openai_format(error: &ErrorResponse) -> Reply {
    let kind = match error.status() {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let error = json!({
        "message": error.message(),
        "type": kind,
        "param": error.field(),
        "code": error.code(),
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
            let error = of_run(&error);
            assert_eq!((error.status().as_u16(), error.field()), (status, field), "{error}");
        }
        let not_finite = RunError::NotFinite { step: 0 };
        assert_eq!(of_run_behind(true, &not_finite).field(), Some("avp_context"));
        assert_eq!(of_run_behind(false, &not_finite).status().as_u16(), 500);
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
