//! A small server that does what a test says.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use avp_core::{FrameEncoder, Metadata, OwnedModelIdentity};
use avp_transport::{
    client::{Client, ClientOptions, RetryPolicy, Token},
    wire::Reply,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::TcpListener,
    time::{Sleep, sleep},
};
use tokio_rustls::TlsAcceptor;

/// An answer, or `Err` to close the connection without one.
pub(super) type Answer = Result<Response<BoxBody<Bytes, io::Error>>, io::Error>;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// What was read of it.
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request that is being answered.
pub(super) struct Call {
    /// How many came before it.
    pub(super) number: usize,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Incoming,
    log: Log,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Reads the whole body.
    pub(super) async fn read(self) -> Result<Bytes, io::Error> {
        let body = self.body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.log.lock().unwrap()[self.number].body = body.clone();
        Ok(body)
    }

    /// Reads the whole body and answers.
    pub(super) async fn reply(self, status: u16, reply: Reply) -> Answer {
        self.read().await?;
        Ok(answer(status, &[], reply.to_string()))
    }

    /// Reads the beginning of the body, and closes the connection.
    pub(super) async fn cut(mut self) -> Answer {
        self.body.frame().await;
        Err(io::Error::other("cut"))
    }
}

type Log = Arc<Mutex<Vec<Seen>>>;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    log: Log,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(super) async fn start<F>(handler: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::start_with(None, handler).await
    }

    pub(super) async fn start_with<F>(
        tls: Option<rustls::ServerConfig>,
        handler: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, connections) = (Log::default(), Arc::<AtomicUsize>::default());
        let server = Self { address, log: log.clone(), connections: connections.clone() };
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let handler = Arc::new(handler);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, handler, log) = (acceptor.clone(), handler.clone(), log.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| note(request, &log, &*handler));
                    let http = auto::Builder::new(TokioExecutor::new());
                    // A connection that breaks is what many tests are about.
                    match acceptor {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.url(), options()).unwrap()
    }
}

fn note<F>(request: http::Request<Incoming>, log: &Log, handler: &impl Fn(Call) -> F) -> F {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let seen = Seen {
        method: parts.method,
        path: path.clone(),
        version: parts.version,
        headers: parts.headers.clone(),
        body: Bytes::new(),
    };
    let mut requests = log.lock().unwrap();
    requests.push(seen);
    let number = requests.len() - 1;
    drop(requests);
    handler(Call { number, path, headers: parts.headers, body, log: log.clone() })
}

/// Answers a handshake as a server that takes no frame twice.
pub(super) async fn hello_with_keys(call: Call) -> Answer {
    let capabilities = serde_json::json!({ "idempotency_keys": true });
    let reply = Reply::new().with("session_id", "s").with("capabilities", capabilities);
    call.reply(200, reply).await
}

/// Options of a client that is known by a token, and does not wait long between tries.
pub(super) fn options() -> ClientOptions {
    ClientOptions {
        agent_id: "a".to_owned(),
        identity: Some(identity("aa")),
        token: Some(Token::new("s3cret").unwrap()),
        retry: RetryPolicy { base: Duration::from_millis(1), ..Default::default() },
        ..Default::default()
    }
}

pub(super) fn identity(hash: &str) -> OwnedModelIdentity {
    OwnedModelIdentity { model_hash: hash.into(), model_family: "qwen2".into(), ..Default::default() }
}

/// A frame in a session, with this body.
pub(super) fn frame_in(session_id: &str, body: &[u8]) -> Bytes {
    let fields = Metadata { session_id, ..Default::default() };
    FrameEncoder::new(fields).encode(body).unwrap().into()
}

pub(super) fn frame(body: &[u8]) -> Bytes {
    frame_in("", body)
}

/// Bytes that differ from place to place.
pub(super) fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub(super) fn answer(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<BoxBody<Bytes, io::Error>> {
    let builder = headers
        .iter()
        .fold(Response::builder().status(status), |builder, (name, value)| builder.header(*name, *value));
    builder.body(Full::new(body.into()).map_err(|never| match never {}).boxed()).unwrap()
}

/// An answer whose connection ends after `sent`, though `len` bytes are announced.
pub(super) fn cut_answer(
    status: u16,
    headers: &[(&str, &str)],
    len: usize,
    sent: Bytes,
) -> Response<BoxBody<Bytes, io::Error>> {
    let mut answer = answer(status, headers, Bytes::new());
    answer.headers_mut().insert("content-length", len.into());
    *answer.body_mut() = Cut { sent: Some(sent), pause: Box::pin(sleep(Duration::from_millis(20))) }.boxed();
    answer
}

/// Gives some bytes, and a moment later an error: at once, and the bytes would not go out at all.
struct Cut {
    sent: Option<Bytes>,
    pause: Pin<Box<Sleep>>,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(sent) = self.sent.take() {
            return Poll::Ready(Some(Ok(Frame::data(sent))));
        }
        ready!(self.pause.as_mut().poll(context));
        Poll::Ready(Some(Err(io::Error::other("cut"))))
    }
}
