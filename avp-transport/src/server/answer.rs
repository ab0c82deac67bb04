//! Answers: JSON, and kept contexts whole or in part.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};

use super::Refusal;
use crate::{store::Kept, wire};

/// The body of an answer.
pub type Answer = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn reply(reply: wire::Reply) -> Response<Answer> {
    text(wire::JSON, reply.to_string())
}

pub(super) fn text(media_type: &'static str, text: String) -> Response<Answer> {
    let mut response = Response::new(whole(text.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The answer that `body` is to a request that was refused.
pub(super) fn refusal(refusal: &Refusal, body: wire::Reply, request_id: &str) -> Response<Answer> {
    let mut response = reply(body.with("request_id", request_id));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    if let Some(after) = refusal.try_again() {
        headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    if let Some(len) = refusal.whole_len() {
        content_range(headers, &format!("bytes */{len}"));
    }
    if refusal.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A kept context: all of it, the part that was asked for, or the news that it is the one that the client has.
pub(super) async fn context(
    kept: &Kept,
    asked: &HeaderMap,
    head_only: bool,
) -> Result<Response<Answer>, Refusal> {
    let etag = HeaderValue::from_str(kept.etag()).map_err(|_| Refusal::internal())?;
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A context is the conversation of one agent with another: nobody between them keeps it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    if asked.get(header::IF_NONE_MATCH).is_some_and(|known| matches(known, &etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let range = match asked.get(header::RANGE) {
        // A part of something else than the client has would be of no use to it (RFC 9110, 13.1.5).
        Some(range) if asked.get(header::IF_RANGE).is_none_or(|known| *known == etag) => {
            parse_range(range.as_bytes(), kept.len())
        }
        _ => Range::Whole,
    };
    let (start, end) = match range {
        Range::Whole => (0, kept.len()),
        Range::Part { start, end } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            content_range(response.headers_mut(), &format!("bytes {start}-{}/{}", end - 1, kept.len()));
            (start, end)
        }
        Range::Outside => {
            let message = format!("the context has {} bytes, and none where the range says", kept.len());
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message);
            return Err(refusal.content_range(kept.len()));
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::FRAME));
    headers.insert(header::CONTENT_LENGTH, (end - start).into());
    if !head_only {
        let gone = |_| Refusal::not_found("the context is no longer there");
        *response.body_mut() = kept.body(start..end).await.map_err(gone)?;
    }
    Ok(response)
}

/// How many bytes of body an answer announces.
pub(super) fn content_len(response: &Response<Answer>) -> u64 {
    let len = response.headers().get(header::CONTENT_LENGTH);
    len.and_then(|len| len.to_str().ok()?.parse().ok()).unwrap_or_default()
}

fn whole(bytes: Bytes) -> Answer {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn content_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        headers.insert(header::CONTENT_RANGE, range);
    }
}

/// Whether one of the tags in an `If-None-Match` is this one.
fn matches(known: &HeaderValue, etag: &HeaderValue) -> bool {
    known
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// The bytes that a `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { start: u64, end: u64 },
    Outside,
}

/// Reads `bytes=START-END`, `bytes=START-` or `bytes=-LAST` (RFC 9110, 14.1.2). What is no single range of bytes is
/// answered with the whole, as the standard allows.
fn parse_range(range: &[u8], len: u64) -> Range {
    let parsed = || -> Option<(Option<u64>, Option<u64>)> {
        let range = std::str::from_utf8(range).ok()?.strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| match text.trim() {
            "" => Some(None),
            digits => digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()),
        };
        Some((number(first)?, number(last)?))
    };
    match parsed() {
        Some((Some(first), last)) if last.is_none_or(|last| last >= first) => match first < len {
            true => {
                Range::Part { start: first, end: last.map_or(len, |last| last.saturating_add(1).min(len)) }
            }
            false => Range::Outside,
        },
        Some((None, Some(last))) => match last.min(len) {
            0 => Range::Outside,
            last => Range::Part { start: len - last, end: len },
        },
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (range, expected) in [
            ("bytes=0-0", Range::Part { start: 0, end: 1 }),
            ("bytes=2-5", Range::Part { start: 2, end: 6 }),
            ("bytes=2-", Range::Part { start: 2, end: 10 }),
            ("bytes=2-99", Range::Part { start: 2, end: 10 }),
            ("bytes=-3", Range::Part { start: 7, end: 10 }),
            ("bytes=-99", Range::Part { start: 0, end: 10 }),
            ("bytes=10-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=5-2", Range::Whole),
            ("bytes=1-2,4-5", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("lines=1-2", Range::Whole),
        ] {
            assert_eq!(parse_range(range.as_bytes(), 10), expected, "{range}");
        }
        assert_eq!(parse_range(b"bytes=0-", 0), Range::Outside);
    }

    #[test]
    fn numbers_too_large_for_a_range_are_no_panic() {
        assert_eq!(parse_range(b"bytes=18446744073709551615-", 10), Range::Outside);
        assert_eq!(parse_range(b"bytes=99999999999999999999-", 10), Range::Whole);
        assert_eq!(parse_range(b"bytes=0-18446744073709551615", 10), Range::Part { start: 0, end: 10 });
    }
}
