//! Servers that keep the client waiting. What is asserted is which patience ended, never after how long.

use std::time::Duration;

use avp_transport::{
    client::{Client, ClientError, ClientOptions, FrameBody, RetryPolicy, TimeoutKind, Timeouts},
    wire::Reply,
};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::server::{Server, frame, options};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(600);

const PATIENT: Timeouts = Timeouts { connect: LONG, first_byte: LONG, idle: LONG, total: None };

fn impatient(timeouts: Timeouts) -> ClientOptions {
    ClientOptions { timeouts, retry: RetryPolicy::NEVER, ..options() }
}

/// Which wait ended it.
fn waited(result: Result<impl std::fmt::Debug, ClientError>) -> TimeoutKind {
    match result {
        Err(ClientError::Timeout { which, .. }) => which,
        other => panic!("{other:?}"),
    }
}

async fn never(call: super::server::Call) -> super::server::Answer {
    call.read().await?;
    std::future::pending().await
}

#[tokio::test]
async fn an_answer_is_waited_for_from_the_end_of_the_request() {
    let server = Server::start(never).await;
    let options = impatient(Timeouts { first_byte: SHORT, ..PATIENT });
    let client = Client::new(&server.url(), options).unwrap();
    assert_eq!(waited(client.transmit(FrameBody::bytes(frame(b"tensor"))).await), TimeoutKind::FirstByte);
    assert_eq!(waited(client.handshake().await), TimeoutKind::FirstByte);
    let options = impatient(Timeouts { connect: SHORT, first_byte: SHORT, ..PATIENT });
    let client = Client::new(&server.url(), options).unwrap();
    assert_eq!(waited(client.health().await), TimeoutKind::FirstByte);
}

#[tokio::test]
async fn an_upload_that_no_longer_moves_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        // The rest fills the system's buffers, and stays there.
        std::future::pending::<()>().await;
    });
    let client = Client::new(&url, impatient(Timeouts { idle: SHORT, ..PATIENT })).unwrap();
    let large = frame(&vec![0; 64 << 20]);
    assert_eq!(waited(client.transmit(FrameBody::bytes(large)).await), TimeoutKind::Idle);
    server.abort();
}

#[tokio::test]
async fn a_source_that_no_longer_gives_is_given_up() {
    let server = Server::start(never).await;
    let client = Client::new(&server.url(), impatient(Timeouts { idle: SHORT, ..PATIENT })).unwrap();
    struct Stalls(Option<Bytes>);
    impl futures_util::Stream for Stalls {
        type Item = std::io::Result<Bytes>;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            self.0.take().map_or(std::task::Poll::Pending, |bytes| std::task::Poll::Ready(Some(Ok(bytes))))
        }
    }
    let start = frame(&[0; 1000]).slice(..500);
    assert_eq!(waited(client.transmit(FrameBody::stream(Stalls(Some(start)))).await), TimeoutKind::Idle);
}

#[tokio::test]
async fn an_answer_that_stops_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 100]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nAV\x01").await.unwrap();
            held.push(stream);
        }
    });
    let client = Client::new(&url, impatient(Timeouts { idle: SHORT, ..PATIENT })).unwrap();
    assert_eq!(waited(client.fetch_context("c1").to_memory().await), TimeoutKind::Idle);
    assert_eq!(waited(client.health().await), TimeoutKind::Idle);
    server.abort();
}

#[tokio::test]
async fn a_connection_whose_tls_never_stands_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let client = Client::new(&url, impatient(Timeouts { connect: SHORT, ..PATIENT })).unwrap();
    assert_eq!(waited(client.handshake().await), TimeoutKind::Connect);
}

#[tokio::test]
async fn a_limit_for_all_includes_the_retries() {
    let server = Server::start(async |call| call.reply(503, Reply::failure("busy", "full")).await).await;
    let options = ClientOptions {
        timeouts: Timeouts { total: Some(SHORT), ..PATIENT },
        retry: RetryPolicy { retries: u32::MAX, cap: Duration::from_millis(5), ..options().retry },
        ..options()
    };
    let client = Client::new(&server.url(), options).unwrap();
    assert_eq!(waited(client.handshake().await), TimeoutKind::Total);
    assert_eq!(waited(client.fetch_context("c1").to_memory().await), TimeoutKind::Total);
    assert!(server.seen().len() > 2);
}

#[tokio::test]
async fn limits_that_no_clock_can_show_are_no_limits() {
    let server = Server::start(async |call| call.reply(200, Reply::new()).await).await;
    let endless = Duration::MAX;
    let timeouts = Timeouts { connect: endless, first_byte: endless, idle: endless, total: Some(endless) };
    let client = Client::new(&server.url(), impatient(timeouts)).unwrap();
    client.transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap();
    client.health().await.unwrap();
}
