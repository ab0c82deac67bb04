//! A short run of the fuzz targets on every change: the vectors, broken a little, some thousand times each.
//!
//! It needs no special toolchain and repeats exactly; `fuzz/README.md` says how to look for longer.
#![cfg(all(feature = "std", feature = "serde", feature = "zstd"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{fs, path::Path};

use serde_json::Value;

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the crate that the file is written for")]
mod targets;

const ROUNDS: usize = 20_000;

/// The inputs of the cases in these files whose operation has this name.
fn seeds(files: &[&str], operation: &str, key: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/avp");
    let mut seeds = Vec::new();
    for file in files {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let vectors: Value = serde_json::from_str(&text).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            if case["operation"].as_str().unwrap().starts_with(operation) {
                let input = case["input"][key].as_str().unwrap();
                seeds.push(if key == "hex" { hex(input) } else { input.as_bytes().to_vec() });
            }
        }
    }
    assert!(!seeds.is_empty(), "{operation}");
    // Mutations of large inputs cost time and find nothing that those of small ones do not.
    seeds.retain(|seed| seed.len() < 2048);
    seeds
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// xorshift64*: chance enough for this, and the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    /// Changes, drops, repeats or adds a few bytes.
    fn mutate(&mut self, input: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            match self.below(5) {
                0 => input.truncate(at),
                1 => input.insert(at, self.below(256) as u8),
                2 if at < input.len() => input[at] ^= 1 << self.below(8),
                3 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                _ => {
                    let end = (at + self.below(16)).min(input.len());
                    let again = input[at..end].to_vec();
                    input.splice(at..at, again);
                }
            }
        }
    }
}

fn smoke(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    for seed in seeds {
        target(seed);
    }
    for _ in 0..ROUNDS {
        let mut input = seeds[chance.below(seeds.len())].clone();
        chance.mutate(&mut input);
        target(&input);
    }
}

const FRAMES: [&str; 3] = ["frames-0.2.1.json", "frames-0.6.2.json", "hostile.json"];

#[test]
fn broken_frames_panic_nobody() {
    smoke(targets::frame, &seeds(&FRAMES, "frame.decode", "hex"));
}

#[test]
fn broken_streams_panic_nobody() {
    smoke(targets::stream, &seeds(&FRAMES, "frame.decode", "hex"));
}

#[test]
fn broken_hybrid_bodies_panic_nobody() {
    smoke(targets::hybrid, &seeds(&["hostile.json"], "hybrid.decode", "hex"));
}

#[test]
fn broken_caches_panic_nobody() {
    smoke(targets::kv, &seeds(&["kv-cache.json", "hostile.json"], "kv.decode", "hex"));
}

#[test]
fn broken_json_panics_nobody() {
    smoke(targets::json, &seeds(&["hashes.json", "handshake.json"], "hash", "json"));
}
