//! Servers that fail, and come back or do not.

use std::{io, time::Duration};

use avp_core::messages::JsonMessage;
use avp_transport::{
    client::{Client, ClientError, ClientOptions, FrameBody, RetryPolicy},
    wire::Reply,
};

use super::server::{Server, answer, frame, hello_with_keys, noise, options};

#[tokio::test]
async fn a_frame_gets_through_to_a_server_that_fails_at_first() {
    for http2 in [false, true] {
        let server = Server::start(async |call| match call.number {
            0 => hello_with_keys(call).await,
            1 | 2 => call.cut().await,
            3 => {
                call.read().await?;
                Ok(answer(503, &[("retry-after", "1")], Reply::failure("busy", "full").to_string()))
            }
            _ => call.reply(200, Reply::new()).await,
        })
        .await;
        let client = Client::new(&server.url(), ClientOptions { plain_http2: http2, ..options() }).unwrap();
        let frame = frame(&noise(4 << 20));
        client.session().await.unwrap();
        client.transmit(FrameBody::bytes(frame.clone())).await.unwrap();
        let seen = &server.seen()[1..];
        assert_eq!(seen.len(), 4);
        assert!(seen[3].body == frame);
        let key = seen[0].header("idempotency-key");
        assert!(!key.is_empty() && seen.iter().all(|seen| seen.header("idempotency-key") == key));
        let ids: std::collections::HashSet<_> = seen.iter().map(|seen| seen.header("x-request-id")).collect();
        assert_eq!(ids.len(), 4, "each request has a name of its own");
    }
}

#[tokio::test]
async fn files_and_lent_buffers_are_sent_again_from_their_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frame.avp");
    let frame = frame(&noise(4 << 20));
    std::fs::write(&path, &frame).unwrap();
    for body in [FrameBody::file(&path), FrameBody::slice(&frame)] {
        let server = Server::start(async |call| match call.number {
            0 => hello_with_keys(call).await,
            1 => call.cut().await,
            _ => call.reply(200, Reply::new()).await,
        })
        .await;
        let sent = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = sent.clone();
        let body = body.on_progress(move |done, _| log.lock().unwrap().push(done));
        let client = server.client();
        client.session().await.unwrap();
        client.transmit(body).await.unwrap();
        assert!(server.seen()[2].body == frame);
        let sent = sent.lock().unwrap();
        assert!(sent.is_sorted_by(|a, b| a < b) && sent.last() == Some(&(frame.len() as u64)));
    }
}

#[tokio::test]
async fn a_server_that_always_fails_is_tried_as_often_as_the_policy_says() {
    let server = Server::start(async |call| call.reply(503, Reply::failure("busy", "full")).await).await;
    for retries in [0, 1, 3] {
        let before = server.seen().len();
        let retry = RetryPolicy { retries, base: Duration::from_millis(1), ..Default::default() };
        let client = Client::new(&server.url(), ClientOptions { retry, ..options() }).unwrap();
        let body = FrameBody::bytes(frame(b"tensor"));
        let error = client.transmit(body).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { status: 503, ref code, .. } if code == "busy"));
        assert_eq!(server.seen().len() - before, 1 + retries as usize);
    }
}

