//! Errors of the client.

use std::{error::Error, fmt, io, time::Duration};

use avp_core::DecodeError;

use crate::wire::Reply;

/// The maximum number of characters that an error repeats of a server's text.
const TEXT_LIMIT: usize = 300;

/// An error of the client.
///
/// Errors never contain tokens, payload data or URLs with secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's URL is invalid.
    #[error("the server's URL {reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Plain HTTP to another machine, or through a proxy, without [`allow_plain_http`](super::ClientOptions::allow_plain_http).
    #[error("plain HTTP to {host} leaves this machine; use https or allow plain HTTP")]
    InsecureUrl {
        /// The host.
        host: String,
    },
    /// An option or an argument is invalid.
    #[error("{option} should be {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// The expected value.
        expected: &'static str,
    },
    /// A certificate, of the client or the server, was not accepted.
    #[error("TLS: {reason}")]
    Tls {
        /// The message of the TLS library.
        reason: String,
    },
    /// The connection could not be established.
    #[error("cannot connect: {reason}")]
    Connect {
        /// The message of the system.
        reason: String,
    },
    /// The connection was closed too early.
    #[error("the connection was closed: {reason}")]
    Broken {
        /// The message of the HTTP library.
        reason: String,
    },
    /// A timeout expired.
    #[error("{which} exceeded the timeout of {after:?}")]
    Timeout {
        /// The timeout.
        which: TimeoutKind,
        /// Its duration.
        after: Duration,
    },
    /// The server refused the request.
    #[error("the server refused with status {status}{}", DisplayRefusal { code, message })]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's code for programs, at most 300 characters; `""` for none.
        code: String,
        /// The server's message for people, at most 300 characters; `""` for none.
        message: String,
        /// The value of `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The session has expired, and the frame cannot be sent in another one.
    #[error("the session has expired")]
    SessionExpired,
    /// The bytes sent or received are not a valid frame.
    #[error(transparent)]
    Frame(#[from] DecodeError),
    /// The server's response is not AVP's.
    #[error("invalid response: expected {expected}")]
    Protocol {
        /// What was expected.
        expected: &'static str,
    },
    /// A file or another local source or destination failed.
    #[error("cannot {action}")]
    Io {
        /// The failed action.
        action: &'static str,
        /// The error of the system.
        source: io::Error,
    },
    /// Memory for a frame could not be allocated.
    #[error("cannot allocate {needed} bytes for a frame")]
    Memory {
        /// Length of the frame, in bytes.
        needed: u64,
    },
}

/// A timeout of the client: see [`Timeouts`](super::Timeouts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutKind {
    /// Connecting, TLS included.
    Connect,
    /// The first byte of the response, after the request was sent.
    FirstByte,
    /// The next bytes of a body, in either direction.
    Idle,
    /// The whole operation with all retries.
    Total,
}

impl fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::FirstByte => "waiting for the response",
            Self::Idle => "a pause in a body",
            Self::Total => "the whole operation",
        })
    }
}

impl ClientError {
    /// A stable name for programs to match on, such as `"timeout"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::InsecureUrl { .. } => "insecure_url",
            Self::Option { .. } => "option",
            Self::Tls { .. } => "tls",
            Self::Connect { .. } => "connect",
            Self::Broken { .. } => "broken",
            Self::Timeout { .. } => "timeout",
            Self::Refused { .. } => "refused",
            Self::SessionExpired => "session_expired",
            Self::Frame(error) => error.kind(),
            Self::Protocol { .. } => "protocol",
            Self::Io { .. } => "io",
            Self::Memory { .. } => "memory",
        }
    }

    /// Whether the same operation may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Timeout { which, .. } => !matches!(which, TimeoutKind::Total),
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 502..=504) || self.is_in_progress(),
            _ => false,
        }
    }

    /// Whether the server has certainly not begun to process the request, so that a retry cannot be processed twice.
    pub(super) const fn is_unprocessed(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Timeout { which, .. } => matches!(which, TimeoutKind::Connect),
            Self::Refused { status: 429, .. } => true,
            // A 503 without these may be a proxy's, whose server failed while processing.
            Self::Refused { status: 503, code, retry_after, .. } => !code.is_empty() || retry_after.is_some(),
            _ => false,
        }
    }

    /// Whether an earlier attempt is in progress on the server, which names a time for the next one.
    pub(super) fn is_in_progress(&self) -> bool {
        matches!(self, Self::Refused { status: 409, code, retry_after: Some(_), .. } if code == "in_progress")
    }

    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The error of a response with this status and body. `hide` removes secrets from its text.
    pub(super) fn refusal(
        status: u16,
        retry_after: Option<Duration>,
        body: &[u8],
        hide: impl Fn(&str) -> String,
    ) -> Self {
        let reply = Reply::parse(body);
        let said = |name| reply.as_ref().and_then(|reply| reply.text(name)).unwrap_or_default();
        let text = |name| shorten(&hide(said(name)));
        let (code, message) = (text("code"), text("message"));
        if status == 410 && code == "session_expired" {
            return Self::SessionExpired;
        }
        Self::Refused { status, code, message, retry_after }
    }

    /// The error of the HTTP library as one of the client.
    pub(super) fn from_http(error: reqwest::Error, connect: Duration) -> Self {
        let error = error.without_url();
        if error.is_connect() && error.is_timeout() {
            return Self::Timeout { which: TimeoutKind::Connect, after: connect };
        }
        match (tls_error(&error), error.is_connect()) {
            (Some(error), _) => Self::Tls { reason: tls_reason(error) },
            (None, true) => Self::Connect { reason: innermost(&error) },
            (None, false) => Self::Broken { reason: innermost(&error) },
        }
    }

    pub(super) const fn io(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

struct DisplayRefusal<'a> {
    code: &'a str,
    message: &'a str,
}

