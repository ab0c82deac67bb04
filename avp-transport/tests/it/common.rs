//! A server on a port of its own, and a client that says exactly what a test wants said.

use std::{net::SocketAddr, path::Path, time::Duration};

use avp_core::{FrameEncoder, Metadata};
use avp_transport::{
    server::{ContextHandler, Handler, ListenOptions, ServerOptions, Service, serve},
    store::{ContextStore, StoreOptions},
    wire,
};
use http::header;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// A server until it is dropped or stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start<H: Handler>(service: Service<H>, listen: ListenOptions) -> Self {
        Self::start_on("127.0.0.1:0", service, listen).await
    }

    pub(crate) async fn start_on<H: Handler>(
        place: &str,
        service: Service<H>,
        listen: ListenOptions,
    ) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let served = tokio::spawn(serve(listener, service, listen, stopped, Duration::from_secs(20)));
        // Fails where another test has done so already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { address, http: client(), stop: Some(stop), served }
    }

    /// A stock server over memory.
    pub(crate) async fn stock(options: ServerOptions) -> Self {
        Self::start(Service::new(stock(), options), ListenOptions::default()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.served.await.unwrap();
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let content_type = if path == wire::TRANSMIT { wire::FRAME } else { wire::JSON };
        let request = self.http.post(self.url(path)).header(header::CONTENT_TYPE, content_type);
        answer(request.body(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    /// The ids and bytes of what the server keeps, as its metrics say.
    pub(crate) async fn stored_bytes(&self) -> u64 {
        let text = self.get(wire::METRICS).await.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("avp_stored_bytes ")).unwrap();
        line.parse().unwrap()
    }
}

/// A client whose requests carry frames, unless they say something else.
pub(crate) fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    let frames = [(header::CONTENT_TYPE, header::HeaderValue::from_static(wire::FRAME))];
    reqwest::Client::builder().default_headers(frames.into_iter().collect())
}

/// Status and JSON of the answer.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

pub(crate) fn stock() -> ContextHandler {
    ContextHandler::new("server", ContextStore::in_memory(StoreOptions::default()))
}

/// What stands in a page of `docs/` between lines of three backticks, the first of them with this language.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    let opening = format!("\n```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The names of the files in a folder of contexts, in order, but for the lock, the key of the links and the records, each of which has its context.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| ![".avp-link-key", ".avp-lock"].contains(&&**name)).collect();
    names.sort();
    let (records, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.ends_with(".json"));
    for record in records {
        let context = record.replace(".json", ".avp");
        assert!(others.contains(&context), "{record} is nobody's");
    }
    others
}

/// A frame with a body of `len` bytes.
pub(crate) fn frame(len: usize) -> Vec<u8> {
    frame_of(&body(len), "")
}

pub(crate) fn frame_of(body: &[u8], session_id: &str) -> Vec<u8> {
    FrameEncoder::new(Metadata { session_id, model_id: "m", ..Default::default() }).encode(body).unwrap()
}

/// Bytes that are not all alike.
pub(crate) fn body(len: usize) -> Vec<u8> {
    (0..len).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Waits until `holds`, but not for ever: a test that waits for what never comes says where.
#[track_caller]
pub(crate) fn until(holds: impl Fn() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let waiting = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(waited.is_ok(), "nothing has come of waiting at {place}");
    }
}
