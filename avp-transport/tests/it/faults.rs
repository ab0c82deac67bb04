//! What goes wrong between machines: nothing is lost, nothing is half there, and the server goes on.

use std::time::Duration;

use avp_transport::{
    server::{BodyTimeouts, ContextHandler, Limits, ListenOptions, ServerOptions, Service},
    store::{ContextStore, StoreOptions},
    wire,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::{Running, files, frame};

/// The head of a request that carries `len` bytes.
fn head(len: usize) -> String {
    format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/avp+binary\r\ncontent-length: {len}\r\n\r\n",
        wire::TRANSMIT
    )
}

/// Waits until what the server counts has become so.
async fn until(server: &Running, line: &str) {
    for _ in 0..1000 {
        let text = server.get(wire::METRICS).await.text().await.unwrap();
        if text.lines().any(|found| found == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the metrics never said {line}");
}

/// Everything that the other side sends until it closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn in_folder(folder: &std::path::Path, options: ServerOptions) -> Running {
    let contexts = ContextStore::in_folder(folder, StoreOptions::default()).unwrap();
    Running::start(Service::new(ContextHandler::new("server", contexts), options), ListenOptions::default())
        .await
}

#[tokio::test]
async fn a_client_that_dies_within_a_body_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let on_disk = in_folder(folder.path(), ServerOptions::default()).await;
    for server in [&Running::stock(ServerOptions::default()).await, &on_disk] {
        let frame = frame(1 << 20);
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(head(frame.len()).as_bytes()).await.unwrap();
        client.write_all(&frame[..frame.len() / 2]).await.unwrap();
        until(server, "avp_bodies 1").await;
        drop(client);
        until(server, "avp_bodies 0").await;
        assert_eq!(server.stored_bytes().await, 0);
        assert_eq!(server.post(wire::TRANSMIT, frame).await.0, 200);
    }
    let names = files(folder.path());
    assert!(names.len() == 1 && names[0].ends_with(".avp"), "{names:?}");
}

#[tokio::test]
async fn a_body_that_is_still_arriving_can_be_seen_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = in_folder(folder.path(), ServerOptions::default()).await;
    let frame = frame(1 << 20);
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(head(frame.len()).as_bytes()).await.unwrap();
    client.write_all(&frame[..frame.len() - 1]).await.unwrap();
    until(&server, "avp_bodies 1").await;
    assert_eq!(server.stored_bytes().await, 0);
    assert!(files(folder.path()).iter().all(|name| name.ends_with(".part")));
    client.write_all(&frame[frame.len() - 1..]).await.unwrap();
    until(&server, &format!("avp_stored_bytes {}", frame.len())).await;
}

#[tokio::test]
async fn a_sender_that_stalls_or_dribbles_is_cut_off_with_a_reason() {
    let stalling = BodyTimeouts { idle: Duration::from_millis(100), ..Default::default() };
    let dribbling =
        BodyTimeouts { grace_period: Duration::from_millis(100), min_rate: 1 << 20, ..Default::default() };
    for (pace, code) in [(stalling, "stalled"), (dribbling, "too_slow")] {
        let server = Running::stock(ServerOptions { body_timeouts: pace, ..Default::default() }).await;
        let frame = frame(1000);
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(head(frame.len()).as_bytes()).await.unwrap();
        client.write_all(&frame[..900]).await.unwrap();
        if code == "too_slow" {
            for byte in &frame[900..990] {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        }
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(code), "{answer}");
        until(&server, "avp_bodies 0").await;
        assert_eq!(server.stored_bytes().await, 0);
    }
}

#[tokio::test]
async fn a_head_that_never_ends_costs_a_connection_only_its_time() {
    let limits = Limits { head_timeout: Duration::from_millis(200), ..Default::default() };
    let server = Running::stock(ServerOptions { limits, ..Default::default() }).await;
    // Nothing at all; half a request line; the first byte of HTTP/2; headers without an end; half a TLS record.
    for start in [
        "",
        "POST /avp",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET /health HTTP/1.1\r\nhost: localhost\r\n",
        "\x16\x03",
    ] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(start.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(!answer.contains("200 OK"), "{start:?} gave {answer}");
    }
    until(&server, "avp_connections 1").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let limits = Limits { idle_timeout: Duration::from_millis(300), ..Default::default() };
    let server = Running::stock(ServerOptions { limits, ..Default::default() }).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let frame = frame(1000);
    client.write_all(head(frame.len()).as_bytes()).await.unwrap();
    for piece in frame.chunks(200) {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.write_all(piece).await.unwrap();
    }
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_out() {
    let server = Running::stock(ServerOptions::default()).await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.post(wire::TRANSMIT, frame(100_000)).await.0, 200);
    assert_eq!(idle.len(), 1000);
}

#[tokio::test]
async fn connections_over_the_limit_wait_and_are_served_in_their_turn() {
    let limits = Limits { connections: 2, head_timeout: Duration::from_millis(200), ..Default::default() };
    let server = Running::stock(ServerOptions { limits, ..Default::default() }).await;
    let idle = [
        TcpStream::connect(server.address).await.unwrap(),
        TcpStream::connect(server.address).await.unwrap(),
    ];
    assert_eq!(server.post(wire::TRANSMIT, frame(10)).await.0, 200, "once an idle one has had its time");
    drop(idle);
}

#[tokio::test]
async fn stopping_finishes_the_bodies_that_are_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let server = in_folder(folder.path(), ServerOptions::default()).await;
    let address = server.address;
    let frame = frame(1 << 20);
    let mut client = TcpStream::connect(address).await.unwrap();
    let idle = TcpStream::connect(address).await.unwrap();
    client.write_all(head(frame.len()).as_bytes()).await.unwrap();
    client.write_all(&frame[..1000]).await.unwrap();
    until(&server, "avp_bodies 1").await;
    let stopped = tokio::spawn(server.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.write_all(&frame[1000..]).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    stopped.await.unwrap();
    drop(idle);
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_not_waited_for() {
    let limits = Limits { idle_timeout: Duration::from_millis(300), ..Default::default() };
    let server = Running::stock(ServerOptions { limits, ..Default::default() }).await;
    let (_, reply) = server.post(wire::TRANSMIT, frame(32 << 20)).await;
    let id = reply["context_id"].as_str().unwrap();
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {}{id} HTTP/1.1\r\nhost: localhost\r\n\r\n", wire::CONTEXTS);
    client.write_all(request.as_bytes()).await.unwrap();
    until(&server, "avp_connections 2").await;
    until(&server, "avp_connections 1").await;
}

#[tokio::test]
async fn a_folder_that_is_gone_is_told_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("contexts");
    let server = in_folder(&place, ServerOptions::default()).await;
    std::fs::remove_dir_all(&place).unwrap();
    let (status, reply) = server.post(wire::TRANSMIT, frame(1000)).await;
    assert_eq!((status, &reply["code"]), (507, &"storage".into()));
    std::fs::create_dir(&place).unwrap();
    assert_eq!(server.post(wire::TRANSMIT, frame(1000)).await.0, 200);
}
