//! Responses: JSON, and stored contexts whole or in part.

use axum::body::Body;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::{
    Caller, FairShares,
    error_response::{ErrorResponse, Header},
};
use crate::{store::StoredContext, wire};

/// The body of a response.
pub type ResponseBody = Body;

pub(super) fn reply(reply: &wire::Reply) -> Response<ResponseBody> {
    text(wire::JSON, reply.to_string())
}

pub(super) fn text(media_type: &'static str, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The response to a refused request, with `body` as its JSON.
pub(super) fn error(error: &ErrorResponse, body: wire::Reply, request_id: &str) -> Response<ResponseBody> {
    let mut response = reply(&body.with("request_id", request_id));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    match error.header() {
        Some(Header::RetryAfter(after)) => {
            headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
        }
        Some(Header::Allow(methods)) => {
            if let Ok(methods) = HeaderValue::from_str(methods) {
                headers.insert(header::ALLOW, methods);
            }
        }
        Some(Header::CompleteLen(len)) => content_range(headers, &format!("bytes */{len}")),
        None => {}
    }
    if error.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The response to a `GET` or `HEAD` of a stored context: all of it, the requested range, or 304.
pub(super) async fn context(
    context: &StoredContext,
    method: &Method,
    request: &HeaderMap,
    caller: &Caller,
    memory: &FairShares,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let etag = HeaderValue::from_str(context.etag()).map_err(|_| ErrorResponse::internal())?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A context is a private conversation.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    if request.get(header::IF_NONE_MATCH).is_some_and(|tags| matches(tags, &etag)) {
        headers.insert(header::CONTENT_LENGTH, context.len().into());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let range = match request.get(header::RANGE) {
        // Ranges are defined for GET alone (RFC 9110, 14.2), and a range of another version is useless (13.1.5).
        Some(range)
            if method == Method::GET && request.get(header::IF_RANGE).is_none_or(|tag| *tag == etag) =>
        {
            parse_range(range.as_bytes(), context.len())
        }
        _ => Range::Whole,
    };
    let (start, end) = match range {
        Range::Whole => (0, context.len()),
        Range::Part { start, end } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            content_range(response.headers_mut(), &format!("bytes {start}-{}/{}", end - 1, context.len()));
            (start, end)
        }
        Range::Outside => {
            let message = format!("the range lies outside the context's {} bytes", context.len());
            let error =
                ErrorResponse::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message);
            return Err(error.content_range(context.len()));
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::FRAME));
    headers.insert(header::CONTENT_LENGTH, (end - start).into());
    if method == Method::GET {
        // Until the body ends: the context may be removed before.
        let held = (context.reader(caller, memory)?, memory.take(caller, context.reader_memory())?);
        let reader = context.read(start..end).await.map_err(|error| unreadable(&error))?;
        let chunks = stream::try_unfold((reader, held), |(mut reader, held)| async move {
            Ok::<_, std::io::Error>(reader.chunk().await?.map(|chunk| (chunk, (reader, held))))
        });
        *response.body_mut() = Body::from_stream(chunks);
    }
    Ok(response)
}

/// The response where the file of a stored context cannot be opened.
fn unreadable(error: &std::io::Error) -> ErrorResponse {
    match error.kind() {
        std::io::ErrorKind::NotFound => ErrorResponse::not_found("the context is no longer stored"),
        std::io::ErrorKind::InvalidData => {
            tracing::error!("the file of a context was changed");
            ErrorResponse::not_found("the context is damaged")
        }
        kind => {
            tracing::error!(%kind, "cannot open a stored context");
            ErrorResponse::busy("storage", "the context cannot be read now")
        }
    }
}

/// The length of the body, from the header.
pub(super) fn content_len(response: &Response<ResponseBody>) -> u64 {
    let len = response.headers().get(header::CONTENT_LENGTH);
    len.and_then(|len| len.to_str().ok()?.parse().ok()).unwrap_or_default()
}

fn content_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        headers.insert(header::CONTENT_RANGE, range);
    }
}

/// Whether `If-None-Match` lists this entity tag.
fn matches(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    tags.as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// The bytes that a `Range` header requests.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { start: u64, end: u64 },
    Outside,
}

/// Parses `bytes=START-END`, `bytes=START-` or `bytes=-SUFFIX` (RFC 9110, 14.1.2). Anything else is ignored, as the
/// standard allows.
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
    fn ranges_are_parsed_as_the_standard_says() {
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
    fn numbers_too_large_for_a_range_do_not_panic() {
        assert_eq!(parse_range(b"bytes=18446744073709551615-", 10), Range::Outside);
        assert_eq!(parse_range(b"bytes=99999999999999999999-", 10), Range::Whole);
        assert_eq!(parse_range(b"bytes=0-18446744073709551615", 10), Range::Part { start: 0, end: 10 });
    }
}
