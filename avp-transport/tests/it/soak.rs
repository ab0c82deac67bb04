//! Many clients at once, for as long as one likes. `cargo xtask soak` runs it for two minutes and 10,000 frames and more
//! against each store.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use avp_core::{Compression, Dialect, FrameEncoder, Metadata, PayloadType};
use avp_transport::{
    server::{ContextHandler, ListenOptions, ServerOptions, Service},
    store::{ContextStore, StoreOptions},
    wire,
};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};

use crate::common::{Running, answer, sha256};

const CLIENTS: usize = 32;

/// So many contexts of one client are kept at a time; then one that it chooses goes for each that comes.
const KEPT: usize = 40;

/// One frame in so many is larger than [`LARGE`], and takes over the memory of others that went.
const LARGE_EVERY: usize = 50;
const LARGE: usize = 4 << 20;

/// A number that the environment may change.
fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |value| value.parse().unwrap())
}

/// A frame of some kind and size, all of it told by the seed.
fn some_frame(random: &mut ChaCha8Rng) -> Vec<u8> {
    // Small ones mostly, and now and then a large one.
    let magnitude = random.random_range(1..20);
    let len = match random.random_range(0..LARGE_EVERY) {
        0 => LARGE + random.random_range(0..2_usize << 20),
        _ => random.random_range(0..1_usize << magnitude),
    };
    let mut body = vec![0; len];
    random.fill(&mut body[..len / 2]);
    let extra = format!("{}", random.random::<u64>());
    let entries = [("n", &extra[..])];
    let fields = Metadata {
        payload_type: if random.random() { PayloadType::KvCache } else { PayloadType::HiddenState },
        avp_map_id: if random.random() { "vocab:0123456789abcdef" } else { "" },
        extra: (&entries).into(),
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

/// A frame that a server refuses, and the reason that it gives.
fn broken_frame(random: &mut ChaCha8Rng) -> (Vec<u8>, &'static str) {
    if random.random() {
        let mut frame = some_frame(random);
        frame[0] ^= 1;
        return (frame, "bad_magic");
    }
    let len = if random.random_range(0..LARGE_EVERY) == 0 { LARGE } else { random.random_range(1..100_000) };
    let mut body = vec![0; len];
    random.fill(&mut body[..]);
    let mut frame = FrameEncoder::new(Metadata::default()).encode(&body).unwrap();
    let place = frame.len() - 1 - random.random_range(0..len);
    frame[place] ^= 1;
    (frame, "checksum_mismatch")
}

/// A context that a client has sent, and the SHA-256 of it.
type Sent = (String, [u8; 32]);

/// One of the clients, and what of its contexts is kept.
struct Sender<'a> {
    server: &'a Running,
    random: ChaCha8Rng,
    kept: Vec<Sent>,
}

impl Sender<'_> {
    async fn send(&mut self, frame: Vec<u8>, expected: Result<(), &str>) {
        let sum = sha256(&frame);
        let (status, reply) =
            answer(self.server.http.post(self.server.url(wire::TRANSMIT)).body(frame)).await;
        match expected {
            Ok(()) => {
                assert_eq!(status, 200, "{reply}");
                self.kept.push((reply["context_id"].as_str().unwrap().to_owned(), sum));
            }
            Err(code) => assert_eq!((status, &reply["code"]), (400, &code.into()), "{reply}"),
        }
    }

    /// Compares some context with what was sent.
    async fn compare(&mut self) {
        if let Some(sent) = self.kept.choose(&mut self.random) {
            compare(self.server, sent).await;
        }
    }

    /// Compares some context and lets it go.
    async fn remove(&mut self) {
        let place = self.random.random_range(0..self.kept.len());
        let sent = self.kept.swap_remove(place);
        compare(self.server, &sent).await;
        let url = self.server.url(&format!("{}{}", wire::CONTEXTS, sent.0));
        let statuses = [
            self.server.http.delete(&url).send().await.unwrap().status().as_u16(),
            self.server.http.get(&url).send().await.unwrap().status().as_u16(),
        ];
        assert_eq!(statuses, [200, 404], "context {}", sent.0);
    }
}

async fn compare(server: &Running, (id, sum): &Sent) {
    let frame = server.get(&format!("{}{id}", wire::CONTEXTS)).await.bytes().await.unwrap();
    assert_eq!(sha256(&frame), *sum, "context {id}");
}

async fn soak(contexts: ContextStore, least_frames: usize, time: Duration) {
    let service = Service::new(ContextHandler::new("server", contexts), ServerOptions::default());
    let server = Running::start(service.clone(), ListenOptions::default()).await;
    let [sent, refused, removed] = [const { AtomicUsize::new(0) }; 3];
    let end = Instant::now() + time;
    let clients = (0..CLIENTS).map(|client| {
        let (server, sent, refused, removed) = (&server, &sent, &refused, &removed);
        async move {
            let random = ChaCha8Rng::seed_from_u64(client as u64);
            let mut sender = Sender { server, random, kept: Vec::new() };
            while sent.load(Ordering::Relaxed) < least_frames || Instant::now() < end {
                if sender.random.random_range(0..10) == 0 {
                    let (frame, code) = broken_frame(&mut sender.random);
                    sender.send(frame, Err(code)).await;
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let frame = some_frame(&mut sender.random);
                sender.send(frame, Ok(())).await;
                sent.fetch_add(1, Ordering::Relaxed);
                match sender.random.random_range(0..10) {
                    0 => sender.compare().await,
                    choice if choice < 3 || sender.kept.len() > KEPT => {
                        sender.remove().await;
                        removed.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {}
                }
            }
            sender.kept
        }
    });
    let kept: Vec<_> = futures_util::future::join_all(clients).await.into_iter().flatten().collect();
    let [sent, refused, removed] = [sent, refused, removed].map(AtomicUsize::into_inner);
    assert_eq!((service.handler().contexts().ids().len(), kept.len()), (sent - removed, sent - removed));
    assert!(refused > 0 && removed > 0);
    for sent in &kept {
        compare(&server, sent).await;
    }
    println!(
        "{sent} frames kept, {refused} refused, {removed} removed, {} found again at the end",
        kept.len()
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_frames_from_many_clients_are_kept_as_they_were_sent() {
    let (least_frames, seconds) = (setting("AVP_SOAK_FRAMES", 320), setting("AVP_SOAK_SECONDS", 0));
    let keeping = StoreOptions { quota: 64 << 30, ttl: Duration::from_secs(3600) };
    let folder = tempfile::tempdir().unwrap();
    let time = Duration::from_secs(seconds as u64);
    soak(ContextStore::in_memory(keeping), least_frames, time).await;
    soak(ContextStore::in_folder(folder.path(), keeping).unwrap(), least_frames, time).await;
}
