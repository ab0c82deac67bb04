//! `docs/frame.md` is enough to read every frame of the vectors.
//!
//! The reader in this file has no offset, bit, field number or enum value of its own: it takes them from the tables of
//! the page.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use avp_core::{Dialect, Frame};
use serde_json::{Value, json};

fn repository(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("\r\n", "\n")
}

fn cases(file: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(&repository(&format!("test-vectors/avp/{file}"))).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// The page's tables and examples by the heading above them.
struct Page {
    text: String,
    header: Layout,
    kv: Layout,
    /// Bits by dialect and flag.
    flags: BTreeMap<(String, String), u8>,
    /// Names and types by field number.
    metadata: BTreeMap<u32, (String, String)>,
    /// Names by dialect, enum and value.
    enums: BTreeMap<(String, String, i32), String>,
}

/// Offsets and lengths by field.
type Layout = BTreeMap<String, (usize, usize)>;

const DIALECTS: [&str; 2] = ["0.2", "0.3"];

impl Page {
    fn read() -> Self {
        let text = repository("docs/frame.md");
        let tables = |heading: &str| tables(section(&text, heading));
        let layout = |heading: &str| {
            let rows = tables(heading).remove(0).into_iter();
            rows.map(|row| (row[2].clone(), (row[0].parse().unwrap(), row[1].parse().unwrap()))).collect()
        };
        let (header, kv) = (layout("Header"), layout("Body: KV-cache"));
        let mut flags = BTreeMap::new();
        for row in tables("Flags").remove(0) {
            let bit = u8::from_str_radix(row[0].strip_prefix("0x").unwrap(), 16).unwrap();
            for (dialect, flag) in DIALECTS.into_iter().zip(&row[1..]) {
                flags.insert((dialect.to_owned(), flag.clone()), bit);
            }
        }
        let mut metadata_tables = tables("Metadata");
        let mut enums = BTreeMap::new();
        for row in metadata_tables.remove(1) {
            for (dialect, values) in DIALECTS.into_iter().zip(&row[1..]) {
                for (value, name) in numbered(values) {
                    enums.insert((dialect.to_owned(), row[0].clone(), value), name);
                }
            }
        }
        let metadata = metadata_tables
            .remove(0)
            .into_iter()
            .map(|row| (row[0].parse().unwrap(), (row[1].clone(), row[2].clone())))
            .collect();
        Self { text, header, kv, flags, metadata, enums }
    }

    /// Number formats of a KV-cache.
    fn kv_dtypes(&self) -> BTreeMap<u8, String> {
        let sentence = section(&self.text, "Body: KV-cache").split("`dtype` is ").nth(1).unwrap();
        let list = sentence.split(". ").next().unwrap().replace(" or ", ", ").replace('`', "");
        numbered(&list).into_iter().map(|(value, name)| (u8::try_from(value).unwrap(), name)).collect()
    }

    /// Field numbers of a hybrid chunk by name, and the names of its types.
    fn chunks(&self) -> (BTreeMap<String, u32>, BTreeMap<i32, String>) {
        let rows = tables(section(&self.text, "Body: hybrid")).remove(0);
        let types = numbered(&rows.iter().find(|row| row[1] == "chunk_type").unwrap()[3]);
        (
            rows.iter().map(|row| (row[1].clone(), row[0].parse().unwrap())).collect(),
            types.into_iter().collect(),
        )
    }

    /// The annotated bytes of an example. Each line's offset must be that of its first byte.
    fn example(&self, heading: &str) -> Vec<(Vec<u8>, String)> {
        let mut offset = 0;
        let block =
            section(&self.text, heading).split("```text\n").nth(1).unwrap().split("```").next().unwrap();
        let line = |line: &str| {
            let (at, rest) = line.split_once("  ").unwrap();
            let (bytes, note) = rest.split_once("  ").unwrap();
            assert_eq!(usize::from_str_radix(at, 16), Ok(offset), "{line}");
            let bytes = hex(bytes);
            offset += bytes.len();
            (bytes, note.trim().to_owned())
        };
        block.lines().map(line).collect()
    }

    /// What the page says about a frame that is known to be in `dialect`.
    fn metadata_of(&self, frame: &[u8], dialect: &str) -> (Value, Vec<u8>) {
        let number = |field: &str| read(&self.header, field, frame);
        let body_at = 12 + number("metadata_length");
        assert_eq!((number("version"), frame.len()), (1, 12 + number("payload_length")));
        let mut read = json!({
            "flags": number("flags"),
            "payload_length": number("payload_length"),
            "metadata_length": number("metadata_length"),
        });
        for (name, kind) in self.metadata.values() {
            read[name] = match kind.as_str() {
                _ if name == "payload_checksum" => Value::Null,
                "string" => json!(""),
                "repeated uint32" => json!([]),
                "map string, string" => json!({}),
                "enum" => self.enum_name(dialect, name, 0),
                "float" => json!(0.0),
                _ => json!(0),
            };
        }
        for (field, value) in protobuf(&frame[12..body_at]) {
            let (name, kind) =
                self.metadata.get(&field).unwrap_or_else(|| panic!("field {field} is not on the page"));
            match (kind.as_str(), value) {
                ("map string, string", Field::Bytes(entry)) => {
                    let mut pair = [String::new(), String::new()];
                    for (field, value) in protobuf(entry) {
                        pair[field as usize - 1] = value.text();
                    }
                    let [key, value] = pair;
                    read[name][key] = json!(value);
                }
                ("repeated uint32", Field::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let value = varint(&mut packed);
                        read[name].as_array_mut().unwrap().push(json!(value));
                    }
                }
                ("string", value) => read[name] = json!(value.text()),
                ("enum", Field::Varint(value)) => read[name] = self.enum_name(dialect, name, value as i32),
                ("uint32", Field::Varint(value)) => read[name] = json!(value),
                ("float", Field::Fixed(value)) => read[name] = json!(value),
                (kind, _) => panic!("field {field} is no {kind} on the wire"),
            }
        }
        (read, frame[body_at..].to_vec())
    }

    fn enum_name(&self, dialect: &str, field: &str, value: i32) -> Value {
        json!(self.enums.get(&(dialect.to_owned(), field.to_owned(), value)))
    }

    /// The flags that a writer of `dialect` sets for this metadata.
    fn flags_for(&self, dialect: &str, metadata: &Value) -> u8 {
        let conditions = [
            ("zstd", metadata["compression"] == "zstd"),
            ("hybrid", metadata["mode"] == "hybrid"),
            ("map", metadata["avp_map_id"] != ""),
            ("kv_cache", metadata["payload_type"] == "kv_cache"),
        ];
        let set = conditions.into_iter().filter(|(_, holds)| *holds);
        set.map(|(flag, _)| self.flags[&(dialect.to_owned(), flag.to_owned())]).sum()
    }
}

fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n## {heading}\n");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("the page has no section {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// The rows of each table, without its head; code marks are dropped.
fn tables(section: &str) -> Vec<Vec<Vec<String>>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect()
    };
    let blocks = section.split("\n\n").map(|block| block.trim_start().lines().collect::<Vec<_>>());
    let tables = blocks.filter(|lines| lines.first().is_some_and(|line| line.starts_with("| ")));
    tables.map(|lines| lines[2..].iter().map(|line| cells(line)).collect()).collect()
}

/// `0 a, 1 b` as pairs.
fn numbered(list: &str) -> Vec<(i32, String)> {
    let pair = |item: &str| {
        let (value, name) = item.trim().split_once(' ').unwrap();
        (value.parse().unwrap(), name.to_owned())
    };
    list.split(',').map(pair).collect()
}

fn read(layout: &Layout, field: &str, bytes: &[u8]) -> usize {
    let (offset, len) = layout[field];
    bytes[offset..offset + len].iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte))
}

enum Field<'a> {
    Varint(u64),
    Fixed(f32),
    Bytes(&'a [u8]),
}

impl Field<'_> {
    fn text(&self) -> String {
        let Field::Bytes(bytes) = self else { panic!("text has a length") };
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

fn protobuf(mut bytes: &[u8]) -> Vec<(u32, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            2 => {
                let len = varint(&mut bytes) as usize;
                Field::Bytes(bytes.split_off(..len).unwrap())
            }
            5 => Field::Fixed(f32::from_le_bytes(bytes.split_off(..4).unwrap().try_into().unwrap())),
            other => panic!("wire type {other}"),
        };
        fields.push((u32::try_from(key >> 3).unwrap(), value));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *bytes.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

#[test]
fn the_table_of_metadata_has_the_fields_of_the_schema() {
    let schema = repository("proto/avp.proto");
    let message = schema.split("message Metadata {").nth(1).unwrap().split("\n}").next().unwrap();
    let mut expected = BTreeMap::new();
    for line in message.lines().map(str::trim).filter(|line| line.ends_with(';') && !line.starts_with("//")) {
        let (declared, number) = line.trim_end_matches(';').split_once(" = ").unwrap();
        let (kind, name) = declared.rsplit_once(' ').unwrap();
        let kind = kind.trim_start_matches("optional ").replace("map<string, string>", "map string, string");
        let kind = match kind.as_str() {
            "PayloadType" | "DataType" | "int32" => "enum",
            kind => kind,
        };
        expected.insert(number.parse().unwrap(), (name.to_owned(), kind.to_owned()));
    }
    assert_eq!(Page::read().metadata, expected);
}

#[test]
fn frames_of_every_peer_read_by_the_page_as_by_the_peer() {
    let page = Page::read();
    let mut seen = 0;
    for version in ["0.2.1", "0.3.2", "0.4.0", "0.4.2", "0.5.1", "0.6.2"] {
        for case in cases(&format!("frames-{version}.json")) {
            let expect = &case["expect"];
            let dialect = if version == "0.2.1" { "0.2" } else { "0.3" };
            let frame = hex(case["input"]["hex"].as_str().unwrap());
            let (read, body) = page.metadata_of(&frame, dialect);
            let fields = protobuf(&frame[12..frame.len() - body.len()]);
            assert!(fields.is_sorted_by_key(|(number, _)| *number), "{}", case["name"]);
            for (field, value) in read.as_object().unwrap() {
                if let Some(expected) = expect.get(field).filter(|expected| !expected.is_null()) {
                    assert_eq!(value, expected, "{}: {field}", case["name"]);
                    seen += 1;
                }
            }
            assert_eq!(u64::from(page.flags_for(dialect, &read)), read["flags"], "{}", case["name"]);
            if let (Some(sum), false) = (expect["checksum"].get("expected"), read["compression"] == "zstd") {
                assert_eq!(
                    (&read["payload_checksum"], u64::from(avp_core::crc32(&body))),
                    (sum, sum.as_u64().unwrap())
                );
            }
        }
    }
    assert!(seen > 144 * 12, "{seen}");
}

#[test]
fn kv_caches_of_the_peer_read_by_the_page() {
    let page = Page::read();
    let dtypes = page.kv_dtypes();
    let cases: Vec<Value> =
        cases("kv-cache.json").into_iter().filter(|case| case["operation"] == "kv.decode").collect();
    assert!(!cases.is_empty());
    for case in cases {
        let body = hex(case["input"]["hex"].as_str().unwrap());
        for field in ["num_layers", "num_kv_heads", "head_dim", "seq_len"] {
            assert_eq!(read(&page.kv, field, &body), case["expect"][field], "{}: {field}", case["name"]);
        }
        let dtype = u8::try_from(read(&page.kv, "dtype", &body)).unwrap();
        assert_eq!(case["expect"]["dtype"], dtypes[&dtype].as_str(), "{}", case["name"]);
        let mut rest = &body[page.kv.values().map(|(offset, len)| offset + len).max().unwrap()..];
        for layer in case["expect"]["layers"].as_array().unwrap() {
            for part in ["key", "value"] {
                let expected = hex(layer[part].as_str().unwrap());
                assert_eq!(rest.split_off(..expected.len()).unwrap(), expected, "{}: {part}", case["name"]);
            }
        }
        assert!(rest.is_empty(), "{}", case["name"]);
    }
}

#[test]
fn hybrid_chunks_of_the_peer_read_by_the_page() {
    let page = Page::read();
    let (fields, types) = page.chunks();
    let mut seen = 0;
    for case in cases("frames-0.2.1.json") {
        let (read, body) = page.metadata_of(&hex(case["input"]["hex"].as_str().unwrap()), "0.2");
        if read["mode"] != "hybrid" || read["compression"] == "zstd" {
            continue;
        }
        let mut chunks = Vec::new();
        for (number, chunk) in protobuf(&body) {
            let Field::Bytes(chunk) = chunk else { panic!("a chunk is a message") };
            assert_eq!(number, 1);
            let mut read = json!({"kind": types[&0], "bytes": 0, "confidence": 0.0});
            for (number, value) in protobuf(chunk) {
                match value {
                    Field::Varint(value) if number == fields["chunk_type"] => {
                        read["kind"] = json!(types[&(value as i32)]);
                    }
                    Field::Bytes(data) if number == fields["data"] => read["bytes"] = json!(data.len()),
                    Field::Fixed(value) if number == fields["confidence"] => {
                        read["confidence"] = json!(value)
                    }
                    _ => panic!("field {number} of a chunk is not on the page"),
                }
            }
            chunks.push(read);
        }
        assert_eq!(case["expect"]["chunks"], json!(chunks), "{}", case["name"]);
        seen += 1;
    }
    assert!(seen > 3, "{seen}");
}

#[test]
fn flags_shared_by_both_dialects_are_told_apart_as_the_page_says() {
    let page = Page::read();
    let mut seen = 0;
    for case in cases("hostile.json") {
        let frame = hex(case["input"]["hex"].as_str().unwrap());
        if case["error"]["kind"] == "contradictory_flags" {
            let fits = DIALECTS.into_iter().any(|dialect| {
                let (read, _) = page.metadata_of(&frame, dialect);
                let known =
                    !read["mode"].is_null() && (dialect == "0.3" || read["payload_checksum"].is_null());
                known && u64::from(page.flags_for(dialect, &read)) == read["flags"]
            });
            assert!(!fits, "{}", case["name"]);
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn the_examples_are_frames_and_their_notes_are_true() {
    let page = Page::read();
    let examples = [
        ("Example: a KV-cache in dialect 0.3", Dialect::V0_3),
        ("Example: hidden state and text in dialect 0.2", Dialect::V0_2),
    ];
    for (heading, dialect) in examples {
        let lines = page.example(heading);
        let bytes: Vec<u8> = lines.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let frame = Frame::decode(&bytes).unwrap();
        assert_eq!(frame.dialect(), Some(dialect));
        let (read, body) = page.metadata_of(&bytes, dialect.as_str());
        assert_eq!(frame.payload().unwrap(), body);
        // Notes of metadata fields: `field 5, hidden_dim: 8`.
        let mut at = 0;
        for (bytes, note) in &lines {
            let in_metadata = (12..frame.body_offset()).contains(&at);
            at += bytes.len();
            if !in_metadata {
                continue;
            }
            let (number, rest) = note.strip_prefix("field ").unwrap().split_once(", ").unwrap();
            let (name, value) = rest.split_once(": ").unwrap();
            assert_eq!(page.metadata[&number.parse().unwrap()].0, name);
            assert_eq!(protobuf(bytes)[0].0.to_string(), number);
            let (field, plain) = (&read[name], value.split(", ").next().unwrap());
            match field.as_str().filter(|_| !value.starts_with('"')) {
                Some(named) => assert!(value.to_lowercase().replace('-', "_").ends_with(named), "{note}"),
                None if value.starts_with("0x") => {
                    assert_eq!(value, format!("{:#010x}", field.as_u64().unwrap()))
                }
                None if value.starts_with('[') => assert_eq!(value, field.to_string().replace(',', ", ")),
                None => assert_eq!(plain, field.to_string()),
            }
        }
    }
    let bytes: Vec<u8> = page.example(examples[0].0).into_iter().flat_map(|(bytes, _)| bytes).collect();
    let frame = Frame::decode(&bytes).unwrap();
    let cache = frame.kv_cache(frame.payload().unwrap()).unwrap();
    assert!(cache.layer(0).key_values().eq([1.0, 2.0]));
    assert!(cache.layer(0).value_values().eq([0.5, -1.0]));
    let bytes: Vec<u8> = page.example(examples[1].0).into_iter().flat_map(|(bytes, _)| bytes).collect();
    let frame = Frame::decode(&bytes).unwrap();
    let hybrid = frame.hybrid(frame.payload().unwrap()).unwrap();
    assert_eq!((hybrid.latent(), hybrid.text()), (Some(&1.0_f32.to_le_bytes()[..]), Some("hi")));
}

#[test]
fn the_check_value_of_the_checksum_is_that_of_the_code() {
    let page = Page::read();
    let check = page.text.split("`\"123456789\"` gives `0x").nth(1).unwrap().split('`').next().unwrap();
    assert_eq!(u32::from_str_radix(check, 16), Ok(avp_core::crc32(b"123456789")));
}

#[test]
fn the_modules_that_the_page_names_are_there() {
    let page = Page::read();
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    for row in tables(section(&page.text, "Where the code is")).remove(0) {
        for module in row[1].replace("over", "").split(',').flat_map(str::split_whitespace) {
            let files = [format!("{module}.rs"), format!("{module}/mod.rs")];
            assert!(files.iter().any(|file| source.join(file).is_file()), "{module}");
        }
    }
}
