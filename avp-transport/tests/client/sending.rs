//! Frames and words to a server that takes them.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use avp_core::{Dialect, Frame, FrameEncoder, Metadata, PayloadType, messages::JsonMessage};
use avp_transport::{
    client::{Client, ClientError, ClientOptions, FrameBody, Proxy, Sent, Session, Token},
    wire::Reply,
};
use bytes::Bytes;
use http::Version;

use super::server::{Answer, Call, Server, answer, frame, frame_in, noise, options};

/// Keeps everything, under its number.
async fn keeper(call: Call) -> Answer {
    let number = call.number;
    let bytes = call.read().await?.len();
    let reply =
        Reply::new().with("context_id", format!("c{number}")).with("bytes", bytes).with("expires_in", 60);
    Ok(answer(200, &[("etag", "\"e\""), ("x-request-id", "r1")], reply.to_string()))
}

#[tokio::test]
async fn a_frame_arrives_the_same_wherever_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frame.avp");
    for plain_http2 in [false, true] {
        let server = Server::start(keeper).await;
        let client = Client::new(&server.url(), ClientOptions { plain_http2, ..options() }).unwrap();
        for len in [0, 10, 3 << 20] {
            let frame = frame(&noise(len));
            std::fs::write(&path, &frame).unwrap();
            let chunks = || frame.chunks(100_000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
            for body in [
                FrameBody::bytes(frame.clone()),
                FrameBody::parts(chunks()),
                FrameBody::slice(&frame),
                FrameBody::file(&path),
                FrameBody::reader(io::Cursor::new(frame.clone())),
                FrameBody::stream(Chunks(chunks())),
            ] {
                let source = format!("{body:?}");
                let receipt = client.transmit(body).await.unwrap();
                let seen = server.seen().pop().unwrap();
                assert!(seen.body == frame, "{source}");
                assert_eq!(seen.header("content-length"), frame.len().to_string());
                assert_eq!(receipt.reply().field("bytes"), Some(&frame.len().into()));
            }
        }
        assert_eq!(server.connections(), 1, "the connection is used again");
        let version = if plain_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        assert!(server.seen().iter().all(|seen| seen.version == version));
    }
}

#[tokio::test]
async fn a_frame_goes_out_as_the_binding_says() {
    let server = Server::start(keeper).await;
    let client = Client::new(&format!("{}/agents/b/", server.url()), options()).unwrap();
    let fields = Metadata { payload_type: PayloadType::KvCache, ..Default::default() };
    let frame = FrameEncoder::new(fields).dialect(Dialect::V0_2).encode(b"tensor").unwrap();
    let receipt = client.transmit(FrameBody::bytes(frame)).await.unwrap();
    assert_eq!(
        (receipt.context_id(), receipt.etag(), receipt.request_id()),
        (Some("c0"), Some("\"e\""), Some("r1"))
    );
    assert_eq!(receipt.expires_in().unwrap().as_secs(), 60);
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/agents/b/avp/v2/transmit"));
    assert_eq!((seen.header("content-type"), seen.header("avp-version")), ("application/avp+binary", "0.2"));
    assert_eq!((seen.header("authorization"), seen.header("avp-agent-id")), ("Bearer s3cret", "a"));
    assert_eq!((seen.header("idempotency-key").len(), seen.header("x-request-id").len()), (32, 32));
}

#[tokio::test]
async fn words_go_out_as_the_peers_write_them() {
    let server = Server::start(keeper).await;
    let message = JsonMessage { content: "hello".into(), ..Default::default() };
    server.client().send_text(&message).await.unwrap();
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.path.as_str(), seen.header("content-type")), ("/avp/v2/text", "application/json"));
    assert_eq!(JsonMessage::parse(std::str::from_utf8(&seen.body).unwrap()).unwrap(), message);
    assert_eq!(seen.header("idempotency-key"), "", "no server keeps words by a key");
}

