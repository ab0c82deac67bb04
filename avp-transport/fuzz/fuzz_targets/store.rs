#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| avp_transport_fuzz::store(data));