#[tokio::test]
async fn what_would_be_refused_again_is_asked_once() {
    for status in [400, 401, 403, 404, 409, 413, 500, 501] {
        let server =
            Server::start(move |call| async move { call.reply(status, Reply::failure("no", "never")).await })
                .await;
        let client = server.client();
        assert_eq!(client.handshake().await.unwrap_err().kind(), "refused");
        assert_eq!(client.send_text(&JsonMessage::default()).await.unwrap_err().kind(), "refused");
        assert_eq!(client.delete_context("c1").await.unwrap_err().kind(), "refused");
        assert_eq!(server.seen().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_left_to_the_caller() {
    let server = Server::start(async |call| {
        call.read().await?;
        Ok(answer(429, &[("retry-after", "3600")], Reply::failure("rate", "slower").to_string()))
    })
    .await;
    match server.client().handshake().await.unwrap_err() {
        ClientError::Refused { status: 429, retry_after, .. } => {
            assert_eq!(retry_after, Some(Duration::from_secs(3600)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_comes_only_once_is_sent_only_once() {
    let server = Server::start(async |call| call.cut().await).await;
    let reader = FrameBody::reader(io::Cursor::new(frame(&noise(4 << 20))));
    assert_eq!(server.client().transmit(reader).await.unwrap_err().kind(), "broken");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_reader_that_ends_early_or_fails_is_named_as_the_cause() {
    let server = Server::start(async |call| call.reply(200, Reply::new()).await).await;
    let whole = frame(&noise(1 << 20));
    let short = FrameBody::reader(io::Cursor::new(whole.slice(..whole.len() - 1)));
    assert_eq!(server.client().transmit(short).await.unwrap_err().kind(), "truncated");
    let long = FrameBody::reader(io::Cursor::new([&whole[..], b"!"].concat()));
    assert_eq!(server.client().transmit(long).await.unwrap_err().kind(), "trailing_bytes");
    struct Fails;
    impl io::Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let start = io::Cursor::new(whole.slice(..1 << 19));
    let failing = FrameBody::reader(io::Read::chain(start, Fails));
    let error = server.client().transmit(failing).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read the frame");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is gone");
    assert!(server.seen().iter().all(|seen| seen.body.is_empty()), "no handler saw a whole body");
}

#[tokio::test]
async fn a_peer_that_knows_no_keys_is_not_asked_to_do_a_deed_twice() {
    let server = Server::start(async |call| match (call.path.as_str(), call.number) {
        ("/avp/v2/handshake", _) => call.reply(200, Reply::new()).await,
        // It has the whole frame when the connection breaks.
        (_, 1) => {
            call.read().await?;
            Err(io::Error::other("cut"))
        }
        (_, 2) => call.reply(503, Reply::failure("busy", "full")).await,
        _ => call.reply(200, Reply::new()).await,
    })
    .await;
    let client = server.client();
    client.session().await.unwrap();
    let body = || FrameBody::bytes(frame(b"tensor"));
    assert_eq!(client.transmit(body()).await.unwrap_err().kind(), "broken");
    assert_eq!(server.seen().len(), 2);
    client.transmit(body()).await.unwrap();
    assert_eq!(server.seen().len(), 4, "what a 503 has not done can be asked again");
}

#[tokio::test]
async fn a_server_that_nobody_knows_is_asked_once_for_a_frame_and_for_words() {
    // It has read all, and done what it does, when the connection breaks or something before it gives up.
    for status in [None, Some(408), Some(502), Some(503), Some(504)] {
        let server = Server::start(move |call| async move {
            call.read().await?;
            status.map(|status| answer(status, &[], "")).ok_or_else(|| io::Error::other("cut"))
        })
        .await;
        let client = server.client();
        assert!(client.transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap_err().is_retryable());
        assert_eq!(server.seen().len(), 1, "{status:?}");
        assert!(client.send_text(&JsonMessage::default()).await.unwrap_err().is_retryable());
        assert_eq!(server.seen().len(), 2, "{status:?}");
    }
}

#[tokio::test]
async fn words_are_not_repeated_to_a_server_that_knows_the_keys_of_frames() {
    let server = Server::start(async |call| match call.number {
        0 => hello_with_keys(call).await,
        1 => {
            call.read().await?;
            Err(io::Error::other("cut"))
        }
        2 => call.reply(503, Reply::failure("busy", "full")).await,
        _ => call.reply(200, Reply::new()).await,
    })
    .await;
    let client = server.client();
    client.session().await.unwrap();
    assert_eq!(client.send_text(&JsonMessage::default()).await.unwrap_err().kind(), "broken");
    assert_eq!(server.seen().len(), 2);
    client.send_text(&JsonMessage::default()).await.unwrap();
    assert_eq!(server.seen().len(), 4, "what a 503 has not done can be asked again");
}

#[tokio::test]
async fn a_frame_that_is_still_under_way_is_asked_for_until_it_has_become_something() {
    let server = Server::start(async |call| match call.number {
        0 | 1 => {
            call.read().await?;
            let reply = Reply::failure("in_progress", "still under way").to_string();
            Ok(answer(409, &[("retry-after", "0")], reply))
        }
        _ => call.reply(200, Reply::new().with("context_id", "c1")).await,
    })
    .await;
    let receipt = server.client().transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap();
    assert_eq!(receipt.context_id(), Some("c1"));
    let seen = server.seen();
    let key = seen[0].header("idempotency-key");
    assert!(seen.len() == 3 && seen.iter().all(|seen| seen.header("idempotency-key") == key));

    let never = Server::start(async |call| {
        call.read().await?;
        Ok(answer(409, &[("retry-after", "0")], Reply::failure("in_progress", "").to_string()))
    })
    .await;
    let retry = RetryPolicy { retries: 2, base: Duration::from_millis(1), ..Default::default() };
    let client = Client::new(&never.url(), ClientOptions { retry, ..options() }).unwrap();
    let error = client.transmit(FrameBody::bytes(frame(b"tensor"))).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: 409, .. }), "{error:?}");
    assert_eq!(never.seen().len(), 3, "no more often than the policy says");
}

#[tokio::test]
async fn a_refusal_before_the_body_has_gone_out_is_heard() {
    for http2 in [false, true] {
        let server = Server::start(async |call| {
            let refusal = answer(413, &[], Reply::failure("too_large", "too large").to_string());
            // A server that reads on for a moment lets its answer through.
            tokio::spawn(call.read());
            Ok(refusal)
        })
        .await;
        let client = Client::new(&server.url(), ClientOptions { plain_http2: http2, ..options() }).unwrap();
        let error = client.transmit(FrameBody::bytes(frame(&noise(32 << 20)))).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { status: 413, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again_and_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&url, options()).unwrap();
    let error = client.handshake().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), ("connect", true));
    let reader = FrameBody::reader(io::Cursor::new(frame(b"tensor")));
    assert_eq!(client.transmit(reader).await.unwrap_err().kind(), "connect");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let server = Server::start(async |call| {
        call.read().await?;
        Ok(answer(200, &[], vec![b' '; 3 << 20]))
    })
    .await;
    assert_eq!(server.client().handshake().await.unwrap_err().kind(), "protocol");
}
