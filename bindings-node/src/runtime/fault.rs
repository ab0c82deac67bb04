//! The runtime's errors, by code: the variant's name in snake case.

use std::fmt::Display;

use avp_runtime_ort::{ContextError, ModelError, RunError};

use crate::failure::Failure;

pub(super) fn argument_failure(message: impl Display) -> Failure {
    Failure { kind: "argument".to_owned(), code: String::new(), offset: None, message: message.to_string() }
}

pub(super) fn runtime_failure(code: &str, message: impl Display) -> Failure {
    Failure { kind: "runtime".to_owned(), code: code.to_owned(), offset: None, message: message.to_string() }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let code = match &error {
            ModelError::MissingFile { .. } => "missing_file",
            ModelError::NoSuchGraph { .. } => "no_such_graph",
            ModelError::Unreadable { .. } => "unreadable",
            ModelError::Json { .. } => "json",
            ModelError::Tokenizer { .. } => "tokenizer",
            ModelError::Template { .. } => "template",
            ModelError::ConfigMismatch { .. } => "config_mismatch",
            ModelError::Prepare(_) => "prepare",
            ModelError::Device { .. } => "device",
            ModelError::Calibration { .. } => "calibration",
            _ => "runtime",
        };
        runtime_failure(code, error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match error {
            RunError::Context(error) => return error.into(),
            RunError::EmptyPrompt => "empty_prompt",
            RunError::PromptTooLong { .. } => "prompt_too_long",
            RunError::ContextTooLong { .. } => "context_too_long",
            RunError::Option { .. } => "option",
            RunError::UnknownToken { .. } => "unknown_token",
            RunError::EmptyStop => "empty_stop",
            RunError::NotCalibrated => "not_calibrated",
            RunError::CalibratedForm => "calibrated_form",
            RunError::Calibration { .. } => "calibration",
            RunError::Template { .. } => "template",
            RunError::TemplateLimit { .. } => "template_limit",
            RunError::Tokenizer { .. } => "tokenizer",
            RunError::Output { .. } => "output",
            RunError::NotFinite { .. } => "not_finite",
            RunError::Busy { .. } => "busy",
            RunError::Cancelled => "cancelled",
            RunError::TimedOut { .. } => "timed_out",
            RunError::Panicked { .. } => "internal",
            RunError::Stopped => "stopped",
            RunError::OutOfMemory { .. } => "out_of_memory",
            _ => "runtime",
        };
        runtime_failure(code, error)
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        let code = match &error {
            ContextError::Decode(error) => return (*error).into(),
            ContextError::Encode(error) => {
                return avp_js_operations::fault::Fault::from(*error).into();
            }
            ContextError::NotAKvCache { .. } => "not_a_kv_cache",
            ContextError::Empty { .. } => "empty",
            ContextError::Contradiction { .. } => "contradiction",
            ContextError::Extra { .. } => "extra",
            ContextError::OtherModel { .. } => "other_model",
            ContextError::Position { .. } => "position",
            ContextError::OtherPrefix { .. } => "other_prefix",
            ContextError::NotFinite { .. } => "not_finite",
            ContextError::File { .. } => "file",
            ContextError::TooLarge { .. } => "too_large",
            _ => "runtime",
        };
        runtime_failure(code, error)
    }
}