#[tokio::test]
async fn what_is_no_frame_meets_no_server() {
    let server = Server::start(keeper).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "these are notes").unwrap();
    let client = server.client();
    assert_eq!(client.transmit(FrameBody::file(&path)).await.unwrap_err().kind(), "bad_magic");
    assert_eq!(client.transmit(FrameBody::slice(b"AV")).await.unwrap_err().kind(), "truncated");
    let mut options = options();
    options.limits.frame = 20;
    let strict = Client::new(&server.url(), options).unwrap();
    let error = strict.transmit(FrameBody::bytes(frame(&[0; 20]))).await.unwrap_err();
    assert_eq!(error.kind(), "frame_too_large");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn progress_grows_and_ends_at_the_total() {
    let server = Server::start(keeper).await;
    let frame = frame(&noise(2 << 20));
    for body in [FrameBody::bytes(frame.clone()), FrameBody::slice(&frame)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let body = body.on_progress(move |sent, total| log.lock().unwrap().push((sent, total)));
        server.client().transmit(body).await.unwrap();
        let (seen, total) = (seen.lock().unwrap(), frame.len() as u64);
        assert!(seen.len() > 4 && seen.is_sorted_by(|a, b| a.0 < b.0), "{seen:?}");
        assert_eq!(seen.last(), Some(&(total, total)));
    }
}

/// Shakes hands in a mode; takes what comes in its sessions but the first `expired`.
fn in_sessions(expired: usize, modes: &'static [&'static str]) -> impl Fn(Call) -> BoxAnswer + Send + Sync {
    let sessions = Arc::new(AtomicUsize::new(0));
    move |call| {
        let sessions = sessions.clone();
        Box::pin(async move {
            if call.path == "/avp/v2/handshake" {
                let number = sessions.fetch_add(1, Ordering::SeqCst) + 1;
                let reply = Reply::new()
                    .with("session_id", format!("s{number}"))
                    .with("identity", serde_json::json!({"model_hash": "aa"}))
                    .with("avp_version", "0.6.2")
                    .with("mode", modes[(number - 1).min(modes.len() - 1)]);
                return call.reply(200, reply).await;
            }
            let path = call.path.clone();
            let body = call.read().await?;
            let session = match path.ends_with("transmit") {
                true => Frame::decode(&body).unwrap().metadata().session_id.to_owned(),
                false => JsonMessage::parse(std::str::from_utf8(&body).unwrap()).unwrap().session_id,
            };
            let number: Option<usize> = session.strip_prefix('s').and_then(|number| number.parse().ok());
            match number {
                Some(number) if number > expired => Ok(answer(200, &[], Reply::new().to_string())),
                _ => Ok(answer(410, &[], Reply::failure("session_expired", "it is over").to_string())),
            }
        })
    }
}

type BoxAnswer = std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>;

fn words(session: &Session) -> JsonMessage {
    JsonMessage { session_id: session.id.clone(), content: "in words".into(), ..Default::default() }
}

#[tokio::test]
async fn a_hand_over_is_a_frame_where_the_handshake_says_latent() {
    let server = Server::start(in_sessions(0, &["latent"])).await;
    let client = server.client();
    for body in [FrameBody::bytes(frame(b"tensor")), FrameBody::slice(&frame(b"tensor"))] {
        let sent = client.send(body, |_| unreachable!()).await.unwrap();
        assert!(matches!(sent, Sent::Latent(_)));
    }
    assert_eq!(server.paths(), ["/avp/v2/handshake", "/avp/v2/transmit", "/avp/v2/transmit"]);
    let body = &server.seen()[1].body;
    let sent = Frame::decode(body).unwrap();
    assert_eq!((sent.metadata().session_id, sent.payload().unwrap()), ("s1", &b"tensor"[..]));
}

#[tokio::test]
async fn a_hand_over_falls_back_to_words_where_the_handshake_says_so() {
    let server = Server::start(in_sessions(0, &["json"])).await;
    let sent = server.client().send(FrameBody::bytes(frame(b"tensor")), words).await.unwrap();
    assert!(matches!(sent, Sent::Text(_)));
    assert_eq!(server.paths(), ["/avp/v2/handshake", "/avp/v2/text"]);
}

#[tokio::test]
async fn a_frame_of_an_expired_session_goes_into_a_new_one() {
    let server = Server::start(in_sessions(1, &["latent"])).await;
    let client = server.client();
    let session = client.session().await.unwrap();
    client.transmit(FrameBody::bytes(frame_in(&session.id, b"tensor"))).await.unwrap();
    assert_eq!(
        server.paths(),
        ["/avp/v2/handshake", "/avp/v2/transmit", "/avp/v2/handshake", "/avp/v2/transmit"]
    );
    let seen = server.seen();
    let sent = Frame::decode(&seen[3].body).unwrap();
    assert_eq!((sent.metadata().session_id, sent.payload().unwrap()), ("s2", &b"tensor"[..]));
    let keys = [1, 3].map(|number: usize| seen[number].header("idempotency-key"));
    assert_ne!(keys[0], keys[1], "it is another frame");
}

