#![no_main]

// The comparison is the crate's own, since it looks at what the crate does not show.
libfuzzer_sys::fuzz_target!(|data: &[u8]| avp_core::differential::metadata_agrees_with_prost(data));
