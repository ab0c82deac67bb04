//! Fetching, inspecting and deleting stored contexts.

use std::{path::Path, sync::Arc};

use avp_core::{BodyReader, DecodeError, FrameLimits, HeadReader, OwnedHead};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, RANGE},
};
use reqwest::{Request, Response};

use super::{
    Client, ClientError, Receipt,
    exchange::ascii,
    retry::Retries,
    sink::{FileSink, MemorySink, Sink},
    upload::Reporter,
};

/// A fetch that is configured before it starts: see [`Client::fetch_context`].
#[must_use = "nothing is fetched before `to_memory` or `to_file`"]
#[derive(Debug)]
pub struct Fetch<'a> {
    client: &'a Client,
    id: &'a str,
    reporter: Reporter,
}

/// A verified frame in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The frame.
    pub frame: Bytes,
    /// Its head.
    pub head: OwnedHead,
    /// The server's `ETag`.
    pub etag: Option<String>,
}

/// A verified frame in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedFile {
    /// The frame's head.
    pub head: OwnedHead,
    /// The server's `ETag`.
    pub etag: Option<String>,
}

/// Length and `ETag` of a stored context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextInfo {
    /// Length of the frame in bytes, if the server states it.
    pub len: Option<u64>,
    /// The `ETag`.
    pub etag: Option<String>,
}

impl Client {
    /// Fetches a stored context and verifies length and checksum. A broken transfer is resumed if the context has not
    /// changed.
    ///
    /// ```no_run
    /// # async fn example(client: avp_transport::client::Client) -> Result<(), avp_transport::client::ClientError> {
    /// let fetched = client.fetch_context("c1").to_memory().await?;
    /// println!("{} bytes from {}", fetched.frame.len(), fetched.head.metadata().source_agent_id);
    /// let progress = |done, total| println!("{done} of {total} bytes");
    /// client.fetch_context("c1").on_progress(progress).to_file("c1.avp").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fetch_context<'a>(&'a self, id: &'a str) -> Fetch<'a> {
        Fetch { client: self, id, reporter: Reporter::default() }
    }

    /// Requests the length and `ETag` of a context.
    ///
    /// # Errors
    /// The error of the exchange; for an unknown context [`ClientError::Refused`] with status 404.
    pub async fn context_info(&self, id: &str) -> Result<ContextInfo, ClientError> {
        let response = self.within_total(self.ask(Method::HEAD, id)).await?;
        let len = text(response.headers(), CONTENT_LENGTH).and_then(|len| len.parse().ok());
        Ok(ContextInfo { len, etag: text(response.headers(), ETAG) })
    }

    /// Deletes a context. If a first attempt succeeded without a response, the retry may fail with 404.
    ///
    /// # Errors
    /// The error of the exchange; for an unknown context [`ClientError::Refused`] with status 404.
    pub async fn delete_context(&self, id: &str) -> Result<Receipt, ClientError> {
        self.within_total(async {
            let mut retries = Retries::new(&self.inner.options.retry);
            loop {
                let request = self.context_request(Method::DELETE, id)?;
                match self.reply(request, None).await {
                    Ok(answer) => return Ok(Receipt::new(answer)),
                    Err(error) => retries.pause(error, true).await?,
                }
            }
        })
        .await
    }

    /// Checks that the server is reachable.
    ///
    /// # Errors
    /// The error of the exchange.
    pub async fn health(&self) -> Result<(), ClientError> {
        self.within_total(async {
            let mut retries = Retries::new(&self.inner.options.retry);
            loop {
                match self.reply(self.request(Method::GET, &["health"]), None).await {
                    Ok(_) => return Ok(()),
                    Err(error) => retries.pause(error, true).await?,
                }
            }
        })
        .await
    }

    async fn ask(&self, method: Method, id: &str) -> Result<Response, ClientError> {
        let mut retries = Retries::new(&self.inner.options.retry);
        loop {
            match self.accepted(self.context_request(method.clone(), id)?, None).await {
                Ok(response) => return Ok(response),
                Err(error) => retries.pause(error, true).await?,
            }
        }
    }

    fn context_request(&self, method: Method, id: &str) -> Result<Request, ClientError> {
        Ok(self.request(method, &Self::context_path(id)?))
    }

    /// The segments of a context's path.
    pub(super) fn context_path(id: &str) -> Result<[&str; 4], ClientError> {
        // These would change the path.
        if matches!(id, "" | "." | "..") {
            return Err(ClientError::Option { option: "a context id", expected: "a single path segment" });
        }
        Ok(["avp", "v2", "contexts", id])
    }
}

