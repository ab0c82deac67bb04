//! Any text: an explanation, and a line of JSON's parts, without a panic.

#![no_main]

use aacp::{Explanation, Packet, Validator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(packet) = Packet::parse(text) {
        assert!(!Explanation::of(&packet).to_string().is_empty());
    }
    let line = Validator::lenient().report(text).line();
    assert_eq!(line.valid, line.errors.is_empty());
});
