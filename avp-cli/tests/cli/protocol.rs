//! `avp encode`, `hash`, `identity` and `handshake`, held to the same vectors as the core.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::common::{avp, avp_with_input, cases, failure, hex, repository, stdout, text};

#[test]
fn what_inspect_prints_encode_writes_again() {
    let folder = tempfile::tempdir().unwrap();
    let (frame, again, meta, payload) = (
        folder.path().join("frame.avp"),
        folder.path().join("again.avp"),
        folder.path().join("meta.json"),
        folder.path().join("payload"),
    );
    for (version, dialect) in [("0.2.1", "0.2"), ("0.6.2", "0.3")] {
        let mut same_bytes = 0;
        for case in cases(&format!("frames-{version}.json")) {
            let bytes = hex(case["input"]["hex"].as_str().unwrap());
            fs::write(&frame, &bytes).unwrap();
            let printed = avp([
                "inspect".as_ref(),
                "--json".as_ref(),
                frame.as_os_str(),
                "--payload".as_ref(),
                payload.as_os_str(),
            ]);
            let mut record: Value = serde_json::from_slice(stdout(&printed)).unwrap();
            fs::write(&meta, record.to_string()).unwrap();
            stdout(&avp([
                "encode".as_ref(),
                "--meta".as_ref(),
                meta.as_os_str(),
                "--payload".as_ref(),
                payload.as_os_str(),
                "--dialect".as_ref(),
                dialect.as_ref(),
                "-o".as_ref(),
                again.as_os_str(),
            ]));
            let printed = avp(["inspect".as_ref(), "--json".as_ref(), again.as_os_str()]);
            let mut rewritten: Value = serde_json::from_slice(stdout(&printed)).unwrap();
            // Only these may differ: encode was not asked to compress, and the file has another name.
            for key in ["file", "flags", "compressed", "payload_length", "metadata_length"] {
                record[key] = Value::Null;
                rewritten[key] = Value::Null;
            }
            assert_eq!(rewritten, record, "{}", case["name"]);
            // The vectors say where the peer's bytes are the only right ones; chunks of hybrid frames have confidences of
            // their own, which the command line does not.
            if case["rewrite"]["as"] == "bytes" && case["expect"]["mode"] != "hybrid" {
                assert_eq!(fs::read(&again).unwrap(), bytes, "{}", case["name"]);
                same_bytes += 1;
            }
        }
        assert!(same_bytes > 0, "{version}");
    }
}

