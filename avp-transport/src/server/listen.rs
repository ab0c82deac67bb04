//! From a listening socket to requests: TLS or not, HTTP/1.1 or HTTP/2, on one port.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Answer, Handler, Limits, Service, caller::Address, source::BoxError};
use crate::wire::{JSON, Reply};

/// How a TLS record of a handshake begins (RFC 8446, 5.1); no HTTP request does.
const TLS_HANDSHAKE: u8 = 0x16;

/// The window of one stream: a frame of 128 MiB is sent in a dozen of them, and not stopped between.
const STREAM_WINDOW: u32 = 8 << 20;

/// The window of a connection, and so what its streams may have sent that nobody has read.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The longest HTTP/2 frame that is taken. With the usual 16 KiB, more time goes into frames than into bytes.
const HTTP2_FRAME: u32 = 256 << 10;

/// How long the system is left alone when it has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How connections are taken.
#[derive(Clone, Default)]
pub struct ListenOptions {
    /// The certificates; `None` for no TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether HTTP without TLS is taken from other machines too. From this one it always is.
    pub plain_from_anywhere: bool,
}

impl std::fmt::Debug for ListenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenOptions")
            .field("tls", &self.tls.is_some())
            .field("plain_from_anywhere", &self.plain_from_anywhere)
            .finish()
    }
}

/// Answers what comes to `listener` until `stop` is over. Then no connection is taken any more, those that are open finish
/// the requests they are in, for at most `patience`, and it returns.
///
/// ```
/// # use avp_transport::{server::{ListenOptions, Service, ServerOptions, Stock, serve}, store::{Contexts, Keeping}};
/// # use std::time::Duration;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let service = Service::new(Stock::new("relay", Contexts::in_memory(Keeping::default())), ServerOptions::default());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let stop = async { /* until Ctrl-C, say */ };
/// serve(listener, service, ListenOptions::default(), stop, Duration::from_secs(30)).await;
/// # Ok(())
/// # }
/// ```
pub async fn serve<H: Handler>(
    listener: TcpListener,
    service: Service<H>,
    options: ListenOptions,
    stop: impl Future<Output = ()>,
    patience: Duration,
) {
    let limits = service.options().limits;
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let connections = Arc::new(Connections {
        http: http(&limits),
        tls: options.tls.map(TlsAcceptor::from),
        plain_from_anywhere: options.plain_from_anywhere,
        service,
    });
    let graceful = GracefulShutdown::new();
    let (stopping, running) = watch::channel(());
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            // A place first: whoever finds none waits in the system's queue and costs nothing here.
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut stop => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, address)) => {
                    let (connections, watcher) = (connections.clone(), graceful.watcher());
                    let mut running = running.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        let opened = tokio::select! {
                            // Who has not asked for anything yet is not waited for.
                            _ = running.changed() => return,
                            opened = connections.open(stream, address) => opened,
                        };
                        let ended = match opened {
                            Ok(Some(stream)) => connections.answer(stream, address, watcher).await,
                            Ok(None) => Ok(()),
                            Err(error) => Err(error),
                        };
                        if let Err(error) = ended {
                            tracing::debug!(%address, %error, "a connection ended early");
                        }
                    });
                }
                // One connection that went before it was taken, or no more sockets: the next may do better.
                Err(error) => {
                    tracing::warn!(%error, "no connection could be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop((listener, stopping));
    if timeout(patience, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the time to finish them was over");
    }
}

fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // It runs from the end of the last request, so it must not be shorter than a connection may rest. Before the first
    // request `Activity` has less patience.
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle_time.max(limits.head_time));
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(HTTP2_FRAME)
        .keep_alive_interval(Duration::from_secs(20));
    http
}

/// What every connection of a server has in common.
struct Connections<H> {
    http: auto::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    plain_from_anywhere: bool,
    service: Service<H>,
}

