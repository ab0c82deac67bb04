//! Long and hostile lines are taken or refused, but never hold a reader up.

use aacp::{Kind, Limits, Packet, ParseError, Validator};

const TEN_MEGABYTES: usize = 10_000_000;

/// Ten megabytes of `piece` after a good start.
fn long_line(piece: &str) -> String {
    let mut line = String::from("SEND|HR|return:A|aacp:1.2|subj:");
    while line.len() < TEN_MEGABYTES {
        line.push_str(piece);
    }
    line
}

#[test]
fn a_long_value_is_taken() {
    for piece in ["x", ":", "é", " x", "%7C"] {
        let line = long_line(piece);
        assert!(Validator::lenient().accepts(&line), "{piece}");
        assert_eq!(Packet::parse(&line).unwrap().field_count(), 5);
    }
}

#[test]
fn a_long_line_of_fields_is_refused_at_the_limit() {
    for piece in ["|", "|k:v", "|x", "||||||||| |"] {
        let line = long_line(piece);
        assert!(matches!(Packet::parse(&line), Err(ParseError::TooManyFields { limit: 256, .. })), "{piece}");
        let mut kinds = Vec::new();
        Validator::lenient().validate(&line, |finding| kinds.push(finding.kind()));
        assert_eq!(kinds, [Kind::TooManyFields]);
    }
}

#[test]
fn a_raised_limit_lets_a_hundred_thousand_equal_keys_through() {
    let line = format!("SEND|HR|return:A|aacp:1.2{}", "|some_key:v".repeat(99_996));
    let validator = Validator::lenient().limits(Limits { max_fields: 100_000, ..Limits::DEFAULT });
    assert_eq!(validator.validate(&line, |_| ()).warnings, 99_996);
    assert!(!Validator::lenient().accepts(&line));
}

/// Without an allocator each key past 256 costs a pass over the text, as `Validator::validate` says.
#[cfg(feature = "alloc")]
#[test]
fn a_raised_limit_lets_many_different_keys_through() {
    let keys: String = (0..20_000).map(|n| format!("|key_{n}:v")).collect();
    let line = format!("SEND|HR|return:A|aacp:1.2{keys}");
    let validator = Validator::lenient().limits(Limits { max_fields: 100_000, ..Limits::DEFAULT });
    assert_eq!(validator.validate(&line, |_| ()).warnings, 20_000);
}