#[test]
fn encode_takes_json_in_place_and_compresses_and_adds_text() {
    let payload = vec![7; 10_000];
    let encode = |arguments: &[&str]| {
        let fixed =
            ["encode", "--meta", r#"{"model_id":"m","extra":{"a":"b"}}"#, "--payload", "-", "-o", "-"];
        stdout(&avp_with_input(fixed.iter().chain(arguments), &payload)).to_vec()
    };
    let inspect = |frame: &[u8]| -> Value {
        serde_json::from_slice(stdout(&avp_with_input(["inspect", "--json", "-"], frame))).unwrap()
    };
    let plain = encode(&[]);
    let packed = encode(&["--zstd", "3"]);
    assert!(packed.len() * 10 < plain.len());
    assert_eq!(inspect(&packed)["payload_sha256"], inspect(&plain)["payload_sha256"]);
    let hybrid = inspect(&encode(&["--dialect", "0.2", "--text", "résumé"]));
    assert_eq!((&hybrid["mode"], &hybrid["text"]), (&"hybrid".into(), &"résumé".into()));
    assert_eq!(hybrid["payload_bytes"], 10_000);
}

#[test]
fn the_report_of_a_hybrid_frame_counts_the_payload_as_inspect_does() {
    let folder = tempfile::tempdir().unwrap();
    let frame = folder.path().join("frame.avp").display().to_string();
    let arguments = [
        "encode",
        "--meta",
        "{}",
        "--payload",
        "-",
        "--dialect",
        "0.2",
        "--text",
        "text",
        "--json",
        "-o",
        &frame,
    ];
    let report: Value = serde_json::from_slice(stdout(&avp_with_input(arguments, b"tensors"))).unwrap();
    let record: Value = serde_json::from_slice(stdout(&avp(["inspect", "--json", &frame]))).unwrap();
    assert_eq!((&report["payload_bytes"], &record["payload_bytes"]), (&7.into(), &7.into()));
}

#[test]
fn each_zstd_level_writes_other_bytes_and_the_report_names_it() {
    let folder = tempfile::tempdir().unwrap();
    // Words in a changing order, which the levels compress differently well.
    let payload: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 997).into_bytes())
        .collect();
    let sizes: Vec<u64> = ["1", "3", "19"]
        .into_iter()
        .map(|level| {
            let frame = folder.path().join(level).display().to_string();
            let arguments =
                ["encode", "--meta", "{}", "--payload", "-", "--zstd", level, "--json", "-o", &frame];
            let output = avp_with_input(arguments, &payload);
            let report: Value = serde_json::from_slice(stdout(&output)).unwrap();
            let requested: i64 = level.parse().unwrap();
            assert_eq!(
                (&report["zstd_level"], &report["requested_zstd_level"]),
                (&requested.into(), &requested.into())
            );
            assert_eq!(report["payload_bytes"], payload.len());
            assert_eq!(report["frame_bytes"], fs::metadata(frame).unwrap().len());
            assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
            report["frame_bytes"].as_u64().unwrap()
        })
        .collect();
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    let both = ["encode", "--meta", "{}", "--payload", "-", "--json", "-o", "-"];
    assert!(failure(&avp_with_input(both, b"x")).contains("standard output"));
}

