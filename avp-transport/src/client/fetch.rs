//! Contexts that a server keeps: fetched, looked at, removed.

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

/// A fetch that can be told more before it begins: see [`Client::fetch_context`].
#[must_use = "nothing is fetched before `to_memory` or `to_file`"]
#[derive(Debug)]
pub struct Fetch<'a> {
    client: &'a Client,
    id: &'a str,
    reporter: Reporter,
}

/// A frame fetched into memory, whole and verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The frame.
    pub frame: Bytes,
    /// Its head.
    pub head: OwnedHead,
    /// The server's `ETag` for it.
    pub etag: Option<String>,
}

/// A frame fetched into a file, whole and verified.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedFile {
    /// The frame's head.
    pub head: OwnedHead,
    /// The server's `ETag` for it.
    pub etag: Option<String>,
}

/// What a server tells of a context without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextInfo {
    /// Length of the frame, in bytes, where the server says.
    pub len: Option<u64>,
    /// The `ETag`.
    pub etag: Option<String>,
}

impl Client {
    /// Fetches a context that the server keeps. A transfer that breaks is taken up where it broke, if the context is
    /// still the same; length and checksum are verified.
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

    /// Asks for a context's length and `ETag`.
    ///
    /// # Errors
    /// As the exchange fails; a context that is not there is [`ClientError::Refused`] with status 404.
    pub async fn context_info(&self, id: &str) -> Result<ContextInfo, ClientError> {
        let response = self.within_total(self.ask(Method::HEAD, id)).await?;
        let len = text(response.headers(), CONTENT_LENGTH).and_then(|len| len.parse().ok());
        Ok(ContextInfo { len, etag: text(response.headers(), ETAG) })
    }

    /// Has the server forget a context. Of a retry whose first try did succeed, the server may say that there is none.
    ///
    /// # Errors
    /// As the exchange fails; a context that is not there is [`ClientError::Refused`] with status 404.
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

    /// Asks whether the server is there.
    ///
    /// # Errors
    /// As the exchange fails.
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
        // These would be steps in the path, not names.
        if matches!(id, "" | "." | "..") {
            return Err(ClientError::Option { option: "a context's id", expected: "a name" });
        }
        Ok(self.request(method, &["avp", "v2", "contexts", id]))
    }
}

impl Fetch<'_> {
    /// Calls `progress` with the bytes that have arrived and the frame's length. What arrives again is not told again, so
    /// the number only grows.
    pub fn on_progress(self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { reporter: Reporter::new(Arc::new(progress)), ..self }
    }

    /// Fetches into memory.
    ///
    /// # Errors
    /// [`ClientError::Frame`] where what arrives is no frame, too large or damaged; [`ClientError::Memory`] where there is not
    /// enough; else as the exchange fails.
    pub async fn to_memory(self) -> Result<Fetched, ClientError> {
        let client = self.client;
        let (frame, head, etag) = client.within_total(self.run(MemorySink::default())).await?;
        Ok(Fetched { frame, head, etag })
    }

    /// Fetches into a file, readable for its owner alone, which appears under its name, in place of one that was there, only
    /// when all of it has arrived, is verified and on the disk. Whatever goes wrong before leaves nothing behind.
    ///
    /// # Errors
    /// [`ClientError::Frame`] where what arrives is no frame, too large or damaged; [`ClientError::Io`] where the file cannot be
    /// written, as on a full disk; else as the exchange fails.
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

    /// Receives what is missing, or as much of it as comes.
    async fn attempt(&self, transfer: &mut Transfer, sink: &mut impl Sink) -> Result<(), ClientError> {
        let mut request = self.client.context_request(Method::GET, self.id)?;
        if let Some((range, etag)) = transfer.missing_range() {
            request.headers_mut().insert(RANGE, ascii(&range));
            request.headers_mut().insert(IF_RANGE, ascii(etag));
        }
        let asked_for_rest = request.headers().contains_key(RANGE);
        let mut response = self.client.answer(request, None).await?;
        let etag = text(response.headers(), ETAG);
        let begins_anew = match response.status() {
            StatusCode::PARTIAL_CONTENT if asked_for_rest => {
                let range = text(response.headers(), CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", transfer.received)) {
                    return Err(ClientError::Protocol { expected: "the range that was asked for" });
                }
                // Another one's rest does not continue this beginning, whatever the server thinks.
                etag.is_some() && etag != transfer.etag
            }
            StatusCode::RANGE_NOT_SATISFIABLE if asked_for_rest => true,
            StatusCode::OK => {
                transfer.begin_anew(etag);
                sink.clear().await?;
                false
            }
            _ => return Err(self.client.refused(response).await),
        };
        if begins_anew {
            transfer.begin_anew(None);
            sink.clear().await?;
            return Err(ClientError::Broken { reason: "the context has changed meanwhile".to_owned() });
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

/// How far a fetch has come.
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

    fn begin_anew(&mut self, etag: Option<String>) {
        *self = Self { etag, ..Self::new(self.limits) };
    }

    /// What is missing as a range, and the validator without which a range would be a guess; `None` where all must be asked for.
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
