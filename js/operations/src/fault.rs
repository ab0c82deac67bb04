//! Errors, as the fields of a JavaScript `Error`.

use std::fmt::Display;

use serde::Serialize;

use crate::utf16::Offsets;

/// An error: the class of the JavaScript `Error`, and its fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// The class: `argument` (a `TypeError`), `decode`, `encode`, `json` or `packet`.
    pub kind: &'static str,
    /// The stable code, as the core names it; empty for `argument`.
    pub code: &'static str,
    /// Byte offset in the input, or index of a UTF-16 unit in a text.
    pub offset: Option<usize>,
    /// The message.
    pub message: String,
}

/// The result of every function.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub(crate) fn argument(message: String) -> Self {
        Self { kind: "argument", code: "", offset: None, message }
    }

    pub(crate) fn packet(code: &'static str, offset: Option<usize>, message: impl Display) -> Self {
        Self { kind: "packet", code, offset, message: message.to_string() }
    }

    pub(crate) fn json(error: avp_core::json::ReadError, text: &str) -> Self {
        let offset = Some(Offsets::new(text).of(error.offset()));
        Self { kind: "json", code: error.kind(), offset, message: error.to_string() }
    }
}

impl From<avp_core::DecodeError> for Fault {
    fn from(error: avp_core::DecodeError) -> Self {
        let offset = Some(error.offset());
        Self { kind: "decode", code: error.kind(), offset, message: error.to_string() }
    }
}

impl From<avp_core::EncodeError> for Fault {
    fn from(error: avp_core::EncodeError) -> Self {
        Self { kind: "encode", code: error.kind(), offset: None, message: error.to_string() }
    }
}
