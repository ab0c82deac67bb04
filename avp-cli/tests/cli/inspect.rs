//! `avp inspect`: the keys of `--json`, for every frame that a peer wrote and for bytes that are none.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::common::{avp, avp_with_input, cases, failure, hex, repository, stdout, text};

/// Keys of a vector that `avp inspect` leaves to `--payload`.
const NOT_PRINTED: [&str; 2] = ["chunks", "payload_hex"];

#[test]
fn json_agrees_with_every_frame_of_every_peer() {
    let folder = tempfile::tempdir().unwrap();
    for version in ["0.2.1", "0.3.2", "0.4.0", "0.4.2", "0.5.1", "0.6.2"] {
        let cases = cases(&format!("frames-{version}.json"));
        let files: Vec<_> = cases
            .iter()
            .enumerate()
            .map(|(index, case)| {
                let path = folder.path().join(format!("{version}-{index}.avp"));
                fs::write(&path, hex(case["input"]["hex"].as_str().unwrap())).unwrap();
                path
            })
            .collect();
        let output = avp(["inspect".as_ref(), "--json".as_ref()]
            .into_iter()
            .chain(files.iter().map(|f| f.as_os_str())));
        let lines: Vec<Value> =
            text(stdout(&output)).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), cases.len());
        for (case, line) in cases.iter().zip(&lines) {
            for (key, expected) in case["expect"].as_object().unwrap() {
                if !NOT_PRINTED.contains(&key.as_str()) {
                    assert_eq!(&line[key], expected, "{} {key}", case["name"]);
                }
            }
        }
    }
}

#[test]
fn the_keys_are_those_that_the_documentation_lists() {
    let page = |name| fs::read_to_string(repository(name)).unwrap().replace("\r\n", "\n");
    let table = |page: &str, before| {
        let section = page.split_once(before).unwrap().1;
        let rows = section.split("\n\n").find(|part| part.starts_with('|')).unwrap().lines().skip(2);
        let cells = |row: &str| row.trim_matches('|').split('|').map(str::to_owned).collect::<Vec<_>>();
        rows.map(cells).collect::<Vec<_>>()
    };
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (mut always, mut sometimes) = (BTreeSet::new(), BTreeSet::new());
    for row in table(&page("docs/frame.md"), "## Metadata\n") {
        let list = if row[4].contains("never written") { &mut sometimes } else { &mut always };
        list.extend(names(&row[1]));
    }
    always.remove("compression");
    for row in table(&page("docs/cli.md"), "`inspect --json` prints one line for each file:") {
        let list = if row[1].contains("else absent") { &mut sometimes } else { &mut always };
        list.extend(names(&row[0]).into_iter().filter(|name| name != "compression"));
    }
    let encoded = |meta: Value, more: &[&str]| {
        let meta = meta.to_string();
        let encode = ["encode", "--meta", &meta, "--payload", "-", "-o", "-"];
        stdout(&avp_with_input(encode.iter().chain(more), b"not a cache")).to_vec()
    };
    let printed = |frame: &[u8]| -> BTreeSet<String> {
        let printed = avp_with_input(["inspect", "--json", "-"], frame);
        let record: Value = serde_json::from_slice(stdout(&printed)).unwrap();
        record.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(printed(&encoded(json!({}), &[])), always);
    let packet = "FETCH|HR|return:HR-Agent|p:1|aacp:1.1|res:emp_salary|period:2024-08";
    let frame = encoded(json!({"payload_type": "kv_cache"}), &["--dialect", "0.2", "--text", packet]);
    let all = always.union(&sometimes).cloned().collect();
    assert_eq!(printed(&with_fields_of_0_1(frame)), all);
}

/// Adds `embedding_dim` 8, `data_type` "f32", `agent_id` "a" and `task_id` "t" to a frame's metadata.
fn with_fields_of_0_1(mut frame: Vec<u8>) -> Vec<u8> {
    let fields = b"\xa0\x06\x08\xaa\x06\x03f32\xb2\x06\x01a\xba\x06\x01t";
    for at in [4, 8] {
        let len = u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) + fields.len() as u32;
        frame[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
    let end = 12 + u32::from_le_bytes(frame[8..12].try_into().unwrap()) as usize - fields.len();
    frame.splice(end..end, *fields);
    frame
}

#[test]
fn bytes_that_are_no_frame_give_kind_message_and_offset_and_the_others_are_still_printed() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.avp");
    fs::write(&good, hex(cases("frames-0.6.2.json")[0]["input"]["hex"].as_str().unwrap())).unwrap();
    let bad = folder.path().join("bad.avp");
    let mut refused = 0;
    for case in cases("hostile.json") {
        if case["operation"] != "frame.decode" || case["input"].get("limit").is_some() {
            continue;
        }
        let kind = case["error"]["kind"].as_str().unwrap();
        // A wrong checksum is a finding about a frame that decodes, and a frame may hold what is no KV-cache.
        if matches!(kind, "checksum_mismatch" | "kv_shape") {
            continue;
        }
        fs::write(&bad, hex(case["input"]["hex"].as_str().unwrap())).unwrap();
        let output = avp(["inspect".as_ref(), "--json".as_ref(), bad.as_os_str(), good.as_os_str()]);
        assert_eq!(output.status.code(), Some(1), "{}", case["name"]);
        let lines: Vec<Value> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["error"]["kind"], case["error"]["kind"], "{}", case["name"]);
        assert_eq!(lines[0]["error"]["offset"], case["error"]["offset"], "{}", case["name"]);
        assert!(lines[0]["error"]["message"].is_string());
        assert_eq!(lines[1]["dialect"], "0.3");
        refused += 1;
        // Each case is a process; a spread of them shows the rule, the core's own tests run them all.
        if refused == 24 {
            break;
        }
    }
    assert!(refused > 10);
}

