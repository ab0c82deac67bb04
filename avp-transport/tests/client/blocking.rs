//! The same without an asynchronous runtime.

use avp_core::messages::JsonMessage;
use avp_transport::{
    client::{FrameBody, Sent, blocking::Client},
    wire::Reply,
};

use super::server::{Server, answer, frame, noise, options};

/// A server that takes everything and gives out one frame, in a thread of its own.
fn server(kept: bytes::Bytes) -> Server {
    let (sender, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(move |call| {
                let kept = kept.clone();
                async move {
                    match call.path.starts_with("/avp/v2/contexts/") {
                        true => Ok(answer(200, &[], kept)),
                        false => {
                            let identity = serde_json::json!({"model_hash": "aa"});
                            call.reply(200, Reply::new().with("identity", identity)).await
                        }
                    }
                }
            });
            sender.send(server.await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    started.recv().unwrap()
}

#[test]
fn every_deed_can_be_waited_for() {
    let frame = frame(&noise(3 << 20));
    let server = server(frame.clone());
    let client = Client::new(&server.url(), options()).unwrap();
    client.health().unwrap();
    assert_eq!(client.handshake().unwrap(), client.session().unwrap());
    client.transmit(FrameBody::slice(&frame)).unwrap();
    assert!(server.seen().pop().unwrap().body == frame);
    client.send_text(&JsonMessage::default()).unwrap();
    let sent = client.send(FrameBody::slice(&frame), |_| unreachable!()).unwrap();
    assert!(matches!(sent, Sent::Latent(_)));
    assert!(client.fetch_context("c1").to_memory().unwrap().frame == frame);
    let folder = tempfile::tempdir().unwrap();
    client.fetch_context("c1").on_progress(|_, _| ()).to_file(folder.path().join("c1.avp")).unwrap();
    assert!(std::fs::read(folder.path().join("c1.avp")).unwrap() == frame);
    assert_eq!(client.context_info("c1").unwrap().len, Some(frame.len() as u64));
    assert_eq!(client.delete_context("c1").unwrap_err().kind(), "protocol");
}

#[test]
fn threads_share_one_client() {
    let server = server(frame(b"tensor"));
    let client = Client::new(&server.url(), options()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = client.clone();
            scope.spawn(move || {
                let frame = frame(&noise(100_000 + thread));
                (0..8).for_each(|_| drop(client.transmit(FrameBody::slice(&frame)).unwrap()));
            });
        }
    });
    assert_eq!(server.seen().len(), 4 * 8);
    let dropped_elsewhere = tokio::runtime::Builder::new_current_thread().build().unwrap();
    dropped_elsewhere.block_on(async move { drop(client) });
}
