#![no_main]

#[path = "../src/signed.rs"]
mod signed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| signed::signed(data));
