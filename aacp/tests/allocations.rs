//! Reading and validating allocate nothing.

use aacp::{
    FieldName, Limits, Packet, Validator,
    peer::{self, Release},
};

/// Packets of every shape: good, bad, padded, encoded, with unknown and repeated keys.
const PACKETS: &[&str] = &[
    "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08|filter:status=active|fmt:json",
    "SEND|HR||||||return:A|p:1|aacp:1.0",
    "fetch|XX|zzz:1|ZZZ:2|yyy:3|bare||:|res:1|res:2|sentiment:x|ltv:1|ris\u{212a}:x|ΟΔΟΣ:1",
    " SEND|HR|return: A|aacp:1.2|enc:pct|subj:a%7Cb%|att:é\u{85} ",
    "",
    "FETCH",
];

#[test]
fn reading_and_validating_allocate_nothing() {
    let mut findings = 0;
    let counted = allocation_counter::measure(|| {
        for text in PACKETS {
            if let Ok(packet) = Packet::parse(text) {
                findings += packet.fields_decoded().map(|(_, value)| value.chars().count()).sum::<usize>();
                findings += usize::from(packet.value(FieldName::Return).is_some());
            }
            for validator in [Validator::lenient(), Validator::strict()] {
                let verdict = validator.validate(text, |finding| {
                    findings += usize::from(finding.suggestion().is_some());
                });
                findings += verdict.errors + verdict.warnings;
                findings += usize::from(validator.accepts(text));
            }
            let valid = peer::validate(text, Release::V1_4_0, Limits::DEFAULT, |_| findings += 1);
            findings += usize::from(valid == Ok(true));
        }
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
    assert!(findings > 100, "the packets above give rise to many findings, but {findings} were counted");
}