impl Fetch<'_> {
    /// Calls `progress` with the number of bytes received and the frame's length. The number never decreases.
    pub fn on_progress(self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { reporter: Reporter::new(Arc::new(progress)), ..self }
    }

    /// Fetches into memory.
    ///
    /// # Errors
    /// [`ClientError::Frame`] for an invalid, damaged or too large frame; [`ClientError::Memory`] where memory cannot be
    /// allocated; or the error of the exchange.
    pub async fn to_memory(self) -> Result<Fetched, ClientError> {
        let client = self.client;
        let (frame, head, etag) = client.within_total(self.run(MemorySink::default())).await?;
        Ok(Fetched { frame, head, etag })
    }

    /// Fetches into a file that only its owner can read. It replaces an existing file once it is complete, verified and
    /// synced; an error leaves nothing behind.
    ///
    /// # Errors
    /// [`ClientError::Frame`] for an invalid, damaged or too large frame; [`ClientError::Io`] where the file cannot be written;
    /// or the error of the exchange.
    pub async fn to_file(self, path: impl AsRef<Path>) -> Result<FetchedFile, ClientError> {
        let client = self.client;
        let path = path.as_ref();
        let fetch = async { self.run(FileSink::create(path).await?).await };
        let ((), head, etag) = client.within_total(fetch).await?;
        Ok(FetchedFile { head, etag })
    }

    async fn run<S: Sink>(self, mut sink: S) -> Result<(S::Output, OwnedHead, Option<String>), ClientError> {
        let options = &self.client.inner.options;
        let mut transfer = Transfer::new(options.limits);
        let mut retries = Retries::new(&options.retry);
        while let Err(error) = self.attempt(&mut transfer, &mut sink).await {
            retries.pause(error, true).await?;
        }
        let (head, etag) = transfer.finish()?;
        Ok((sink.finish(&head, options.limits.unpacked).await?, head, etag))
    }

    /// One attempt at receiving the rest of the frame.
    async fn attempt(&self, transfer: &mut Transfer, sink: &mut impl Sink) -> Result<(), ClientError> {
        let mut request = self.client.context_request(Method::GET, self.id)?;
        if let Some((range, etag)) = transfer.missing_range() {
            request.headers_mut().insert(RANGE, ascii(&range));
            request.headers_mut().insert(IF_RANGE, ascii(etag));
        }
        let asked_for_rest = request.headers().contains_key(RANGE);
        let mut response = self.client.send_request(request, None).await?;
        let etag = text(response.headers(), ETAG);
        let must_restart = match response.status() {
            StatusCode::PARTIAL_CONTENT if asked_for_rest => {
                let range = text(response.headers(), CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", transfer.received)) {
                    return Err(ClientError::Protocol { expected: "the range that was asked for" });
                }
                // The rest of another version does not continue this one.
                etag.is_some() && etag != transfer.etag
            }
            StatusCode::RANGE_NOT_SATISFIABLE if asked_for_rest => true,
            StatusCode::OK => {
                transfer.restart(etag);
                sink.clear().await?;
                false
            }
            _ => return Err(self.client.refused(response).await),
        };
        if must_restart {
            transfer.restart(None);
            sink.clear().await?;
            return Err(ClientError::Broken { reason: "the context has changed".to_owned() });
        }
        while let Some(bytes) = self.client.next_bytes(&mut response).await? {
            transfer.feed(&bytes)?;
            sink.write(bytes, transfer.frame_len()).await?;
            if let Some(frame_len) = transfer.frame_len() {
                self.reporter.report(transfer.received, frame_len);
            }
        }
        Ok(())
    }
}

/// The state of a fetch.
struct Transfer {
    limits: FrameLimits,
    received: u64,
    etag: Option<String>,
    state: TransferState,
}

enum TransferState {
    Head(HeadReader),
    Body(Box<(OwnedHead, BodyReader)>),
}

impl Transfer {
    fn new(limits: FrameLimits) -> Self {
        Self { limits, received: 0, etag: None, state: TransferState::Head(HeadReader::new(limits)) }
    }

    fn restart(&mut self, etag: Option<String>) {
        *self = Self { etag, ..Self::new(self.limits) };
    }

    /// The missing range and its validator; `None` where the whole frame must be requested.
    fn missing_range(&self) -> Option<(String, &str)> {
        // A weak tag does not promise the same bytes (RFC 9110, 13.1.5).
        let etag = self.etag.as_deref().filter(|etag| etag.starts_with('"'))?;
        (self.received > 0).then(|| (format!("bytes={}-", self.received), etag))
    }

    fn frame_len(&self) -> Option<u64> {
        match &self.state {
            TransferState::Head(_) => None,
            TransferState::Body(body) => Some(body.0.header().frame_len()),
        }
    }

    fn feed(&mut self, bytes: &Bytes) -> Result<(), DecodeError> {
        self.received += bytes.len() as u64;
        match &mut self.state {
            TransferState::Head(reader) => {
                if let Some((head, rest)) = reader.feed(bytes.clone())? {
                    let mut body = BodyReader::new(&head.head());
                    body.feed(&rest)?;
                    self.state = TransferState::Body(Box::new((head, body)));
                }
            }
            TransferState::Body(body) => body.1.feed(bytes)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<(OwnedHead, Option<String>), DecodeError> {
        match self.state {
            TransferState::Head(reader) => Err(reader.finish()),
            TransferState::Body(body) => {
                let (head, body) = *body;
                body.finish()?;
                Ok((head, self.etag))
            }
        }
    }
}

fn text(headers: &HeaderMap<HeaderValue>, name: http::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