#[test]
fn encode_aligns_the_first_tensor_byte() {
    let encode = |align: &str| {
        let arguments =
            ["encode", "--meta", r#"{"model_id":"m"}"#, "--payload", "-", "--align", align, "-o", "-"];
        avp_with_input(arguments, b"tensor bytes")
    };
    for align in ["1", "64", "4096"] {
        let frame = encode(align);
        let body = stdout(&frame).len() - b"tensor bytes".len();
        assert_eq!(body % align.parse::<usize>().unwrap(), 0);
        assert!(stdout(&frame).ends_with(b"tensor bytes"));
    }
    assert!(failure(&encode("48")).contains("48"));
}

#[test]
fn encode_refuses_what_a_dialect_lacks_and_keys_that_mean_nothing() {
    let refuse = |arguments: &[&str]| {
        let fixed = ["encode", "--payload", "-", "-o", "-"];
        failure(&avp_with_input(fixed.iter().chain(arguments), b"x")).to_owned()
    };
    assert!(refuse(&["--meta", "{}", "--text", "t", "--dialect", "0.3"]).contains("hybrid"));
    assert!(refuse(&["--meta", r#"{"modle_id":"m"}"#]).contains("modle_id"));
    assert!(refuse(&["--meta", r#"{"dtype":"float8"}"#]).contains("float8"));
    assert!(refuse(&["--meta", "/no/such/file"]).contains("/no/such/file"));
}

#[test]
fn hashes_and_identities_are_the_peers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input.json");
    let mut seen = [0; 3];
    for case in cases("hashes.json") {
        fs::write(&file, case["input"]["json"].as_str().unwrap()).unwrap();
        let run = |command: &[&str]| {
            let output = avp(command.iter().map(AsRef::as_ref).chain([file.as_os_str()]));
            text(stdout(&output)).trim().to_owned()
        };
        let kind = match case["operation"].as_str().unwrap() {
            "hash.model" if seen[0] < 12 => {
                assert_eq!(run(&["hash", "model"]), case["expect"]["sha256"].as_str().unwrap());
                0
            }
            "hash.tokenizer" => {
                assert_eq!(run(&["hash", "tokenizer"]), case["expect"]["sha256"].as_str().unwrap());
                1
            }
            "identity" => {
                let identity: Value = serde_json::from_str(&run(&["identity"])).unwrap();
                for (key, expected) in case["expect"].as_object().unwrap() {
                    assert_eq!(&identity[key], expected, "{}", case["name"]);
                }
                2
            }
            _ => continue,
        };
        seen[kind] += 1;
    }
    assert!(seen.iter().all(|&count| count > 4), "{seen:?}");
}

#[test]
fn the_identity_of_a_folder_has_its_tokenizers_hash() {
    let folder = repository("test-vectors/parity/tiny-qwen2");
    let identity: Value =
        serde_json::from_slice(stdout(&avp(["identity".as_ref(), folder.as_os_str()]))).unwrap();
    let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    assert_eq!(identity["tokenizer_hash"], record["identity"]["tokenizer_hash"]);
    let tokenizer = folder.join("tokenizer.json");
    let hash = avp(["hash".as_ref(), "tokenizer".as_ref(), tokenizer.as_os_str()]);
    assert_eq!(text(stdout(&hash)).trim(), identity["tokenizer_hash"]);
}

#[test]
fn a_handshake_takes_configs_and_refuses_what_names_no_model() {
    let config = repository("models/facts/config.json").display().to_string();
    let same: Value =
        serde_json::from_slice(stdout(&avp(["handshake", "--json", &config, &config]))).unwrap();
    assert_eq!(same["resolution_path"], "hash_match");
    let folder = tempfile::tempdir().unwrap();
    for nothing in ["{}", "[]", r#"["qwen2","m","h",1,1,1,1]"#, r#"{"identity":{}}"#] {
        let file = folder.path().join("nothing.json");
        fs::write(&file, nothing).unwrap();
        let file = file.display().to_string();
        assert!(failure(&avp(["handshake", &file, &config])).contains("avp identity"), "{nothing}");
    }
}

#[test]
fn a_handshake_finds_a_map_that_is_kept_for_the_pair() {
    let folder = tempfile::tempdir().unwrap();
    let identity = |digit: &str| {
        let file = folder.path().join(format!("{digit}.json"));
        let family = format!("family {digit}");
        fs::write(&file, json!({ "model_family": family, "model_hash": digit.repeat(64) }).to_string())
            .unwrap();
        file
    };
    let (local, remote) = (identity("a"), identity("b"));
    let rule = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_avp"));
        command.args(["handshake", "--json"]).args([&local, &remote]).env("AVP_MAP_DIR", folder.path());
        let answer: Value = serde_json::from_slice(stdout(&command.output().unwrap())).unwrap();
        answer["resolution_path"].clone()
    };
    assert_eq!(rule(), "json_fallback");
    fs::write(folder.path().join(format!("{}_{}.avp-map", "a".repeat(16), "b".repeat(16))), "").unwrap();
    assert_eq!(rule(), "avp_map_file");
}

#[test]
fn handshakes_end_as_the_peers_do() {
    let folder = tempfile::tempdir().unwrap();
    let (local, remote) = (folder.path().join("local.json"), folder.path().join("remote.json"));
    let resolved =
        cases("handshake.json").into_iter().filter(|case| case["operation"] == "handshake.resolve");
    // Each case is a process; the core's own tests run them all.
    for case in resolved.step_by(4) {
        let input = &case["input"];
        fs::write(&local, input["local"].to_string()).unwrap();
        fs::write(&remote, json!({ "agent_id": "b", "identity": input["remote"] }).to_string()).unwrap();
        let shared = input["shared_tokens"].as_u64().map(|count| count.to_string());
        let mut arguments =
            vec!["handshake".as_ref(), "--json".as_ref(), local.as_os_str(), remote.as_os_str()];
        if let Some(shared) = &shared {
            arguments.push("--shared-tokens".as_ref());
            arguments.push(shared.as_ref());
        }
        let answer: Value = serde_json::from_slice(stdout(&avp(arguments))).unwrap();
        for (key, expected) in case["expect"].as_object().unwrap() {
            assert_eq!(&answer[key], expected, "{} {key}", case["name"]);
        }
        assert!(answer["differences"].is_array());
    }
}
