//! From a listening socket to requests: TLS or not, HTTP/1.1 or HTTP/2, on one port.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

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
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, error::Elapsed, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Handler, Limits, ServerTls, Service,
    activity::{Activity, Watched},
    caller::Address,
    source::BoxError,
};
use crate::wire::{JSON, Reply};

/// How a TLS record of a handshake begins (RFC 8446, 5.1); no HTTP request does.
const TLS_HANDSHAKE: u8 = 0x16;

/// The window of one stream: a frame of 128 MiB is sent in a dozen of them, and not stopped between.
const STREAM_WINDOW: u32 = 8 << 20;

/// The window of a connection, and so what its streams may have sent that nobody has read.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The longest HTTP/2 frame that is taken. With the usual 16 KiB, more time goes into frames than into bytes.
const HTTP2_FRAME: u32 = 256 << 10;

/// The name of the refusal of HTTP without TLS.
const TLS_REQUIRED: &str = "tls_required";

/// How long, and how much of, a request is read that is refused so.
const PLAIN_LINGER: Duration = Duration::from_secs(2);
const PLAIN_LINGER_BYTES: u64 = 1 << 20;

/// How long the system is left alone when it has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// No clock ticks with nothing in between.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// How connections are taken.
#[derive(Debug, Clone, Default)]
pub struct ListenOptions {
    /// The certificates; `None` for no TLS.
    pub tls: Option<ServerTls>,
    /// Whether HTTP without TLS is taken from other machines too. From this one it is, unless clients must show
    /// certificates: then it is taken from nowhere, whatever this says.
    pub plain_from_anywhere: bool,
}

