//! Many clients at once, for as long as one likes. `cargo xtask soak` runs it for two minutes and 10,000 frames.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use avp_core::{Compression, Dialect, FrameEncoder, MetadataFields, PayloadType};
use avp_transport::{
    server::{ListenOptions, ServerOptions, Service, Stock},
    store::{Contexts, Keeping},
    wire,
};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use crate::common::{Running, answer};

const CLIENTS: usize = 32;

/// A number that the environment may change.
fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |value| value.parse().unwrap())
}

/// A frame of some kind and size, all of it told by the seed.
fn some_frame(random: &mut ChaCha8Rng) -> Vec<u8> {
    // Small ones mostly, and now and then a large one.
    let magnitude = random.random_range(1..20);
    let len = random.random_range(0..1_usize << magnitude);
    let mut body = vec![0; len];
    random.fill(&mut body[..len / 2]);
    let extra = format!("{}", random.random::<u64>());
    let fields = MetadataFields {
        payload_type: if random.random() { PayloadType::KvCache } else { PayloadType::HiddenState },
        avp_map_id: if random.random() { "vocab:0123456789abcdef" } else { "" },
        extra: &[("n", &extra)],
        ..Default::default()
    };
    let encoder = FrameEncoder::new(fields);
    let encoder = match random.random_range(0..4) {
        0 => encoder.dialect(Dialect::V0_2),
        1 => encoder.compression(Compression::Fast),
        2 => encoder.align(64),
        _ => encoder,
    };
    encoder.encode(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_frames_from_many_clients_are_kept_as_they_were_sent() {
    let (least_frames, seconds) = (setting("AVP_SOAK_FRAMES", 640), setting("AVP_SOAK_SECONDS", 0));
    let keeping = Keeping { quota: 64 << 30, ttl: Duration::from_secs(3600) };
    let folder = tempfile::tempdir().unwrap();
    for contexts in [Contexts::in_memory(keeping), Contexts::in_folder(folder.path(), keeping).unwrap()] {
        let service = Service::new(Stock::new("server", contexts), ServerOptions::default());
        let server = Running::start(service.clone(), ListenOptions::default()).await;
        let (sent, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let end = Instant::now() + Duration::from_secs(seconds as u64) / 2;
        let clients = (0..CLIENTS).map(|client| {
            let (server, sent, refused) = (&server, &sent, &refused);
            async move {
                let mut random = ChaCha8Rng::seed_from_u64(client as u64);
                let mut kept = Vec::new();
                while sent.load(Ordering::Relaxed) < least_frames / 2 || Instant::now() < end {
                    let mut frame = some_frame(&mut random);
                    let broken = random.random_range(0..10) == 0;
                    if broken {
                        frame[0] ^= 1;
                    }
                    let sum = avp_core::crc32(&frame);
                    let (status, reply) =
                        answer(server.http.post(server.url(wire::TRANSMIT)).body(frame)).await;
                    assert_eq!(status, if broken { 400 } else { 200 }, "{reply}");
                    match broken {
                        true => _ = refused.fetch_add(1, Ordering::Relaxed),
                        false => {
                            sent.fetch_add(1, Ordering::Relaxed);
                            kept.push((reply["context_id"].as_str().unwrap().to_owned(), sum));
                        }
                    }
                }
                kept
            }
        });
        let kept: Vec<_> = futures_util::future::join_all(clients).await.into_iter().flatten().collect();
        assert_eq!(service.handler().contexts().ids().len(), kept.len());
        assert!(refused.into_inner() > 0);
        for (id, sum) in &kept {
            let frame = server.get(&format!("{}{id}", wire::CONTEXTS)).await.bytes().await.unwrap();
            assert_eq!(avp_core::crc32(&frame), *sum, "context {id}");
        }
        println!("{} frames kept and found again", kept.len());
        server.stop().await;
    }
}
