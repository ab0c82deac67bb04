//! A short run of the fuzz targets on every change: good inputs, broken a little, some thousand times each.

use avp_core::{Compression, Dialect, FrameEncoder, Metadata, PayloadType};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the crate that the file is written for")]
mod targets;

const ROUNDS: usize = 20_000;

/// Changes, drops, repeats or adds a few bytes.
fn mutate(random: &mut ChaCha8Rng, input: &mut Vec<u8>) {
    for _ in 0..=random.random_range(0..4) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..5) {
            0 => input.truncate(at),
            1 => input.insert(at, random.random()),
            2 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            3 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            _ => {
                let end = (at + random.random_range(0..16)).min(input.len());
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
        }
    }
}

fn smoke(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    smoke_for(ROUNDS, target, seeds);
}

fn smoke_for(rounds: usize, target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    seeds.iter().for_each(|seed| target(seed));
    for _ in 0..rounds {
        let mut input = seeds[random.random_range(0..seeds.len())].clone();
        mutate(&mut random, &mut input);
        target(&input);
    }
}

/// The file of vectors, as the texts of all objects and lists in it.
fn json_of(file: &str) -> Vec<Vec<u8>> {
    fn collect(value: &serde_json::Value, found: &mut Vec<Vec<u8>>) {
        let text = value.to_string();
        if value.is_object() && text.len() < 4096 {
            found.push(text.into_bytes());
        }
        match value {
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            serde_json::Value::Object(fields) => fields.values().for_each(|field| collect(field, found)),
            _ => {}
        }
    }
    let path = format!("{}/../test-vectors/carriers/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(), &mut found);
    found
}

#[test]
fn broken_frames_in_pieces_panic_nobody_and_say_what_whole_ones_say() {
    let fields = Metadata {
        session_id: "s1",
        payload_type: PayloadType::KvCache,
        avp_map_id: "vocab:1",
        extra: (&[("a", "b")]).into(),
        ..Default::default()
    };
    let encoders = [
        FrameEncoder::new(fields),
        FrameEncoder::new(fields).dialect(Dialect::V0_2),
        FrameEncoder::new(fields).compression(Compression::Fast),
    ];
    let seeds = encoders.iter().flat_map(|encoder| {
        [1_u8, 7, 60, 255].map(|piece| [&[piece][..], &encoder.encode(&[5; 90]).unwrap()].concat())
    });
    smoke(targets::reader, &seeds.collect::<Vec<_>>());
}

#[test]
fn broken_messages_of_other_protocols_panic_nobody() {
    smoke(targets::carriers, &[json_of("a2a.json"), json_of("mcp.json")].concat());
}

#[test]
fn broken_multipart_bodies_panic_nobody() {
    let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
    let head = b"multipart/related; boundary=\"b\"; type=\"application/json\"; start=\"<root>\"\n\
        --b\r\nContent-Type: application/json\r\nContent-ID: <root>\r\n\r\n{\"parts\":[]}\r\n\
        --b\r\nContent-Type: application/avp+binary\r\nContent-ID: <f>\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    smoke(targets::multipart, &[[&head[..], &frame, b"\r\n--b--\r\n"].concat()]);
}

#[test]
fn broken_requests_get_an_answer() {
    let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
    let head = |start: &str, content_type: &str| {
        format!("{start}\nhost: localhost\nauthorization: Bearer token\ncontent-type: {content_type}\n\n")
            .into_bytes()
    };
    let seeds = [
        [head("POST /avp/v2/transmit", "application/avp+binary"), frame].concat(),
        [head("POST /avp/v2/handshake", "application/json"), b"{\"agent_id\":\"a\"}".to_vec()].concat(),
        [head("POST /avp/v2/text", "application/json"), b"{\"content\":\"a\"}".to_vec()].concat(),
        head("GET /avp/v2/contexts/0", "application/json"),
        head("GET /metrics", "application/json"),
    ];
    smoke_for(5000, targets::service, &seeds);
}

#[test]
fn broken_files_in_a_folder_of_contexts_are_never_served() {
    let frames = [Compression::None, Compression::Fast].map(|compression| {
        FrameEncoder::new(Metadata::default()).compression(compression).encode(&[7; 90]).unwrap()
    });
    let record = br#"{"owner":"a","expires":99999999999999}"#;
    let len = (record.len() as u16).to_le_bytes();
    let seeds = frames.map(|frame| [&len[..], record, &frame].concat());
    smoke_for(1000, targets::store, &seeds);
}
