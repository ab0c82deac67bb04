//! Any text: no panic, spans on character boundaries, and one verdict from the lenient profile and the peer report.

#![no_main]

use aacp::{
    Limits, Packet, Validator,
    peer::{self, Release},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(packet) = Packet::parse(text) {
        for field in packet.slots() {
            for span in
                [field.slot_span(), field.span(), field.value_span()].into_iter().chain(field.key_span())
            {
                assert!(text.get(span.range()).is_some());
            }
        }
    }
    for validator in [Validator::lenient(), Validator::strict()] {
        let verdict = validator.validate(text, |finding| {
            assert!(text.get(finding.span().range()).is_some());
            let _ = finding.suggestion();
        });
        assert_eq!(verdict.is_valid(), validator.accepts(text));
    }
    for release in Release::ALL {
        if let Ok(valid) = peer::validate(text, *release, Limits::DEFAULT, |_| ()) {
            assert_eq!(valid, Validator::lenient().accepts(text));
        }
    }
});