impl<H: Handler> Connections<H> {
    /// Finds out how the client speaks, and gives the stream to speak over; `None` where it has gone again.
    async fn open(&self, stream: TcpStream, address: SocketAddr) -> Result<Option<Stream>, BoxError> {
        let head_time = self.service.options().limits.head_time;
        stream.set_nodelay(true)?;
        let mut first = [0];
        if timeout(head_time, stream.peek(&mut first)).await?? == 0 {
            return Ok(None);
        }
        let is_tls = first[0] == TLS_HANDSHAKE;
        match &self.tls {
            Some(tls) if is_tls => {
                let stream = timeout(head_time, tls.accept(stream)).await??;
                Ok(Some(Box::new(stream)))
            }
            _ if is_tls => Err("the client speaks TLS, and there is no certificate to answer with".into()),
            _ if self.plain_from_anywhere || address.ip().to_canonical().is_loopback() => {
                Ok(Some(Box::new(stream)))
            }
            _ => {
                refuse_plain(&stream);
                Err("HTTP without TLS is taken from this machine only".into())
            }
        }
    }

    async fn answer(&self, stream: Stream, address: SocketAddr, watcher: Watcher) -> Result<(), BoxError> {
        let _counted = self.service.metrics().connection();
        let activity = Arc::new(Activity::new());
        let (service, watched) = (self.service.clone(), activity.clone());
        let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Address(address));
            let (service, busy, watched) = (service.clone(), watched.begin(), watched.clone());
            async move {
                let response = service.answer(request).await;
                drop(busy);
                Ok::<_, Infallible>(response.map(|body| Watched { body, activity: watched }))
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), answer).into_owned();
        let limits = &self.service.options().limits;
        tokio::select! {
            ended = watcher.watch(connection) => ended,
            () = activity.idle(limits.head_time, limits.idle_time) => Ok(()),
        }
    }
}

/// A connection, with TLS or without.
type Stream = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Says in words why the connection ends, where a browser or `curl` can show them.
fn refuse_plain(stream: &TcpStream) {
    // If the words do not leave, the connection ends without them.
    let _: io::Result<usize> = stream.try_write(tls_required().as_bytes());
}

/// The answer to a client that may not go on without TLS, written before there is anything that reads HTTP.
fn tls_required() -> String {
    let body = Reply::failure("tls_required", "other machines reach this port by TLS only").to_string();
    let len = body.len();
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: {JSON}\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}"
    )
}

/// What a connection is doing: whether a request is being answered, and when something moved last.
struct Activity(Mutex<State>);

struct State {
    /// Requests that a handler is at work on. How long that takes is the handler's affair.
    answering: usize,
    /// Whether there has been any request.
    used: bool,
    moved: Instant,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State { answering: 0, used: false, moved: Instant::now() }))
    }

    /// One more request is being answered, until the guard is dropped.
    fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.answering += 1;
        state.used = true;
        drop(state);
        Busy(self.clone())
    }

    fn moved(&self) {
        self.state().moved = Instant::now();
    }

    /// Waits until no request was at work and nothing moved for `idle_time`, or for `head_time` before the first request.
    async fn idle(&self, head_time: Duration, idle_time: Duration) {
        loop {
            let rest = {
                let state = self.state();
                let patience = if state.used { idle_time } else { head_time };
                match state.answering {
                    0 => patience.saturating_sub(state.moved.elapsed()),
                    _ => patience,
                }
            };
            if rest.is_zero() {
                return;
            }
            sleep(rest).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.moved = Instant::now();
    }
}

/// An answer whose every piece is a sign of life: it is asked for when the client has taken those before.
struct Watched {
    body: Answer,
    activity: Arc<Activity>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, io::Error>>> {
        self.activity.moved();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_go_on_without_tls_gets_a_whole_answer() {
        let answer = tls_required();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert_eq!(len, body.len().to_string());
        assert_eq!(Reply::parse(body.as_bytes()).unwrap().text("code"), Some("tls_required"));
    }
}
