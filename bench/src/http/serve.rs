//! A server in a process of its own, which reports its address and its memory.

use std::{convert::Infallible, ffi::OsString, fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use avp_transport::{
    server::{
        self, ContextHandler, ErrorResponse, Handler, IncomingFrame, ListenOptions, RequestInfo,
        ServerOptions, ServerTls, Service,
    },
    store::{ContextStore, StoreOptions},
    wire::Reply,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

use super::{LARGE, Server, answer_lines};
use crate::runtime_ours::status;

/// The argument by which this program starts itself as a server.
pub(crate) const SERVE: &str = "http-serve";

/// The most bytes kept: more than is ever sent, or two large frames.
const ALL: usize = 64 * LARGE;
const NEWEST: usize = 2 * LARGE + 4096;

/// `MODE ADDRESS [CERTIFICATES KEY [PROTOCOL]]`: serves until standard input ends.
///
/// # Errors
/// When the arguments are wrong, or the address is in use.
pub(crate) fn serve(arguments: &[OsString]) -> Result<()> {
    let text: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let [mode, address, tls @ ..] = &text[..] else {
        bail!("expected MODE ADDRESS [CERTIFICATES KEY [PROTOCOL]]")
    };
    let mode = Server::ALL.into_iter().find(|server| server.argument() == *mode).context("unknown server")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let listener = runtime.block_on(TcpListener::bind(address.parse::<SocketAddr>()?))?;
    let port = listener.local_addr()?.port();
    let listen = ListenOptions { tls: tls_config(tls)?, plain_from_anywhere: true };
    let folder = tempfile::tempdir()?;
    let quota = if mode == Server::Newest { NEWEST } else { ALL };
    let keeping = StoreOptions { quota, ..Default::default() };
    match mode {
        Server::Memory | Server::Newest => {
            ours(&runtime, listener, listen, ContextHandler::new("server", ContextStore::in_memory(keeping)))
        }
        Server::Files => {
            let contexts = ContextStore::in_folder(folder.path(), keeping)?;
            ours(&runtime, listener, listen, ContextHandler::new("server", contexts));
        }
        Server::Passing => ours(&runtime, listener, listen, Passing),
        Server::Hyper => drop(runtime.spawn(hyper_alone(listener))),
    }
    answer_lines(|line| match line {
        "port" => Ok(vec![("port", f64::from(port))]),
        "memory" => Ok(vec![("peak", status("VmHWM:")?)]),
        // From now on the peak is that of what comes: proc(5).
        "forget peak" => {
            fs::write("/proc/self/clear_refs", "5").context("this system does not report peak memory")?;
            Ok(vec![("resident", status("VmRSS:")?)])
        }
        _ => bail!("unknown request {line}"),
    })
}

fn ours<H: Handler>(
    runtime: &tokio::runtime::Runtime,
    listener: TcpListener,
    listen: ListenOptions,
    handler: H,
) {
    let service = Service::new(handler, ServerOptions::default());
    let never = std::future::pending();
    runtime.spawn(server::serve(listener, service, listen, never, Duration::ZERO));
}

/// A handler that reads every byte and stores none.
struct Passing;

impl Handler for Passing {
    async fn transmit(&self, mut frame: IncomingFrame, _: &RequestInfo) -> Result<Reply, ErrorResponse> {
        let mut bytes = 0;
        while let Some(piece) = frame.chunk().await? {
            bytes += piece.len();
        }
        Ok(Reply::new().with("bytes", bytes))
    }
}

async fn hyper_alone(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| async {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{\"success\":true}"))))
            });
            // How a connection ends is its client's affair.
            let _ended =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Files of certificates and key, and optionally the only protocol to offer.
fn tls_config(arguments: &[&str]) -> Result<Option<ServerTls>> {
    let [certificates, key, protocols @ ..] = arguments else { return Ok(None) };
    let mut config = server::tls_config_of_files(certificates.as_ref(), key.as_ref(), None)?.config();
    if let [protocol] = protocols {
        Arc::make_mut(&mut config).alpn_protocols = vec![protocol.as_bytes().to_vec()];
    }
    Ok(Some(ServerTls::new(config, false)))
}
