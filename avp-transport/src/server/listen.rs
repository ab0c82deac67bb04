//! Accepts connections: with or without TLS, HTTP/1.1 or HTTP/2, on one port.

use std::{
    convert::Infallible,
    future::pending,
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
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Caller, Handler, Limits, ServerOptions, ServerTls, Service,
    activity::{Activity, Ending, Timeouts},
    connections::Connections,
    request_info::Address,
    sending::TrackedBody,
    service::BoxError,
};
use crate::wire::{JSON, Reply};

/// The first byte of a TLS handshake record (RFC 8446, 5.1). No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// The HTTP/2 window of a stream, in bytes: large, so that a frame of 128 MiB does not wait for window updates.
pub(super) const STREAM_WINDOW: u32 = 8 << 20;

/// The HTTP/2 window of a connection, in bytes: the maximum that its streams have sent and the server has not read.
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;

/// The requests of an HTTP/2 connection at a time: each occupies memory until the client has read its response.
pub(super) const MAX_STREAMS: u32 = 16;

/// The maximum length of an HTTP/2 frame, in bytes. The default of 16 KiB costs more time for frames than for bytes.
const HTTP2_FRAME: u32 = 256 << 10;

/// The code of the error response to plain HTTP.
const TLS_REQUIRED: &str = "tls_required";

/// Why a connection was closed at once.
const TOO_MANY_CONNECTIONS: &str = "too_many_connections";

/// The largest buffer for reading a connection of HTTP/1.1, in bytes: it holds a request's head until it has been parsed, and pieces of
/// bodies.
const READ_BUFFER: usize = 64 << 10;

/// How long, and how many bytes of, a plain HTTP request is read after it was refused.
const PLAIN_LINGER: Duration = Duration::from_secs(2);
const PLAIN_LINGER_BYTES: u64 = 1 << 20;

/// The pause after the system could not accept a connection, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The minimum interval of the cleanup.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// How to accept connections.
#[derive(Debug, Clone, Default)]
pub struct ListenOptions {
    /// The TLS configuration; `None` for no TLS.
    pub tls: Option<ServerTls>,
    /// Whether to accept plain HTTP from other machines. From this machine it is accepted, unless clients must present
    /// certificates: then it is always refused.
    pub plain_from_anywhere: bool,
}

impl ListenOptions {
    /// Whether to accept plain HTTP from this address.
    fn may_be_plain(&self, address: IpAddr) -> bool {
        match &self.tls {
            Some(tls) if tls.requires_client_cert() => false,
            _ => self.plain_from_anywhere || address.to_canonical().is_loopback(),
        }
    }
}

/// Serves connections of `listener` until `shutdown` completes. Then it accepts no more connections, waits at most
/// `shutdown_timeout` for requests in progress, and returns.
///
/// ```
/// use std::time::Duration;
/// use avp_transport::server::{Handler, ListenOptions, Service, serve};
///
/// async fn run<H: Handler>(service: Service<H>) -> std::io::Result<()> {
///     let listener = tokio::net::TcpListener::bind("127.0.0.1:8790").await?;
///     let shutdown = std::future::pending(); // such as `tokio::signal::ctrl_c`
///     serve(listener, service, ListenOptions::default(), shutdown, Duration::from_secs(30)).await;
///     Ok(())
/// }
/// ```
pub async fn serve<H: Handler>(
    listener: TcpListener,
    service: Service<H>,
    options: ListenOptions,
    shutdown: impl Future<Output = ()>,
    shutdown_timeout: Duration,
) {
    let limits = service.options().limits;
    let listening = Arc::new(Listening {
        connections: Connections::new(limits.connections),
        http: http(&limits),
        options,
        service,
    });
    let graceful = GracefulShutdown::new();
    let (stopping, running) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    let mut cleanup_interval = interval(limits.cleanup_interval.max(MIN_INTERVAL));
    cleanup_interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cleanup: Option<JoinHandle<()>> = None;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = cleanup_interval.tick() => {
                // One at a time, so that slow ones do not use up the blocking threads.
                if cleanup.as_ref().is_none_or(JoinHandle::is_finished) {
                    let listening = listening.clone();
                    // A panic ends this cleanup only.
                    cleanup = Some(tokio::task::spawn_blocking(move || {
                        listening.service.handler().remove_expired();
                    }));
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let activity = Arc::new(Activity::new(Instant::now()));
                    let caller = Caller::at(Some(address.ip()));
                    let Some(counted) = listening.connections.count(&caller, &activity) else {
                        listening.service.metrics().refused(TOO_MANY_CONNECTIONS);
                        continue;
                    };
                    let (listening, watcher) = (listening.clone(), graceful.watcher());
                    let mut running = running.clone();
                    tokio::spawn(async move {
                        let _counted = counted;
                        let opened = tokio::select! {
                            // A connection without a request does not delay the shutdown.
                            _ = running.changed() => return,
                            opened = listening.open(stream, address, &activity) => opened,
                        };
                        let ended = match opened {
                            Ok(Some(stream)) => listening.answer(stream, address, &activity, watcher).await,
                            Ok(None) => Ok(()),
                            Err(error) => {
                                listening.service.metrics().refused(error.reason());
                                Err(error.into())
                            }
                        };
                        if let Err(error) = ended {
                            tracing::debug!(%address, %error, "a connection failed");
                        }
                    });
                }
                // The client has already gone, or the system is out of sockets; a later accept may succeed.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop((listener, stopping));
    if timeout(shutdown_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!("shutdown timeout: some requests were still in progress");
    }
}

fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // This timer runs from the end of the previous request, so it must not be shorter than the idle timeout. `Activity`
    // limits the time before the first request.
    http.http1().max_buf_size(READ_BUFFER);
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle_timeout.max(limits.head_timeout));
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(HTTP2_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(20));
    http
}

