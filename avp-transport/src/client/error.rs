//! Why a deed of the client failed.

use std::{error::Error, fmt, io, time::Duration};

use avp_core::DecodeError;

use crate::wire::Reply;

/// The most characters of a stranger's text that an error repeats.
const TEXT_LIMIT: usize = 300;

/// Why the client could not do what it was asked.
///
/// No token, no payload and no address with a secret in it is ever part of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's address is none.
    #[error("the server's address {reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Without TLS, only this machine is spoken to, and not through a proxy, unless an option says otherwise.
    #[error("plain HTTP to {host} would leave this machine, which needs an option that allows it")]
    InsecureUrl {
        /// The host that was named.
        host: String,
    },
    /// An option or an argument cannot be used.
    #[error("{option} should be {expected}")]
    Option {
        /// Which.
        option: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The certificates, ours or theirs, will not do.
    #[error("TLS: {reason}")]
    Tls {
        /// In the words of the TLS library.
        reason: String,
    },
    /// There was no connection.
    #[error("no connection: {reason}")]
    Connect {
        /// What the system says.
        reason: String,
    },
    /// There was a connection, and it ended too early.
    #[error("the connection broke: {reason}")]
    Broken {
        /// What the connection says.
        reason: String,
    },
    /// Something took too long.
    #[error("{which} took longer than {after:?}")]
    Timeout {
        /// What was waited for.
        which: Wait,
        /// For how long.
        after: Duration,
    },
    /// The server answered, and the answer is no.
    #[error("the server refused with status {status}{}", DisplayRefusal { code, message })]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's name for the reason, at most 300 characters; `""` where it gave none.
        code: String,
        /// The server's sentence for people, at most 300 characters; `""` where it gave none.
        message: String,
        /// After how long the server wishes to be asked again.
        retry_after: Option<Duration>,
    },
    /// The session is over, and this frame cannot be taken into another one.
    #[error("the session has expired")]
    SessionExpired,
    /// The bytes, ours or theirs, are no frame.
    #[error(transparent)]
    Frame(#[from] DecodeError),
    /// The server's answer is not one of this protocol.
    #[error("the answer is not AVP's: expected {expected}")]
    Protocol {
        /// What should have been there.
        expected: &'static str,
    },
    /// A file or another source or sink on this machine failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The memory for a frame is not to be had.
    #[error("no memory for a frame of {needed} bytes")]
    Memory {
        /// Length of the frame, in bytes.
        needed: u64,
    },
}

/// What the client waits for, each with its own patience: see [`Timeouts`](super::Timeouts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A connection, TLS included.
    Connect,
    /// The first byte of the answer, once the request has gone out.
    FirstByte,
    /// The next bytes of a body, in either direction.
    Idle,
    /// The whole deed, with all its retries.
    Total,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::FirstByte => "the answer",
            Self::Idle => "a pause in a body",
            Self::Total => "the whole exchange",
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

    /// Whether the same may succeed another time.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Timeout { which, .. } => !matches!(which, Wait::Total),
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 502..=504) || self.is_in_progress(),
            _ => false,
        }
    }

    /// Whether the server has surely not begun to act on the request, so that another one cannot make it act twice.
    pub(super) const fn left_nothing_done(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Timeout { which, .. } => matches!(which, Wait::Connect),
            Self::Refused { status: 429, .. } => true,
            // A 503 without a word may be a proxy's, whose server broke off after it had begun.
            Self::Refused { status: 503, code, retry_after, .. } => !code.is_empty() || retry_after.is_some(),
            _ => false,
        }
    }

    /// Whether the server is still at work on the same request, and tells when to ask for what came of it.
    pub(super) fn is_in_progress(&self) -> bool {
        matches!(self, Self::Refused { status: 409, code, retry_after: Some(_), .. } if code == "in_progress")
    }

    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The refusal that an answer with this status and body is. `hide` takes out of its words what nobody shall read.
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

    /// What an error of the HTTP client means here.
    pub(super) fn from_http(error: reqwest::Error, connect: Duration) -> Self {
        let error = error.without_url();
        if error.is_connect() && error.is_timeout() {
            return Self::Timeout { which: Wait::Connect, after: connect };
        }
        let reason = innermost(&error);
        match (has_tls_error(&error), error.is_connect()) {
            (true, _) => Self::Tls { reason },
            (false, true) => Self::Connect { reason },
            (false, false) => Self::Broken { reason },
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

/// A stranger's text, cut to a length, on one line.
fn shorten(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The last cause says what happened; those before it, through which layers it came.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    shorten(&error.to_string())
}

fn has_tls_error(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| next_cause(*error)).any(|error| error.is::<rustls::Error>())
}

/// As `source`, but an I/O error's own inner error is not passed over.
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
    fn a_strangers_words_are_cut_and_stay_on_one_line() {
        let body = Reply::failure("full", &"no\nroom ".repeat(1000)).to_string();
        let error = ClientError::refusal(503, Some(Duration::from_secs(1)), body.as_bytes(), str::to_owned);
        let text = error.to_string();
        assert!(text.starts_with("the server refused with status 503 (full): no room no"), "{text}");
        assert!(text.len() < TEXT_LIMIT + 60 && !text.contains('\n'));
        assert!(error.is_retryable() && error.left_nothing_done());
    }

    #[test]
    fn an_answer_that_is_no_json_is_a_refusal_all_the_same() {
        let error = ClientError::refusal(502, None, b"<html>", str::to_owned);
        assert_eq!(error.to_string(), "the server refused with status 502");
        assert!(error.is_retryable() && !error.left_nothing_done());
        let silent = ClientError::refusal(503, None, b"<html>", str::to_owned);
        assert!(silent.is_retryable() && !silent.left_nothing_done(), "whose it is shows nothing");
    }

    #[test]
    fn only_a_409_that_names_a_time_is_waited_for() {
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
    fn only_a_410_that_says_so_is_an_expired_session() {
        let expired = Reply::failure("session_expired", "").to_string();
        assert_eq!(
            ClientError::refusal(410, None, expired.as_bytes(), str::to_owned).kind(),
            "session_expired"
        );
        assert_eq!(ClientError::refusal(410, None, b"{}", str::to_owned).kind(), "refused");
        assert_eq!(ClientError::refusal(400, None, expired.as_bytes(), str::to_owned).kind(), "refused");
    }
}
