//! Every case of `test-vectors/avp`, answered by this crate.
#![cfg(all(feature = "std", feature = "serde", feature = "zstd"))]

mod answers;
#[path = "../../test-vectors/avp/runner.rs"]
mod runner;

use std::path::PathBuf;

fn cases(file: &str) -> usize {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/avp");
    runner::run_file(&folder.join(file), &answers::answer)
}

#[test]
fn frames_of_every_peer_read_back_and_are_written_the_same() {
    for version in ["0.2.1", "0.3.2", "0.4.0", "0.4.2", "0.5.1", "0.6.2"] {
        assert_eq!(cases(&format!("frames-{version}.json")), 24);
    }
}

#[test]
fn hostile_bytes_are_refused_with_kind_and_offset() {
    assert!(cases("hostile.json") > 80);
}

#[test]
fn hashes_and_identities_are_the_peer_s() {
    assert_eq!(cases("hashes.json"), 58);
}

#[test]
fn handshakes_end_as_the_peer_s() {
    assert_eq!(cases("handshake.json"), 85);
}

#[test]
fn kv_caches_of_the_peer_read_back_layer_by_layer() {
    assert_eq!(cases("kv-cache.json"), 16);
}
