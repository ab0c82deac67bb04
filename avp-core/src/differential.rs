//! Two readers, one answer: the borrowed metadata view against the types generated from the schema.

use alloc::{collections::BTreeMap, string::ToString as _, vec::Vec};

use prost::Message as _;

use crate::{
    Dialect, Flags,
    metadata::{RawMetadata, field},
    proto,
    protobuf::{Reader, Value},
};

/// Panics where the two readers differ on `wire`.
pub fn metadata_agrees_with_prost(wire: &[u8]) {
    // DIFFERENCE: prost reads a map field's length without looking at its wire type, so a varint or a group in the
    // place of an `extra` entry may pass there. The schema has no such thing, so here it is refused.
    let mut reader = Reader::new(wire, 0);
    while let Ok(Some(field)) = reader.field() {
        if field.number == field::EXTRA && !matches!(field.value, Value::Bytes(_)) {
            return;
        }
    }
    match (RawMetadata::decode(wire, 0), proto::Metadata::decode(wire)) {
        (Ok(ours), Ok(theirs)) => compare(&ours, &theirs),
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{wire:02x?}: ours {ours:?}, prost {theirs:?}"),
    }
}

fn compare(ours: &RawMetadata<'_>, theirs: &proto::Metadata) {
    assert_eq!(ours.session_id, theirs.session_id);
    assert_eq!(ours.source_agent_id, theirs.source_agent_id);
    assert_eq!(ours.target_agent_id, theirs.target_agent_id);
    assert_eq!(ours.model_id, theirs.model_id);
    assert_eq!((ours.hidden_dim, ours.num_layers), (theirs.hidden_dim, theirs.num_layers));
    assert_eq!(
        (ours.payload_type.value, ours.dtype.value, ours.mode.value),
        (theirs.payload_type, theirs.dtype, theirs.mode)
    );
    assert_eq!(ours.compression.map(|name| name.text), theirs.compression.as_deref());
    assert_eq!(ours.confidence_score.map(f32::to_bits), theirs.confidence_score.map(f32::to_bits));
    assert_eq!(ours.avp_map_id, theirs.avp_map_id);
    assert_eq!(ours.payload_checksum, theirs.payload_checksum);

    // What is looked up later goes through the view, which wants enum numbers that it knows.
    let known = RawMetadata {
        payload_type: Default::default(),
        dtype: Default::default(),
        mode: Default::default(),
        ..*ours
    };
    let view = known.resolve(Some(Dialect::V0_3)).expect("zeros are known");
    assert_eq!((view.embedding_dim(), view.data_type()), (theirs.embedding_dim, &*theirs.data_type));
    assert_eq!((view.agent_id(), view.task_id()), (theirs.agent_id.as_deref(), theirs.task_id.as_deref()));
    assert_eq!(view.tensor_shape().collect::<Vec<_>>(), theirs.tensor_shape);
    let extra: BTreeMap<_, _> =
        view.extra().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    assert_eq!(extra, theirs.extra);
    for key in theirs.extra.keys() {
        assert_eq!(view.extra_value(key), Some(&*theirs.extra[key]));
    }
    // Deciding never panics either, whatever the flags.
    for flags in 0..=u8::MAX {
        let _ = crate::dialect::decide(Flags::from_bits(flags), ours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::{collection::vec, prelude::*};

    /// A field as bytes: mostly of this message, mostly of the right wire type.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![0_u64..16, 100_u64..104, any::<u64>()];
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

    #[cfg(all(feature = "std", not(miri)))]
    #[test]
    fn what_was_once_found_stays_mended() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/regressions/metadata");
        // Git keeps no empty folder: without findings there is none.
        for file in std::fs::read_dir(folder).into_iter().flatten() {
            metadata_agrees_with_prost(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }

    proptest! {
        #[test]
        fn likely_messages_read_the_same(fields in vec(field(), 0..8)) {
            metadata_agrees_with_prost(&fields.concat());
        }

        #[test]
        fn any_bytes_read_the_same(bytes in vec(any::<u8>(), 0..40)) {
            metadata_agrees_with_prost(&bytes);
        }
    }
}
