//! Why an operation failed, in the form that the host makes an `Error` of.

use std::fmt::Display;

use crate::{border::Answer, utf16::Offsets};

/// A failure: the class of the host's `Error`, and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Which class of error: `decode`, `encode`, `json`, `packet` or `request`.
    pub kind: &'static str,
    /// The core's own name for the error.
    pub code: &'static str,
    /// Where: a byte of the input, or a UTF-16 unit of a text.
    pub offset: Option<usize>,
    /// A sentence for people.
    pub message: String,
}

/// What every operation gives.
pub type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub(crate) fn packet(code: &'static str, offset: Option<usize>, message: impl Display) -> Self {
        Self { kind: "packet", code, offset, message: message.to_string() }
    }

    pub(crate) fn json(error: avp_core::json::ReadError, text: &str) -> Self {
        let offset = Some(Offsets::new(text).of(error.offset()));
        Self { kind: "json", code: error.kind(), offset, message: error.to_string() }
    }

    /// The host checks its arguments, so this is a defect of ours.
    #[must_use]
    pub fn bad_request() -> Self {
        Self {
            kind: "request",
            code: "bad_request",
            offset: None,
            message: "the request is malformed".to_owned(),
        }
    }

    /// The failure as JSON.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let mut answer = Answer::default();
        answer.object(|answer| {
            answer.key("kind").text(self.kind).key("code").text(self.code).key("offset");
            match self.offset {
                Some(offset) => answer.whole(offset as u64),
                None => answer.null(),
            };
            answer.key("message").text(&self.message);
        });
        answer.into_bytes()
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