impl fmt::Display for DisplayRefusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message } = self;
        match (code.is_empty(), message.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => write!(f, ": {message}"),
            (false, true) => write!(f, " ({code})"),
            (false, false) => write!(f, " ({code}): {message}"),
        }
    }
}

/// A server's text on one line, shortened.
fn shorten(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The innermost cause: the outer ones only name the layers.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    shorten(&error.to_string())
}

fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    std::iter::successors(Some(error), |error| next_cause(*error)).find_map(|error| error.downcast_ref())
}

/// The reason of a TLS error. For some faults of a certificate rustls shows the name in its code alone.
fn tls_reason(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(fault)) = error else {
        return shorten(&error.to_string());
    };
    let name = fault.0.to_string();
    if name.contains("CaUsedAsEndEntity") {
        return "the server's certificate is that of an authority, not of a server: make one with basicConstraints CA:FALSE"
            .to_owned();
    }
    let mut words = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && words.ends_with(|before: char| before.is_ascii_lowercase()) {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    shorten(&format!("the server's certificate is invalid: {words}"))
}

/// As `source`, but does not skip the inner error of an I/O error.
fn next_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_text_is_shortened_to_one_line() {
        let body = Reply::failure("full", &"no\nroom ".repeat(1000)).to_string();
        let error = ClientError::refusal(503, Some(Duration::from_secs(1)), body.as_bytes(), str::to_owned);
        let text = error.to_string();
        assert!(text.starts_with("the server refused with status 503 (full): no room no"), "{text}");
        assert!(text.len() < TEXT_LIMIT + 60 && !text.contains('\n'));
        assert!(error.is_retryable() && error.is_unprocessed());
    }

    #[test]
    fn the_cause_of_a_local_failure_is_its_source_alone() {
        let error = ClientError::io("open the frame")(io::Error::other("no such file"));
        assert_eq!(error.to_string(), "cannot open the frame");
        assert_eq!(error.source().unwrap().to_string(), "no such file");
    }

    #[test]
    fn an_error_response_without_json_is_a_refusal() {
        let error = ClientError::refusal(502, None, b"<html>", str::to_owned);
        assert_eq!(error.to_string(), "the server refused with status 502");
        assert!(error.is_retryable() && !error.is_unprocessed());
        let silent = ClientError::refusal(503, None, b"<html>", str::to_owned);
        assert!(silent.is_retryable() && !silent.is_unprocessed(), "it may be a proxy's");
    }

    #[test]
    fn only_a_409_with_retry_after_is_retried() {
        let refused = |status, code, after: Option<u64>| {
            let body = Reply::failure(code, "").to_string();
            ClientError::refusal(status, after.map(Duration::from_secs), body.as_bytes(), str::to_owned)
        };
        assert!(refused(409, "in_progress", Some(1)).is_retryable());
        for error in [
            refused(409, "in_progress", None),
            refused(409, "no", Some(1)),
            refused(422, "in_progress", Some(1)),
        ] {
            assert!(!error.is_retryable(), "{error}");
        }
    }

    #[test]
    fn only_a_410_with_its_code_is_an_expired_session() {
        let expired = Reply::failure("session_expired", "").to_string();
        assert_eq!(
            ClientError::refusal(410, None, expired.as_bytes(), str::to_owned).kind(),
            "session_expired"
        );
        assert_eq!(ClientError::refusal(410, None, b"{}", str::to_owned).kind(), "refused");
        assert_eq!(ClientError::refusal(400, None, expired.as_bytes(), str::to_owned).kind(), "refused");
    }
}