/// What all connections share.
struct Listening<H> {
    connections: Arc<Connections>,
    http: auto::Builder<TokioExecutor>,
    options: ListenOptions,
    service: Service<H>,
}

impl<H: Handler> Listening<H> {
    /// Tells TLS from plain HTTP by the first byte and accepts TLS; `None` where the connection was closed or refused. One
    /// timeout covers everything before the first request.
    async fn open(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        activity: &Activity,
    ) -> Result<Option<Stream>, OpenError> {
        let timeouts = self.timeouts();
        tokio::select! {
            opened = self.accept(stream, address) => opened,
            ending = activity.ended(&timeouts) => Err(ending.into()),
        }
    }

    async fn accept(&self, stream: TcpStream, address: SocketAddr) -> Result<Option<Stream>, OpenError> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        let is_tls = first[0] == TLS_HANDSHAKE;
        match &self.options.tls {
            Some(tls) if is_tls => {
                let tls = TlsAcceptor::from(tls.config());
                Ok(Some(Box::new(tls.accept(stream).await.map_err(OpenError::Handshake)?)))
            }
            _ if is_tls => Err(OpenError::NoTls),
            _ if self.options.may_be_plain(address.ip()) => Ok(Some(Box::new(stream))),
            _ => {
                self.service.metrics().refused(TLS_REQUIRED);
                refuse_plain(stream, PLAIN_LINGER).await;
                Ok(None)
            }
        }
    }

    async fn answer(
        &self,
        stream: Stream,
        address: SocketAddr,
        activity: &Arc<Activity>,
        watcher: Watcher,
    ) -> Result<(), BoxError> {
        let _counted = self.service.metrics().connection();
        let timeouts = self.timeouts();
        let (service, tracked) = (self.service.clone(), activity.clone());
        let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Address(address));
            request.extensions_mut().insert(tracked.clone());
            let (service, in_progress, activity) = (service.clone(), tracked.begin(), tracked.clone());
            async move {
                // A displaced connection ends; no request begins on it.
                let Some(in_progress) = in_progress else { return pending().await };
                let response = service.answer(request).await;
                let response = response.map(|body| TrackedBody::new(body, activity, timeouts.body));
                drop(in_progress);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), answer).into_owned();
        tokio::select! {
            ended = watcher.watch(connection) => ended.inspect_err(|error| self.count_unparsed(&**error)),
            ending = activity.ended(&timeouts) => {
                if !activity.was_used() {
                    self.service.metrics().refused(OpenError::from(ending).reason());
                }
                Ok(())
            }
        }
    }

    fn timeouts(&self) -> Timeouts {
        let ServerOptions { limits, body_timeouts, .. } = self.service.options();
        Timeouts { head: limits.head_timeout, idle: limits.idle_timeout, body: *body_timeouts }
    }

    /// Counts a request that could not be parsed as HTTP and so never reached the service.
    fn count_unparsed(&self, error: &(dyn std::error::Error + 'static)) {
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_parse_too_large() => self.service.metrics().refused("headers_too_large"),
            Some(error) if error.is_parse() => self.service.metrics().refused("bad_http"),
            _ => {}
        }
    }
}

/// Why a connection failed before its first request.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("the client uses TLS, but the server has no certificate")]
    NoTls,
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("timeout before the first request")]
    Late,
    #[error("another connection needed its place before the first request")]
    Displaced,
    #[error(transparent)]
    Broken(#[from] io::Error),
}

impl OpenError {
    /// The label in the metrics.
    const fn reason(&self) -> &'static str {
        match self {
            Self::NoTls => "no_tls",
            Self::Handshake(_) => "tls_handshake",
            Self::Late => "head_too_slow",
            Self::Displaced => "displaced",
            Self::Broken(_) => "broken",
        }
    }
}

impl From<Ending> for OpenError {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Late => Self::Late,
            Ending::Displaced => Self::Displaced,
        }
    }
}

/// A connection with or without TLS.
type Stream = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Refuses plain HTTP with a response that a browser or `curl` can show, and closes the connection.
async fn refuse_plain(mut stream: TcpStream, limit: Duration) {
    let response = async {
        stream.write_all(tls_required().as_bytes()).await?;
        stream.shutdown().await?;
        // Closing a connection with unread bytes resets it, and the response could be lost.
        tokio::io::copy(&mut stream.take(PLAIN_LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The connection is closed whether or not the response was sent.
    drop(timeout(limit, response).await);
}

/// The response to refused plain HTTP, written before any HTTP is parsed.
fn tls_required() -> String {
    let body = Reply::failure(TLS_REQUIRED, "this address must use TLS (https) on this port").to_string();
    let len = body.len();
    format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: {JSON}\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_accepted_from_this_machine_only_by_default() {
        let (local, remote) =
            (["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"], ["192.0.2.1", "::", "2001:db8::1"]);
        for anywhere in [false, true] {
            let options = ListenOptions { plain_from_anywhere: anywhere, ..Default::default() };
            assert!(local.iter().all(|address| options.may_be_plain(address.parse().unwrap())));
            assert!(remote.iter().all(|address| options.may_be_plain(address.parse().unwrap()) == anywhere));
        }
    }

    #[test]
    fn refused_plain_http_gets_a_complete_response() {
        let response = tls_required();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert_eq!(len, body.len().to_string());
        assert_eq!(Reply::parse(body.as_bytes()).unwrap().text("code"), Some("tls_required"));
    }
}
