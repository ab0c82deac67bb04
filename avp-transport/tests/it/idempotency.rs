//! Frames that are repeated under an idempotency key.

use avp_core::{Dialect, FrameEncoder, Metadata, crc32};
use avp_transport::{
    server::{ContextHandler, ListenOptions, ServerOptions, Service},
    store::{ContextStore, StoreOptions},
    wire,
};
use http::StatusCode;
use serde_json::Value;

use crate::common::{Running, answer, frame};

#[tokio::test]
async fn a_deed_is_done_once_for_its_idempotency_key() {
    let server = Running::stock(ServerOptions::default()).await;
    let send = |agent: &'static str, frame: Vec<u8>| {
        let request = server.http.post(server.url(wire::TRANSMIT)).body(frame);
        answer(request.header(wire::IDEMPOTENCY_HEADER, "k1").header(wire::AGENT_HEADER, agent))
    };
    let (_, first) = send("a", frame(1000)).await;
    assert_eq!(send("a", frame(1000)).await, (200, first.clone()));
    let (status, reply) = send("a", frame(1001)).await;
    assert_eq!((status, &reply["code"]), (422, &"idempotency_key_reused".into()));
    assert_ne!(
        send("b", frame(1000)).await.1["context_id"],
        first["context_id"],
        "each agent has its own keys"
    );
    let mut wrong = frame(1000);
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(send("c", wrong).await.0, 400);
    assert_eq!(send("c", frame(1000)).await.0, 200, "a failed try leaves the key free");
}

#[tokio::test]
async fn an_idempotency_key_ends_with_its_context() {
    let frame = frame(100_000);
    let keeping = StoreOptions { quota: frame.len() * 3 / 2, ..Default::default() };
    let contexts = ContextStore::in_memory(keeping);
    let service = Service::new(ContextHandler::new("server", contexts), ServerOptions::default());
    let server = Running::start(service, ListenOptions::default()).await;
    let send = |key: &'static str| {
        let request = server.http.post(server.url(wire::TRANSMIT)).body(frame.clone());
        answer(request.header(wire::IDEMPOTENCY_HEADER, key))
    };
    let path = |reply: &Value| format!("{}{}", wire::CONTEXTS, reply["context_id"].as_str().unwrap());
    let (_, first) = send("k1").await;
    let removed = server.http.delete(server.url(&path(&first))).send().await.unwrap();
    assert_eq!(removed.status(), StatusCode::OK);
    let (status, second) = send("k1").await;
    assert_eq!(status, 200);
    assert_eq!(server.get(&path(&second)).await.status(), StatusCode::OK, "kept anew");
    // This one takes the place of it.
    send("k2").await;
    let (_, third) = send("k1").await;
    assert_eq!(server.get(&path(&third)).await.status(), StatusCode::OK);
    assert_eq!(send("k1").await.1, third, "and as long as it is there the answer is the same");
}

/// Changes the last 32 bits of `body` so that it has this CRC-32, in which every bit of a body is linear.
fn forged(mut body: Vec<u8>, wanted: u32) -> Vec<u8> {
    let start = body.len() - 4;
    let base = crc32(&body);
    let mut effects: Vec<(u32, u32)> = (0..32)
        .map(|bit| {
            let mut changed = body.clone();
            changed[start + bit / 8] ^= 1 << (bit % 8);
            (crc32(&changed) ^ base, 1 << bit)
        })
        .collect();
    let (mut missing, mut change) = (wanted ^ base, 0);
    // Gaussian elimination.
    for column in 0..32 {
        let pivot = effects.iter().position(|(effect, _)| effect >> column & 1 == 1).unwrap();
        let (effect, bits) = effects.swap_remove(pivot);
        for (other, of_other) in &mut effects {
            if *other >> column & 1 == 1 {
                (*other, *of_other) = (*other ^ effect, *of_other ^ bits);
            }
        }
        if missing >> column & 1 == 1 {
            (missing, change) = (missing ^ effect, change ^ bits);
        }
    }
    for (byte, bits) in body[start..].iter_mut().zip(change.to_le_bytes()) {
        *byte ^= bits;
    }
    body
}

#[tokio::test]
async fn another_body_under_the_same_head_is_another_frame() {
    let server = Running::stock(ServerOptions::default()).await;
    // Such a head names no checksum, so it is the same for both.
    let frame =
        |body: &[u8]| FrameEncoder::new(Metadata::default()).dialect(Dialect::V0_2).encode(body).unwrap();
    let (one, other) = (frame(&[1; 5000]), frame(&forged([2; 5000].into(), crc32(&[1; 5000]))));
    assert_eq!(one[..one.len() - 5000], other[..other.len() - 5000]);
    assert_eq!(crc32(&one), crc32(&other), "a CRC-32 does not tell them apart");
    let send = |frame: &Vec<u8>| {
        let request = server.http.post(server.url(wire::TRANSMIT)).body(frame.clone());
        answer(request.header(wire::IDEMPOTENCY_HEADER, "k1"))
    };
    let first = send(&one).await;
    let (status, reply) = send(&other).await;
    assert_eq!((status, &reply["code"]), (422, &"idempotency_key_reused".into()));
    assert_eq!(send(&one).await, first);
}
