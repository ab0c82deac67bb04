//! Why a request is not answered with what it asked for: a status, a name, a sentence.

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;

use crate::{reader::FrameError, server::BodyError, wire::Reply};

/// A refusal, as a handler gives it and a client reads it.
///
/// ```
/// use avp_transport::server::Refusal;
///
/// let refusal = Refusal::not_found("no context has this id");
/// assert_eq!((refusal.status().as_u16(), refusal.code()), (404, "not_found"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    /// The part of the request that is at fault.
    field: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    /// How long the thing is that a range was asked of.
    whole_len: Option<u64>,
}

impl Refusal {
    /// A refusal of this status. `code` is a stable name for programs, `message` a sentence for people; neither may hold
    /// anything of a payload.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            field: None,
            retry_after: None,
            whole_len: None,
        }
    }

    /// The request is not what it should be.
    #[must_use]
    pub fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// There is no such thing here.
    #[must_use]
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// There is no room or no time now; the same request may succeed later.
    #[must_use]
    pub fn busy(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(Duration::from_secs(1))
    }

    /// Something failed here that is not the caller's fault; what it was is for this side's log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log says how")
    }

    /// Tells which field of the request is at fault.
    #[must_use]
    pub fn of_field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Tells the caller when to try again, in whole seconds.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// Tells how many bytes there are in all, to a caller that asked for others.
    pub(super) fn content_range(self, whole_len: u64) -> Self {
        Self { whole_len: Some(whole_len), ..self }
    }

    pub(super) const fn whole_len(&self) -> Option<u64> {
        self.whole_len
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The field of the request that is at fault, where it is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// When to try again, where that helps.
    #[must_use]
    pub const fn try_again(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The answer's JSON.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let reply = Reply::failure(&self.code, &self.message);
        match self.field() {
            Some(field) => reply.with("field", field),
            None => reply,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.status, self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<FrameError> for Refusal {
    fn from(error: FrameError) -> Self {
        let status = match error {
            FrameError::FrameTooLarge { .. } | FrameError::MetadataTooLarge { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            FrameError::Decode(avp_core::DecodeError::DecompressedTooLarge { .. }) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            FrameError::Decode(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.kind(), error.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let status = match &error {
            BodyError::Frame(error) => return (*error).into(),
            BodyError::Stalled { .. } | BodyError::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken => StatusCode::BAD_REQUEST,
            BodyError::NoRoom { .. } => return Self::busy(error.kind(), error.to_string()),
            BodyError::Storage(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, error.kind(), error.to_string())
    }
}
