//! Two readers, one answer: the metadata reader against the schema.
#![cfg(all(feature = "std", feature = "serde", not(miri)))]

use proptest::{collection::vec, prelude::*};

#[path = "../../fuzz/src/metadata.rs"]
#[expect(unreachable_pub, reason = "public in the crate that the file is written for")]
mod oracle;

/// A field as bytes: mostly of this message, mostly of the right wire type.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0_u64..17, 100_u64..104, any::<u64>()];
    let value = prop_oneof![
        any::<u64>().prop_map(|value| (0, varint(value))),
        (0_u64..200).prop_map(|value| (0, varint(value))),
        any::<[u8; 8]>().prop_map(|bytes| (1, bytes.to_vec())),
        "[a-é]{0,4}".prop_map(|text| (2, delimited(text.as_bytes()))),
        vec(any::<u8>(), 0..8).prop_map(|bytes| (2, delimited(&bytes))),
        ("[ab]?", "[a-é]{0,2}").prop_map(|(key, value)| {
            let entry = [vec![0x0a], delimited(key.as_bytes()), vec![0x12], delimited(value.as_bytes())];
            (2, delimited(&entry.concat()))
        }),
        any::<[u8; 4]>().prop_map(|bytes| (5, bytes.to_vec())),
        (3_u64..8).prop_map(|wire_type| (wire_type, Vec::new())),
    ];
    (number, value).prop_map(|(number, (wire_type, value))| {
        let mut bytes = varint((number << 3) | wire_type);
        bytes.extend(value);
        bytes
    })
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn delimited(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64), bytes].concat()
}

#[test]
fn what_was_once_found_stays_mended() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/regressions/metadata");
    // Git keeps no empty folder: without findings there is none.
    for file in std::fs::read_dir(folder).into_iter().flatten() {
        let path = file.expect("a readable folder").path();
        oracle::metadata(&std::fs::read(path).expect("a readable file"));
    }
}

proptest! {
    #[test]
    fn likely_messages_read_the_same(fields in vec(field(), 0..8)) {
        oracle::metadata(&fields.concat());
    }

    #[test]
    fn any_bytes_read_the_same(bytes in vec(any::<u8>(), 0..40)) {
        oracle::metadata(&bytes);
    }
}
