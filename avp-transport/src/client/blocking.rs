//! The blocking client.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use avp_core::messages::JsonMessage;
use tokio::runtime::{Builder, Runtime};

use super::{
    ClientError, ClientOptions, ContextInfo, Fetched, FetchedFile, FrameBody, Linked, Receipt, Sent, Session,
};

/// A [`Client`](super::Client) with blocking methods. Its runtime runs on the calling thread.
///
/// ```
/// use avp_transport::client::{ClientError, ClientOptions, FrameBody, Receipt, blocking::Client};
///
/// fn send(frame: &[u8]) -> Result<Receipt, ClientError> {
///     let client = Client::new("http://127.0.0.1:8790", ClientOptions::default())?;
///     client.transmit(FrameBody::slice(frame))
/// }
/// ```
///
/// # Panics
/// Methods that send requests panic within an asynchronous runtime, which they would block: use
/// [`Client`](super::Client) there.
#[derive(Clone)]
pub struct Client {
    client: super::Client,
    runtime: Arc<OwnRuntime>,
}

/// A runtime that can be dropped within another one.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// As [`super::Client::new`].
    ///
    /// # Errors
    /// As [`super::Client::new`], and [`ClientError::Io`] where the runtime cannot be started.
    pub fn new(base_url: &str, options: ClientOptions) -> Result<Self, ClientError> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(ClientError::io("start a runtime"))?;
        let client = super::Client::new(base_url, options)?;
        Ok(Self { client, runtime: Arc::new(OwnRuntime(Some(runtime))) })
    }

    /// As [`super::Client::handshake`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn handshake(&self) -> Result<Arc<Session>, ClientError> {
        self.wait(self.client.handshake())
    }

    /// As [`super::Client::session`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn session(&self) -> Result<Arc<Session>, ClientError> {
        self.wait(self.client.session())
    }

    /// As [`super::Client::cached_session`].
    #[must_use]
    pub fn cached_session(&self) -> Option<Arc<Session>> {
        self.client.cached_session()
    }

    /// As [`super::Client::transmit`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn transmit(&self, body: FrameBody<'_>) -> Result<Receipt, ClientError> {
        self.wait(self.client.transmit(body))
    }

    /// As [`super::Client::send_text`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn send_text(&self, message: &JsonMessage) -> Result<Receipt, ClientError> {
        self.wait(self.client.send_text(message))
    }

    /// As [`super::Client::send`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn send(
        &self,
        body: FrameBody<'_>,
        text: impl Fn(&Session) -> JsonMessage,
    ) -> Result<Sent, ClientError> {
        self.wait(self.client.send(body, text))
    }

    /// As [`super::Client::fetch_context`].
    pub fn fetch_context<'a>(&'a self, id: &'a str) -> Fetch<'a> {
        Fetch { client: self, inner: self.client.fetch_context(id) }
    }

    /// As [`super::Client::context_info`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn context_info(&self, id: &str) -> Result<ContextInfo, ClientError> {
        self.wait(self.client.context_info(id))
    }

    /// As [`super::Client::link_context`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn link_context(&self, id: &str, valid_for: Option<Duration>) -> Result<Linked, ClientError> {
        self.wait(self.client.link_context(id, valid_for))
    }

    /// As [`super::Client::delete_context`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn delete_context(&self, id: &str) -> Result<Receipt, ClientError> {
        self.wait(self.client.delete_context(id))
    }

    /// As [`super::Client::health`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn health(&self) -> Result<(), ClientError> {
        self.wait(self.client.health())
    }

    fn wait<T>(&self, operation: impl Future<Output = T>) -> T {
        let runtime =
            self.runtime.0.as_ref().expect("the runtime is taken only when the last clone is dropped");
        runtime.block_on(operation)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}

/// A fetch that is configured before it starts: see [`Client::fetch_context`].
#[must_use = "nothing is fetched before `to_memory` or `to_file`"]
#[derive(Debug)]
pub struct Fetch<'a> {
    client: &'a Client,
    inner: super::Fetch<'a>,
}

impl Fetch<'_> {
    /// As [`super::Fetch::on_progress`].
    pub fn on_progress(self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { inner: self.inner.on_progress(progress), ..self }
    }

    /// As [`super::Fetch::to_memory`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn to_memory(self) -> Result<Fetched, ClientError> {
        self.client.wait(self.inner.to_memory())
    }

    /// As [`super::Fetch::to_file`].
    ///
    /// # Errors
    /// Those of the asynchronous method.
    pub fn to_file(self, path: impl AsRef<Path>) -> Result<FetchedFile, ClientError> {
        self.client.wait(self.inner.to_file(path))
    }
}
