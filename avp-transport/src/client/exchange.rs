//! One request and its response, with a timeout for each phase.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use reqwest::{Request, Response, Url};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Client, ClientError, TimeoutKind,
    chunks::Chunks,
    upload::{Meter, Phase, Reporter, Upload},
};
use crate::{
    id::random_id,
    wire::{AGENT_HEADER, JSON, REQUEST_ID_HEADER, Reply, VERSION_HEADER, binding_version},
};

/// The request body of one attempt, and its meter.
pub(super) type Attempt = (Upload, Arc<Meter>);

/// The maximum number of bytes of an error response that are read.
const REFUSAL_LIMIT: usize = 64 << 10;

impl Client {
    /// A request to `path` below the base URL, with this agent's headers.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> Request {
        let mut url = self.inner.base.clone();
        // `base_url` has checked that the URL has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = Request::new(method, url);
        let dialect = self.dialect();
        let headers = request.headers_mut();
        headers.insert(VERSION_HEADER, HeaderValue::from_static(binding_version(dialect)));
        headers.insert(AGENT_HEADER, self.inner.agent.clone());
        headers.insert(REQUEST_ID_HEADER, ascii(&random_id()));
        if let Some(token) = &self.inner.options.token {
            headers.insert(AUTHORIZATION, token.header());
        }
        request
    }

    /// A `POST` of JSON text.
    pub(super) fn json_request(&self, path: &[&str], text: &str) -> (Request, Attempt) {
        let mut request = self.request(Method::POST, path);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        let body = Bytes::copy_from_slice(text.as_bytes());
        let len = body.len() as u64;
        (request, Upload::new(body, Chunks::Memory([].into()), len, Reporter::default()))
    }

    /// Sends a request and waits for the head of its response, whatever the status.
    pub(super) async fn send_request(
        &self,
        mut request: Request,
        attempt: Option<Attempt>,
    ) -> Result<Response, ClientError> {
        let timeouts = self.inner.options.timeouts;
        let (body, meter) = attempt.unzip();
        *request.body_mut() = body.map(reqwest::Body::wrap);
        let meter = meter.unwrap_or_default();
        let begun = Instant::now();
        let mut response = pin!(self.inner.http.execute(request));
        loop {
            let phase = meter.phase();
            let (from, which, after) = match phase {
                Phase::Waiting => {
                    (begun, TimeoutKind::FirstByte, timeouts.connect.saturating_add(timeouts.first_byte))
                }
                Phase::Sending(polled) => (polled, TimeoutKind::Idle, timeouts.idle),
                Phase::Sent(finished) => (finished, TimeoutKind::FirstByte, timeouts.first_byte),
            };
            tokio::select! {
                biased;
                response = &mut response => {
                    return response.map_err(|error| {
                        let fault = meter.take_fault();
                        fault.unwrap_or_else(|| ClientError::from_http(error, timeouts.connect))
                    });
                }
                () = meter.next_phase() => {}
                () = sleep_until(later(from, after)) => {
                    if meter.phase() == phase {
                        return Err(ClientError::Timeout { which, after });
                    }
                }
            }
        }
    }

    /// Sends a request and reads the JSON object of its response.
    pub(super) async fn reply(
        &self,
        request: Request,
        attempt: Option<Attempt>,
    ) -> Result<(Reply, HeaderMap), ClientError> {
        let response = self.accepted(request, attempt).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.read_whole(response, self.inner.options.reply_limit).await?;
        let reply = Reply::parse(&body).ok_or(ClientError::Protocol { expected: "a JSON object" })?;
        // Handlers of the Python package report failure in the JSON alone.
        match reply.field("success") {
            Some(serde_json::Value::Bool(false)) => {
                Err(self.refusal(status.as_u16(), retry_after(&headers), &body))
            }
            _ => Ok((reply, headers)),
        }
    }

    /// Sends a request and turns an error status into an error.
    pub(super) async fn accepted(
        &self,
        request: Request,
        attempt: Option<Attempt>,
    ) -> Result<Response, ClientError> {
        let response = self.send_request(request, attempt).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    /// The error of a response with an error status.
    pub(super) async fn refused(&self, response: Response) -> ClientError {
        let (status, after) = (response.status().as_u16(), retry_after(response.headers()));
        // Without a body the status alone tells the error.
        let body = self.read_whole(response, REFUSAL_LIMIT).await.unwrap_or_default();
        self.refusal(status, after, &body)
    }

    /// A refusal with the server's message, from which the client's token is removed.
    fn refusal(&self, status: u16, retry_after: Option<Duration>, body: &[u8]) -> ClientError {
        let hide = |text: &str| match &self.inner.options.token {
            Some(token) => token.hide_in(text),
            None => text.to_owned(),
        };
        ClientError::refusal(status, retry_after, body, hide)
    }

    /// The next bytes of a response's body; `None` at its end.
    pub(super) async fn next_bytes(&self, response: &mut Response) -> Result<Option<Bytes>, ClientError> {
        let timeouts = self.inner.options.timeouts;
        match timeout(timeouts.idle, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| ClientError::from_http(error, timeouts.connect)),
            Err(_) => Err(ClientError::Timeout { which: TimeoutKind::Idle, after: timeouts.idle }),
        }
    }

    /// Runs an operation within the total timeout.
    pub(super) async fn within_total<T>(
        &self,
        operation: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let Some(after) = self.inner.options.timeouts.total else { return operation.await };
        let timed_out = |_| Err(ClientError::Timeout { which: TimeoutKind::Total, after });
        timeout(after, operation).await.unwrap_or_else(timed_out)
    }

    async fn read_whole(&self, mut response: Response, limit: usize) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next_bytes(&mut response).await? {
            if chunk.len() > limit - body.len() {
                return Err(ClientError::Protocol { expected: "a shorter response" });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// Parses and checks the base URL. Through a proxy, requests to a loopback address leave this machine too.
pub(super) fn base_url(url: &str, allow_plain_http: bool, has_proxy: bool) -> Result<Url, ClientError> {
    let wrong = |reason| ClientError::Url { reason };
    let url = Url::parse(url).map_err(|_| wrong("should have the form https://host:port"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("should not contain a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("should not have a query or fragment"));
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => {}
        ("http", Some(host)) => {
            if !allow_plain_http && (has_proxy || !is_this_machine(host)) {
                return Err(ClientError::InsecureUrl { host: host.chars().take(255).collect() });
            }
        }
        _ => return Err(wrong("should begin with https:// or http://")),
    }
    Ok(url)
}

/// Whether a host is always this machine. `localhost` is by RFC 6761.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The instant of a timeout; one that overflows `Instant` becomes a year.
fn later(from: Instant, after: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    from.checked_add(after).unwrap_or_else(|| from + YEAR)
}

/// `Retry-After` in seconds. AVP servers do not send dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// A header value of text that is known to be ASCII.
pub(super) fn ascii(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_by_default() {
        for url in
            ["http://127.0.0.1:80", "http://localhost:8000/agents", "http://[::1]:9", "https://a.example"]
        {
            assert!(base_url(url, false, false).is_ok(), "{url}");
        }
        for url in ["http://a.example", "http://10.0.0.1", "http://localhost.evil.example", "http://[::2]"] {
            assert_eq!(base_url(url, false, false).unwrap_err().kind(), "insecure_url", "{url}");
            assert!(base_url(url, true, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn through_a_proxy_plain_http_needs_the_option() {
        let error = base_url("http://127.0.0.1", false, true).unwrap_err();
        assert_eq!(error.kind(), "insecure_url");
        assert!(base_url("http://127.0.0.1", true, true).is_ok());
        assert!(base_url("https://127.0.0.1", false, true).is_ok());
    }

    #[test]
    fn an_error_does_not_repeat_the_password_of_a_url() {
        let url = "https://user:s3cret@host";
        let error = base_url(url, true, false).unwrap_err();
        assert_eq!((error.kind(), error.to_string().contains("s3cret")), ("url", false));
        for url in ["", "host:80", "ftp://host", "unix:/socket", "https://host/?a=b", "https://host/#a"] {
            assert_eq!(base_url(url, true, false).unwrap_err().kind(), "url", "{url}");
        }
    }
}