impl ListenOptions {
    /// Whether a client at this address may speak without TLS.
    fn may_be_plain(&self, address: IpAddr) -> bool {
        match &self.tls {
            Some(tls) if tls.asks_clients() => false,
            _ => self.plain_from_anywhere || address.to_canonical().is_loopback(),
        }
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
        tls: options.tls.as_ref().map(|tls| TlsAcceptor::from(tls.config().clone())),
        options,
        service,
    });
    let graceful = GracefulShutdown::new();
    let (stopping, running) = watch::channel(());
    let mut stop = std::pin::pin!(stop);
    let mut tidying = interval(limits.tidy_every.max(LEAST_PAUSE));
    tidying.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tidied: Option<JoinHandle<()>> = None;
    loop {
        let accepted = async {
            // A place first: whoever finds none waits in the system's queue and costs nothing here.
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut stop => break,
            _ = tidying.tick() => {
                // One after the other: a slow one takes no threads from what waits for a disk.
                if tidied.as_ref().is_none_or(JoinHandle::is_finished) {
                    let connections = connections.clone();
                    // One that panics has tidied for this time.
                    tidied = Some(tokio::task::spawn_blocking(move || connections.service.handler().tidy()));
                }
            }
            (accepted, place) = accepted => match accepted {
                Ok((stream, address)) => {
                    let (connections, watcher) = (connections.clone(), graceful.watcher());
                    let mut running = running.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        let accepted = Instant::now();
                        let opened = tokio::select! {
                            // Who has not asked for anything yet is not waited for.
                            _ = running.changed() => return,
                            opened = connections.open(stream, address, accepted) => opened,
                        };
                        let ended = match opened {
                            Ok(Some(stream)) => connections.answer(stream, address, accepted, watcher).await,
                            Ok(None) => Ok(()),
                            Err(error) => {
                                connections.service.metrics().refused(error.reason());
                                Err(error.into())
                            }
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
    options: ListenOptions,
    service: Service<H>,
}

impl<H: Handler> Connections<H> {
    /// Finds out how the client speaks, and gives the stream to speak over; `None` where it has gone again. It has one time
    /// for all that comes before its first request.
    async fn open(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        accepted: Instant,
    ) -> Result<Option<Stream>, Unopened> {
        stream.set_nodelay(true)?;
        let head_time = self.service.options().limits.head_time;
        let rest = || head_time.saturating_sub(accepted.elapsed());
        let mut first = [0];
        if timeout(rest(), stream.peek(&mut first)).await?? == 0 {
            return Ok(None);
        }
        let is_tls = first[0] == TLS_HANDSHAKE;
        match &self.tls {
            Some(tls) if is_tls => {
                let stream = timeout(rest(), tls.accept(stream)).await?;
                Ok(Some(Box::new(stream.map_err(Unopened::Handshake)?)))
            }
            _ if is_tls => Err(Unopened::NoTls),
            _ if self.options.may_be_plain(address.ip()) => Ok(Some(Box::new(stream))),
            _ => {
                self.service.metrics().refused(TLS_REQUIRED);
                refuse_plain(stream, rest().min(PLAIN_LINGER)).await;
                Ok(None)
            }
        }
    }

    async fn answer(
        &self,
        stream: Stream,
        address: SocketAddr,
        accepted: Instant,
        watcher: Watcher,
    ) -> Result<(), BoxError> {
        let _counted = self.service.metrics().connection();
        let activity = Arc::new(Activity::new(accepted));
        let (service, watched) = (self.service.clone(), activity.clone());
        let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Address(address));
            let (service, busy, watched) = (service.clone(), watched.begin(), watched.clone());
            async move {
                let response = service.answer(request).await;
                drop(busy);
                Ok::<_, Infallible>(response.map(|body| Watched::new(body, watched)))
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), answer).into_owned();
        let limits = &self.service.options().limits;
        tokio::select! {
            ended = watcher.watch(connection) => ended.inspect_err(|error| self.count_unread(&**error)),
            () = activity.idle(limits.head_time, limits.idle_time) => {
                if !activity.was_used() {
                    self.service.metrics().refused(Unopened::Late.reason());
                }
                Ok(())
            }
        }
    }

    /// Counts a request that no service saw, because it could not be read as HTTP.
    fn count_unread(&self, error: &(dyn std::error::Error + 'static)) {
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse_too_large() => self.service.metrics().refused("headers_too_large"),
            Some(error) if error.is_parse() => self.service.metrics().refused("bad_http"),
            _ => {}
        }
    }
}

/// Why a connection carries no requests.
#[derive(Debug, thiserror::Error)]
enum Unopened {
    #[error("the client speaks TLS, and there is no certificate to answer with")]
    NoTls,
    #[error("no TLS was agreed on: {0}")]
    Handshake(io::Error),
    #[error("the client took too long to begin")]
    Late,
    #[error(transparent)]
    Broken(#[from] io::Error),
}

impl Unopened {
    /// The name under which it is counted.
    const fn reason(&self) -> &'static str {
        match self {
            Self::NoTls => "no_tls",
            Self::Handshake(_) => "tls_handshake",
            Self::Late => "head_too_slow",
            Self::Broken(_) => "broken",
        }
    }
}

impl From<Elapsed> for Unopened {
    fn from(_: Elapsed) -> Self {
        Self::Late
    }
}

/// A connection, with TLS or without.
type Stream = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Says in words why the connection ends, where a browser or `curl` can show them.
async fn refuse_plain(mut stream: TcpStream, patience: Duration) {
    let told = async {
        stream.write_all(tls_required().as_bytes()).await?;
        stream.shutdown().await?;
        // A connection that is closed over unread bytes is reset, and the words could be lost.
        tokio::io::copy(&mut stream.take(PLAIN_LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // If the words do not leave, the connection ends without them.
    drop(timeout(patience, told).await);
}

/// The answer to a client that may not go on without TLS, written before there is anything that reads HTTP.
fn tls_required() -> String {
    let body = Reply::failure(TLS_REQUIRED, "this port is reached from there by TLS only").to_string();
    let len = body.len();
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: {JSON}\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_speaks_without_tls_unless_an_option_says_so() {
        let (here, there) =
            (["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"], ["192.0.2.1", "::", "2001:db8::1"]);
        for anywhere in [false, true] {
            let options = ListenOptions { plain_from_anywhere: anywhere, ..Default::default() };
            assert!(here.iter().all(|address| options.may_be_plain(address.parse().unwrap())));
            assert!(there.iter().all(|address| options.may_be_plain(address.parse().unwrap()) == anywhere));
        }
    }

    #[test]
    fn who_may_not_go_on_without_tls_gets_a_whole_answer() {
        let answer = tls_required();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert_eq!(len, body.len().to_string());
        assert_eq!(Reply::parse(body.as_bytes()).unwrap().text("code"), Some("tls_required"));
    }
}
