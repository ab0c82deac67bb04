//! What goes wrong between machines: nothing is lost, nothing is half there, and the server goes on.

use std::time::Duration;

use avp_transport::{
    server::{BodyTimeouts, ContextHandler, FairShares, Limits, ListenOptions, ServerOptions, Service},
    store::{ContextStore, StoreOptions},
    wire,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::{Running, files, frame, until as until_holds};

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
    // The blocks of the frame, and one for its record.
    let stored = (frame.len().next_multiple_of(4096) + 4096).max(64 * 1536);
    until(&server, &format!("avp_stored_bytes {stored}")).await;
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
    let body_timeouts =
        BodyTimeouts { idle: Duration::from_millis(300), min_rate: 1 << 30, ..Default::default() };
    let server = Running::stock(ServerOptions { body_timeouts, ..Default::default() }).await;
    let (_, reply) = server.post(wire::TRANSMIT, frame(32 << 20)).await;
    let id = reply["context_id"].as_str().unwrap();
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {}{id} HTTP/1.1\r\nhost: localhost\r\n\r\n", wire::CONTEXTS);
    client.write_all(request.as_bytes()).await.unwrap();
    until(&server, "avp_connections 2").await;
    until(&server, "avp_connections 1").await;
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn an_http2_client_that_takes_no_byte_and_answers_every_ping_is_not_waited_for() {
    let body_timeouts =
        BodyTimeouts { idle: Duration::from_millis(300), min_rate: 1 << 30, ..Default::default() };
    let server = Running::stock(ServerOptions { body_timeouts, ..Default::default() }).await;
    let (_, reply) = server.post(wire::TRANSMIT, frame(1000)).await;
    let path = format!("{}{}", wire::CONTEXTS, reply["context_id"].as_str().unwrap());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    // `GET`, `http`, and literals behind the indexed names `:path` and `:authority` (RFC 7541, appendix A).
    let path_len = u8::try_from(path.len()).unwrap();
    let fields = [&[0x82, 0x86, 0x04, path_len], path.as_bytes(), &[0x01, 9], b"localhost"].concat();
    let start = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // `SETTINGS_INITIAL_WINDOW_SIZE` of 0.
        http2(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
        http2(1, 5, 1, &fields),
    ];
    client.write_all(&start.concat()).await.unwrap();
    let (mut reading, mut writing) = client.split();
    let pings = async {
        while writing.write_all(&http2(6, 0, 0, b"are you?")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = async {
        let mut all = Vec::new();
        // A reset ends it too.
        let _ = reading.read_to_end(&mut all).await;
        all
    };
    let all = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            all = closed => all,
            () = pings => Vec::new(),
        }
    });
    assert!(all.await.is_ok(), "the connection is still open");
    assert_eq!(server.get(&path).await.status(), 200, "the server goes on");
}

#[tokio::test]
async fn an_http2_connection_has_no_more_requests_at_a_time_than_its_memory_is_for() {
    let server = Running::stock(ServerOptions::default()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    client.write_all(&http2(4, 0, 0, b"")).await.unwrap();
    let mut head = [0; 9];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the settings come first");
    let mut settings = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    client.read_exact(&mut settings).await.unwrap();
    // `SETTINGS_MAX_CONCURRENT_STREAMS`.
    assert!(settings.chunks(6).any(|setting| *setting == [0, 3, 0, 0, 0, 16]), "{settings:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_read_keeps_its_memory_taken() {
    let memory = FairShares::new(64 << 20);
    let server = Running::stock(ServerOptions { memory: memory.clone(), ..Default::default() }).await;
    let hello = serde_json::json!({ "identity": { "model_id": "m".repeat(50_000) } }).to_string();
    let path = wire::HANDSHAKE;
    // `POST`, `http`, and literals behind the indexed names `:path`, `:authority` and `content-type` (RFC 7541, appendix A).
    let path_len = u8::try_from(path.len()).unwrap();
    let fields = [&[0x83, 0x86, 0x04, path_len], path.as_bytes(), &[0x01, 9], b"localhost"].concat();
    let fields = [&fields[..], &[0x0f, 0x10, 16], wire::JSON.as_bytes()].concat();
    let start = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &http2(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(&start).await.unwrap();
    client.write_all(&http2(1, 4, 1, &fields)).await.unwrap();
    for piece in hello.as_bytes().chunks(16 << 10) {
        client.write_all(&http2(0, 0, 1, piece)).await.unwrap();
    }
    client.write_all(&http2(0, 1, 1, b"")).await.unwrap();
    let len = hello.len() as u64;
    until_holds(|| (len..2 * len).contains(&memory.taken())).await;
    drop(client);
    until_holds(|| memory.taken() == 0).await;
}

#[tokio::test]
async fn bodies_of_one_byte_take_no_more_than_their_callers_part() {
    let limits = Limits { bodies: 10, ..Default::default() };
    let server = Running::stock(ServerOptions { limits, ..Default::default() }).await;
    let hostile = || async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // Another address of this machine, which Linux has without further ado.
        if socket.bind("127.0.0.2:0".parse().unwrap()).is_err() {
            return None;
        }
        let mut stream = socket.connect(server.address).await.ok()?;
        stream.write_all(head(1000).as_bytes()).await.ok()?;
        stream.write_all(b"A").await.ok()?;
        Some(stream)
    };
    let mut held = Vec::new();
    for _ in 0..30 {
        held.extend(hostile().await);
    }
    if held.is_empty() {
        return;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..20 {
        assert_eq!(server.post(wire::TRANSMIT, frame(1000)).await.0, 200);
    }
}

#[tokio::test]
async fn frames_that_are_announced_and_never_come_take_no_memory() {
    let options = ServerOptions { memory: FairShares::new(64 << 20), ..Default::default() };
    let memory = options.memory.clone();
    let server = Running::stock(options).await;
    let large = frame(20 << 20);
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head(large.len()).as_bytes()).await.unwrap();
        stream.write_all(&large[..1000]).await.unwrap();
        held.push(stream);
    }
    until(&server, "avp_bodies 8").await;
    assert!(memory.taken() < 20 << 20, "{}", memory.taken());
    assert_eq!(server.post(wire::TRANSMIT, frame(20 << 20)).await.0, 200);
}

#[tokio::test]
async fn a_body_has_a_time_by_its_length_however_regularly_it_dribbles() {
    let body_timeouts =
        BodyTimeouts { grace_period: Duration::from_millis(300), min_rate: 1000, ..Default::default() };
    let server = Running::stock(ServerOptions { body_timeouts, ..Default::default() }).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(head(1000).as_bytes()).await.unwrap();
    silent.write_all(b"AV").await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), rest(&mut silent)).await.unwrap();
    assert!(answer.contains("408") && answer.contains("too_slow"), "{answer}");
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