#[test]
fn a_wrong_checksum_is_shown_and_fails_and_leaves_no_payload() {
    let folder = tempfile::tempdir().unwrap();
    let frame = fs::read(repository("test-vectors/parity/tiny-qwen2/context.avp")).unwrap();
    let payload = folder.path().join("payload");
    let arguments =
        ["inspect".as_ref(), "-".as_ref(), "--json".as_ref(), "--payload".as_ref(), payload.as_os_str()];
    // The Python package wrote no checksum before 0.4.1: the frame is sound either way.
    assert!(avp_with_input(arguments, &frame).status.success());
    let sound = fs::read(&payload).unwrap();
    assert_eq!(sound, fs::read(repository("test-vectors/parity/tiny-qwen2/kv/ascii-8.kv")).unwrap());
    fs::remove_file(&payload).unwrap();

    let summed = cases("frames-0.6.2.json")
        .into_iter()
        .find(|case| {
            case["expect"]["payload_bytes"].as_u64() > Some(0) && case["expect"]["compressed"] == false
        })
        .unwrap();
    let mut wrong = hex(summed["input"]["hex"].as_str().unwrap());
    *wrong.last_mut().unwrap() ^= 1;
    let output = avp_with_input(arguments, &wrong);
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["checksum"]["ok"], false);
    assert!(!payload.exists());
}

#[test]
fn a_body_that_unpacks_to_more_than_the_limit_is_refused() {
    let packed =
        cases("frames-0.2.1.json").into_iter().find(|case| case["expect"]["compressed"] == true).unwrap();
    let frame = hex(packed["input"]["hex"].as_str().unwrap());
    let size = packed["expect"]["payload_bytes"].as_u64().unwrap();
    let output = avp_with_input(["inspect", "--json", "-", "--limit", &(size - 1).to_string()], &frame);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["error"]["kind"], "decompressed_too_large");
    assert!(avp_with_input(["inspect", "-", "--limit", &size.to_string()], &frame).status.success());
}

#[test]
fn a_person_reads_the_caches_shape_and_no_control_characters() {
    let frame = repository("test-vectors/parity/tiny-llama/context.avp");
    let output = avp(["inspect".as_ref(), frame.as_os_str()]);
    let report = text(stdout(&output));
    assert!(
        report.contains("42 tokens, 3 layers of 3 KV heads, 8 wide, float32, 576 bytes per token"),
        "{report}"
    );
    assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "{report:?}");
}

#[test]
fn a_missing_file_is_an_entry_of_its_own() {
    let output = avp(["inspect", "--json", "/no/such/frame.avp"]);
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["error"]["kind"], "io");
    assert_eq!(line["error"]["offset"], Value::Null);
    assert!(failure(&avp(["inspect", "a", "b", "--payload", "c"])).contains("--payload takes one file"));
}