#[tokio::test]
async fn a_new_session_may_want_words() {
    let server = Server::start(in_sessions(1, &["latent", "json"])).await;
    let client = server.client();
    let sent = client.send(FrameBody::bytes(frame(b"tensor")), words).await.unwrap();
    assert!(matches!(sent, Sent::Text(_)));
    assert_eq!(
        server.paths(),
        ["/avp/v2/handshake", "/avp/v2/transmit", "/avp/v2/handshake", "/avp/v2/text"]
    );
    let server = Server::start(in_sessions(1, &["latent", "json"])).await;
    let client = server.client();
    let frame = frame_in(&client.session().await.unwrap().id, b"tensor");
    let error = client.transmit(FrameBody::bytes(frame)).await.unwrap_err();
    assert_eq!(error.kind(), "session_expired");
}

#[tokio::test]
async fn another_ones_session_is_not_renewed_and_a_stream_not_repeated() {
    let server = Server::start(in_sessions(9, &["latent"])).await;
    let client = server.client();
    let session = client.session().await.unwrap();
    let error = client.transmit(FrameBody::bytes(frame_in("other", b"tensor"))).await.unwrap_err();
    assert_eq!(error.kind(), "session_expired");
    assert_eq!(server.seen().len(), 2);
    let reader = FrameBody::reader(io::Cursor::new(frame_in(&session.id, b"tensor")));
    assert_eq!(client.transmit(reader).await.unwrap_err().kind(), "session_expired");
    assert_eq!(server.paths().iter().filter(|path| path.ends_with("transmit")).count(), 2);
}

#[tokio::test]
async fn a_refusal_is_told_without_the_token_that_it_repeats() {
    let server = Server::start(async |call| {
        let reply = Reply::failure("unauthorized", &format!("{} is wrong", call.header("authorization")));
        call.reply(401, reply).await
    })
    .await;
    let client = server.client();
    let error = client.transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap_err();
    let told = format!("{error} {error:?} {client:?} {:?}", Token::new("s3cret").unwrap());
    assert!(told.contains("unauthorized") && told.contains("is wrong") && !told.contains("s3cret"), "{told}");
    assert_eq!(server.seen().len(), 1, "a refusal is not asked again");
}

#[tokio::test]
async fn a_peers_handler_may_say_no_without_a_status() {
    let server = Server::start(async |call| {
        call.reply(200, Reply::new().with("success", false).with("message", "not today")).await
    })
    .await;
    let error = server.client().transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap_err();
    assert_eq!(error.to_string(), "the server refused with status 200: not today");
}

#[tokio::test]
async fn a_redirect_takes_the_token_nowhere() {
    let other = Server::start(keeper).await;
    let location = other.url();
    let server = Server::start(move |call| {
        let location = location.clone();
        async move {
            call.read().await?;
            Ok(answer(307, &[("location", &location)], ""))
        }
    })
    .await;
    let client = server.client();
    let sent = client.transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap_err();
    // A request without a body would be the easier one to lead astray.
    let fetched = client.fetch_context("c1").to_memory().await.unwrap_err();
    for error in [sent, fetched] {
        assert!(matches!(error, ClientError::Refused { status: 307, .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
    assert_eq!((server.seen().len(), other.connections()), (2, 0));
}

#[tokio::test]
async fn a_proxy_is_asked_only_where_an_option_names_it() {
    let proxy = Server::start(keeper).await;
    let options =
        ClientOptions { allow_plain_http: true, proxy: Some(Proxy::new(&proxy.url()).unwrap()), ..options() };
    let client = Client::new("http://agent-b.example/", options).unwrap();
    client.transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap();
    assert_eq!(proxy.seen()[0].header("host"), "agent-b.example");
}

/// Parts, as they might come from somewhere.
struct Chunks(Vec<Bytes>);

impl futures_util::Stream for Chunks {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = (!self.0.is_empty()).then(|| Ok(self.0.remove(0)));
        std::task::Poll::Ready(next)
    }
}
