//! The metadata reader against an oracle: the schema itself, compiled from `proto/avp.proto` and read by `prost-reflect`.

use std::sync::LazyLock;

use avp_core::{DType, DecodeError, FrameHead, PayloadType};
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use serde_json::Value as Json;

static SCHEMA: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    let files = protox::compile(["avp.proto"], [folder]).expect("the schema compiles");
    let pool = DescriptorPool::from_file_descriptor_set(files).expect("the schema is whole");
    pool.get_message_by_name("avp.v1.Metadata").expect("the schema has metadata")
});

/// Fields 7, 8, 10 and 11 with values that every dialect knows: of several values of a field, the last counts.
const KNOWN: &[u8] = &[7 << 3, 0, 8 << 3, 0, 10 << 3, 0, 11 << 3 | 2, 0];

/// Compares what both readers make of `wire`, field by field under the names of the schema: a field that the schema has
/// and the reader has not is a difference.
pub fn metadata(wire: &[u8]) {
    if has_odd_map_entry(wire) {
        return;
    }
    as_it_is(wire);
    let wire = [wire, KNOWN].concat();
    let oracle = DynamicMessage::decode(SCHEMA.clone(), &wire[..]);
    let flags = match &oracle {
        Ok(message) => 0x02 * u8::from(message.has_field_by_name("avp_map_id")),
        Err(_) => 0,
    };
    let frame = framed(flags, &wire);
    match (FrameHead::decode(&frame), oracle) {
        (Ok(head), Ok(message)) => compare(&head, &message),
        (Err(_), Err(_)) => {}
        // The known values were swallowed by a field before them.
        (Err(error), Ok(_)) if is_about_meaning(&error) => {}
        (ours, theirs) => panic!("{wire:02x?}: ours {ours:?}, the oracle {theirs:?}"),
    }
}

/// The same wire without known values: enum numbers survive, and no flags make the reader panic.
fn as_it_is(wire: &[u8]) {
    let oracle = DynamicMessage::decode(SCHEMA.clone(), wire);
    for flags in 0..=u8::MAX {
        match (FrameHead::decode(&framed(flags, wire)), &oracle) {
            (Ok(head), Ok(message)) => {
                let number = |name: &str| match message.get_field_by_name(name).as_deref() {
                    Some(Value::EnumNumber(number) | Value::I32(number)) => *number,
                    other => panic!("{name} is {other:?}"),
                };
                let types = [PayloadType::HiddenState, PayloadType::KvCache, PayloadType::Embedding];
                let payload_type = usize::try_from(number("payload_type"));
                let expected = payload_type.map_or(PayloadType::Auto, |index| types[index]);
                assert_eq!(head.metadata().payload_type, expected);
                let dtypes = [DType::Float32, DType::Float16, DType::BFloat16, DType::Int8];
                assert_eq!(head.metadata().dtype, dtypes[number("dtype") as usize]);
                assert!((0..=2).contains(&number("mode")));
            }
            (Err(error), Ok(_)) => assert!(is_about_meaning(&error), "{error:?}"),
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => panic!("{wire:02x?}: the oracle {error:?}"),
        }
    }
}

fn is_about_meaning(error: &DecodeError) -> bool {
    matches!(error.kind(), "unknown_enum" | "unknown_compression" | "contradictory_flags")
}

fn framed(flags: u8, wire: &[u8]) -> Vec<u8> {
    let len = u32::try_from(wire.len()).expect("short").to_le_bytes();
    [&[b'A', b'V', 1, flags][..], &len, &len, wire].concat()
}

fn compare(head: &FrameHead<'_>, message: &DynamicMessage) {
    let ours = serde_json::to_value(head.metadata()).expect("metadata is JSON");
    for field in message.descriptor().fields() {
        let found = ours.get(field.name()).unwrap_or(&Json::Null);
        match field.name() {
            // Looked at as they are on the wire.
            "payload_type" | "dtype" | "mode" | "compression" => {}
            "confidence_score" => {
                let expected = message.has_field(&field).then(|| message.get_field(&field).as_f32());
                if let Some(score) = head.metadata().confidence_score {
                    assert_eq!(Some(score.to_bits()), expected.flatten().map(f32::to_bits));
                }
            }
            _ if message.has_field(&field) => {
                assert_eq!(*found, json(&message.get_field(&field)), "{}", field.name());
            }
            // Absent, or a default that looks the same.
            _ => {
                let empty = matches!(found, Json::Null)
                    || found.as_u64() == Some(0)
                    || found.as_str().is_some_and(str::is_empty)
                    || found.as_array().is_some_and(Vec::is_empty)
                    || found.as_object().is_some_and(serde_json::Map::is_empty);
                assert!(empty, "{}: {found}", field.name());
            }
        }
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::U32(number) => (*number).into(),
        Value::String(text) => text.as_str().into(),
        Value::List(values) => values.iter().map(json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| match key {
                MapKey::String(key) => (key.clone(), json(value)),
                other => panic!("the schema has no key like {other:?}"),
            })
            .collect(),
        other => panic!("the schema has no value like {other:?}"),
    }
}

/// Whether a field 14 has another wire type than a map's.
///
/// DIFFERENCE: prost reads the length of a map field without looking at its wire type. The schema has no such field, so
/// here it is refused.
fn has_odd_map_entry(mut wire: &[u8]) -> bool {
    while let Ok((number, wire_type)) = prost_reflect::prost::encoding::decode_key(&mut wire) {
        use prost_reflect::prost::encoding::{DecodeContext, WireType, skip_field};
        if number == 14 && wire_type != WireType::LengthDelimited {
            return true;
        }
        if skip_field(wire_type, number, &mut wire, DecodeContext::default()).is_err() {
            return false;
        }
    }
    false
}
