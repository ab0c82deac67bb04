#![no_main]

#[path = "../src/unpack.rs"]
mod unpack;

libfuzzer_sys::fuzz_target!(|data: &[u8]| unpack::unpack(data));
