#![no_main]

#[path = "../src/metadata.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::metadata(data));
