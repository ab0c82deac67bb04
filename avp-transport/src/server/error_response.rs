//! Error responses: a status, a code for programs, a message for people.

use std::{borrow::Cow, fmt, io, time::Duration};

use avp_core::DecodeError;
use http::{Method, StatusCode};

use super::{BodyError, NoRoom};
use crate::{store::StoreError, wire::Reply};

/// The longest part of a client's text that an error repeats, in characters.
const MAX_EXCERPT: usize = 64;

/// The longest message, in characters.
const MAX_MESSAGE: usize = 1024;

/// Where the system can open no more files.
const OUT_OF_FILES: &str = "the server has too many files open now";

/// An error as the response to a request.
///
/// ```
/// use avp_transport::server::ErrorResponse;
///
/// let error = ErrorResponse::not_found("no context has this id");
/// assert_eq!((error.status().as_u16(), error.code()), (404, "not_found"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    status: StatusCode,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    /// The invalid field of the request.
    field: Option<Cow<'static, str>>,
    header: Option<Header>,
}

/// What the response says in a header of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    /// `Retry-After`.
    RetryAfter(Duration),
    /// `Allow`, for a method that the path does not accept.
    Allow(String),
    /// `Content-Range` with the complete length, for a range that cannot be satisfied.
    CompleteLen(u64),
}

impl ErrorResponse {
    /// An error response with this status. `code` is a stable name for programs, `message` a sentence for people, of which 1,024 characters
    /// are told; neither may contain payload data.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = cut(message.into(), MAX_MESSAGE);
        Self { status, code: code.into(), message, field: None, header: None }
    }

    /// 400: the request is invalid.
    #[must_use]
    pub fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404, `not_found`.
    #[must_use]
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405, `method_not_allowed`: the path accepts these methods, which `Allow` lists.
    #[must_use]
    pub fn method_not_allowed(allow: &[Method]) -> Self {
        let allow: Vec<_> = allow.iter().map(Method::as_str).collect();
        Self { header: Some(Header::Allow(allow.join(","))), ..Self::other_method() }
    }

    /// 405 of a path whose router sets `Allow`.
    pub(super) fn other_method() -> Self {
        let message = "this path does not accept this method; `Allow` lists those that it does";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 415: the content type is missing or another one.
    pub(super) fn content_type(code: &'static str, expected: &str) -> Self {
        let message = format!("expected the content type {expected}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, message)
    }

    /// 503 with `Retry-After`: the same request may succeed later.
    #[must_use]
    pub fn busy(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(Duration::from_secs(1))
    }

    /// 500, `internal`: the server failed. The cause belongs in its log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log has the cause")
    }

    /// A name that a client chose, for a message: escaped, between quotes, and at most 64 characters of it.
    ///
    /// ```
    /// use avp_transport::server::ErrorResponse;
    ///
    /// assert_eq!(ErrorResponse::excerpt("top\nk"), r#""top\nk""#);
    /// assert_eq!(ErrorResponse::excerpt(&"k".repeat(65)), format!("\"{}…\"", "k".repeat(64)));
    /// ```
    #[must_use]
    pub fn excerpt(text: &str) -> String {
        format!("{:?}", cut(text.to_owned().into(), MAX_EXCERPT))
    }

    /// Names the invalid field of the request, in at most 64 characters.
    #[must_use]
    pub fn of_field(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(cut(field.into(), MAX_EXCERPT)), ..self }
    }

    /// Sets `Retry-After`, in whole seconds.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { header: Some(Header::RetryAfter(after)), ..self }
    }

    /// Sets the complete length in `Content-Range`.
    pub(super) fn content_range(self, complete_len: u64) -> Self {
        Self { header: Some(Header::CompleteLen(complete_len)), ..self }
    }

    pub(super) const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable name for programs.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The invalid field of the request, if it is a single one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The value of `Retry-After`.
    #[must_use]
    pub const fn try_again(&self) -> Option<Duration> {
        match self.header {
            Some(Header::RetryAfter(after)) => Some(after),
            _ => None,
        }
    }

    /// The JSON of the response.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let reply = Reply::failure(&self.code, &self.message);
        match self.field() {
            Some(field) => reply.with("field", field),
            None => reply,
        }
    }
}

/// At most so many characters of a text: it may be a client's, and waits in memory until the client reads it.
fn cut(text: Cow<'static, str>, most: usize) -> Cow<'static, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text,
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.status, self.code, self.message)
    }
}

impl std::error::Error for ErrorResponse {}

impl From<DecodeError> for ErrorResponse {
    fn from(error: DecodeError) -> Self {
        let status = match error {
            DecodeError::FrameTooLarge { .. } | DecodeError::MetadataTooLarge { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            DecodeError::DecompressedTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.kind(), error.to_string())
    }
}

impl From<StoreError> for ErrorResponse {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Frame(error) => error.into(),
            StoreError::Io(io::ErrorKind::ResourceBusy) => Self::busy(error.kind(), OUT_OF_FILES),
            StoreError::Quota { .. } | StoreError::Io(_) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, error.kind(), error.to_string())
            }
        }
    }
}

impl From<NoRoom> for ErrorResponse {
    fn from(no_room: NoRoom) -> Self {
        let NoRoom { needed, most } = no_room;
        if no_room.is_for_now() {
            return Self::busy("no_room", format!("no room for {needed} bytes beside other requests"));
        }
        let message =
            format!("this request needs {needed} bytes of memory, of which a caller has at most {most}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large_for_memory", message)
    }
}

impl From<BodyError> for ErrorResponse {
    fn from(error: BodyError) -> Self {
        let status = match &error {
            BodyError::Frame(error) => return (*error).into(),
            BodyError::Signature(error) => return (*error).into(),
            BodyError::Stalled { .. } | BodyError::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken => StatusCode::BAD_REQUEST,
            BodyError::NoRoom(no_room) => return (*no_room).into(),
            BodyError::NoDisk(_) | BodyError::OutOfMemory { .. } => {
                return Self::busy(error.kind(), error.to_string());
            }
            BodyError::Storage(io::ErrorKind::ResourceBusy) => {
                return Self::busy(error.kind(), OUT_OF_FILES);
            }
            BodyError::Storage(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, error.kind(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn too_many_open_files_are_a_reason_to_try_again() {
        let error = || io::Error::from(rustix::io::Errno::MFILE);
        for response in [StoreError::from(error()).into(), ErrorResponse::from(BodyError::from(error()))] {
            assert_eq!((response.status().as_u16(), response.code()), (503, "storage"));
            assert!(response.try_again().is_some());
        }
        assert_eq!(ErrorResponse::from(BodyError::Storage(io::ErrorKind::StorageFull)).status(), 507);
    }

    #[test]
    fn an_error_repeats_a_short_part_of_what_a_client_says() {
        let long = "ä".repeat(900_000);
        let message = format!("unknown parameter {}", ErrorResponse::excerpt(&long));
        let error = ErrorResponse::bad_request("wrong", message).of_field(long.clone());
        assert!(error.reply().to_string().len() < 500);
        assert_eq!(error.field().map(|field| field.chars().count()), Some(MAX_EXCERPT + 1));
        let whole = ErrorResponse::bad_request("wrong", long);
        assert_eq!(whole.message().chars().count(), MAX_MESSAGE + 1);
    }
}
