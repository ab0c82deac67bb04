//! What holds for every text.

use aacp::{
    Encoded, Limits, Packet, Validator,
    peer::{self, Release},
};
use proptest::prelude::*;

/// Text that often comes near a packet: words and characters that mean something to a reader, in any order.
fn near_packets() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("|".to_string()),
        2 => Just(":".to_string()),
        2 => prop::sample::select(vec![
            "FETCH", "HR", "return:A", "aacp:1.2", "p:1", "enc:pct", "res", "sentiment:x", "ltv:1", "RES:", "%7C", "%",
            " ", "\n", "\u{1c}", "\u{85}", "é", "Σ", "\u{212a}", "\u{2028}",
        ]).prop_map(str::to_string),
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn spans_lie_in_the_text_on_character_boundaries(text in near_packets()) {
        for validator in [Validator::lenient(), Validator::strict()] {
            validator.validate(&text, |finding| {
                assert!(text.get(finding.span().range()).is_some(), "{finding:?}");
                let _ = finding.suggestion();
            });
        }
        if let Ok(packet) = Packet::parse(&text) {
            for field in packet.slots() {
                for span in [field.slot_span(), field.span(), field.value_span()].into_iter().chain(field.key_span()) {
                    prop_assert!(text.get(span.range()).is_some());
                }
            }
        }
    }

    #[test]
    fn nothing_of_the_text_is_lost(text in near_packets()) {
        if let Ok(packet) = Packet::parse(&text) {
            prop_assert_eq!(packet.as_str(), &text);
            let slots: Vec<&str> = packet.slots().map(|field| field.raw()).collect();
            let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
            let ends_with_slots = text.trim_end_matches(blank).ends_with(&slots.join("|"));
            prop_assert!(ends_with_slots);
            prop_assert_eq!(slots.len() + 2, packet.field_count());
        }
    }

    #[test]
    fn the_lenient_profile_and_the_peer_report_give_one_verdict(text in near_packets()) {
        let lenient = Validator::lenient();
        let peer = peer::validate(&text, Release::V1_4_0, Limits::DEFAULT, |_| ());
        prop_assert_eq!(Some(lenient.accepts(&text)), peer.ok());
        prop_assert_eq!(lenient.validate(&text, |_| ()).is_valid(), lenient.accepts(&text));
    }

    #[test]
    fn what_the_strict_profile_accepts_the_lenient_one_accepts(text in near_packets()) {
        prop_assert!(!Validator::strict().accepts(&text) || Validator::lenient().accepts(&text));
    }
}

proptest! {
    #[test]
    fn encoding_a_value_and_decoding_it_gives_it_back(value in any::<String>()) {
        let text = format!("SEND|HR|return:A|aacp:1.2|enc:pct|subj:{}", Encoded(&value));
        let packet = Validator::strict().parse(&text).expect("an encoded value is a strict one");
        prop_assert_eq!(packet.decode(packet.get("subj").unwrap_or_default()).to_string(), value);
    }
}

#[cfg(feature = "alloc")]
mod building {
    use aacp::{Builder, Explanation};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn building_then_parsing_gives_back_the_same_fields(
            return_agent in any::<String>().prop_filter("a packet needs a receiver", |agent| !agent.is_empty()),
            fields in prop::collection::btree_map("[a-z][a-z0-9_.-]{0,12}", any::<String>(), 0..12),
        ) {
            let reserved = ["return", "p", "aacp", "enc"];
            let fields: Vec<_> = fields.into_iter().filter(|(key, _)| !reserved.contains(&key.as_str())).collect();
            let builder = Builder::new("SEND", "HR", &return_agent);
            let builder = fields.iter().fold(builder, |builder, (key, value)| builder.field(key, value));
            let text = builder.build().expect("every value can be written");

            let packet = Validator::strict().parse(&text).expect("what the builder writes is strict");
            prop_assert!(Validator::lenient().accepts(&text));
            prop_assert_eq!(peer::validate(&text, Release::V1_4_0, Limits::DEFAULT, |_| ()), Ok(true));
            let read: Vec<(String, String)> = packet
                .fields_decoded()
                .map(|(field, value)| (field.key().unwrap_or_default().to_string(), value.to_string()))
                .collect();
            let head = [("return".to_string(), return_agent), ("aacp".to_string(), "1.2".to_string())];
            prop_assert_eq!(read, head.into_iter().chain(fields).collect::<Vec<_>>());
        }

        #[test]
        fn every_packet_can_be_explained(text in near_packets()) {
            if let Ok(packet) = Packet::parse(&text) {
                let explanation = Explanation::of(&packet);
                let bare = packet.fields().any(|field| field.key().is_none());
                prop_assert_eq!(explanation.complete, !bare);
                prop_assert!(!explanation.to_string().is_empty());
            }
        }
    }
}
