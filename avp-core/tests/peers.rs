//! Frames that this crate writes, read by the Python packages themselves.
//!
//! `cargo xtask test` installs the packages and names their interpreters in the environment; without them there is
//! nothing to ask, and the tests say so.
#![cfg(all(feature = "std", feature = "serde", feature = "zstd"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use avp_core::{
    Chunk, Compression, DType, Dialect, Frame, FrameEncoder, KvDType, KvHeader, Metadata, Mode, PayloadType,
    crc32, hybrid, kv,
};
use serde_json::{Value, json};

/// What a frame is made of, and so what the peer must read.
struct Case {
    fields: Metadata<'static>,
    payload: Vec<u8>,
    compression: Compression,
    text: Option<&'static str>,
    is_signed: bool,
}

fn cases(dialect: Dialect) -> Vec<Case> {
    let full = Metadata {
        session_id: "s-1",
        source_agent_id: "réseau",
        target_agent_id: "智能体 🤝",
        model_id: "Qwen/Qwen2.5-0.5B",
        hidden_dim: 896,
        num_layers: 24,
        dtype: DType::Float16,
        tensor_shape: (&[1, 300, u32::MAX]).into(),
        avp_map_id: "vocab:0123456789abcdef",
        extra: (&[("num_steps", "8"), ("model_hash", "ab"), ("", "line\nbreak")]).into(),
        ..Metadata::default()
    };
    let header =
        KvHeader { num_layers: 1, num_kv_heads: 2, head_dim: 3, seq_len: 2, dtype: KvDType::Float32 };
    let cache = kv::encode(header, [([1; 48], [2; 48])]).unwrap();
    let kv_cache = Metadata { payload_type: PayloadType::KvCache, dtype: DType::Float32, ..full };
    let case = |fields, payload: &[u8]| Case {
        fields,
        payload: payload.to_vec(),
        compression: Compression::None,
        text: None,
        is_signed: false,
    };
    let mut cases = vec![
        case(Metadata::default(), b""),
        case(full, &[7; 1000]),
        case(kv_cache, &cache),
        case(Metadata { mode: Mode::Json, ..full }, br#"{"content":"hi"}"#),
    ];
    for compression in [Compression::Fast, Compression::Balanced, Compression::Max] {
        cases.push(Case { compression, ..case(kv_cache, &cache) });
    }
    if cfg!(feature = "sign") {
        cases.push(Case { is_signed: true, ..case(full, &[7; 1000]) });
        cases.push(Case { is_signed: true, compression: Compression::Fast, ..case(kv_cache, &cache) });
    }
    if dialect == Dialect::V0_2 {
        let hybrid = Metadata { mode: Mode::Hybrid, confidence_score: Some(0.5), ..full };
        cases.push(Case { text: Some("résumé"), ..case(hybrid, b"latent bytes") });
        cases.push(case(Metadata { payload_type: PayloadType::Embedding, ..full }, &[1; 16]));
    }
    cases
}

impl Case {
    fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let body = match self.text {
            Some(text) => hybrid::encode(&[Chunk::latent(&self.payload, 0.75), Chunk::text(text, 1.0)]),
            None => self.payload.clone(),
        };
        let encoder = FrameEncoder::new(self.fields).dialect(dialect).compression(self.compression);
        let frame = encoder.encode(&body).unwrap();
        #[cfg(feature = "sign")]
        if self.is_signed {
            use avp_core::sign::{SignOptions, SigningKey, sign_frame};

            let options =
                SignOptions { audience: "réseau", signed_at: 1_700_000_000, valid_for: 600, nonce: [9; 16] };
            return sign_frame(&frame, &SigningKey::from_seed(&[7; 32]), &options).unwrap();
        }
        frame
    }

    fn expect(&self, dialect: Dialect) -> Value {
        let fields = &self.fields;
        let frame = self.encode(dialect);
        let written =
            if self.is_signed { Frame::decode(&frame).unwrap().metadata().extra } else { fields.extra };
        let extra: serde_json::Map<String, Value> =
            written.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let mut expected = json!({
            "version": 1,
            "session_id": fields.session_id,
            "source_agent_id": fields.source_agent_id,
            "target_agent_id": fields.target_agent_id,
            "model_id": fields.model_id,
            "hidden_dim": fields.hidden_dim,
            "num_layers": fields.num_layers,
            "payload_type": fields.payload_type,
            "dtype": fields.dtype,
            "tensor_shape": fields.tensor_shape,
            "mode": fields.mode,
            "avp_map_id": fields.avp_map_id,
            "extra": extra,
            "compressed": self.compression != Compression::None,
            "payload_hex": hex(&self.payload),
            "text": self.text,
        });
        if dialect == Dialect::V0_3 {
            expected["checksum"] = json!(crc32(&self.payload));
        }
        expected
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn peer_reads(variable: &str, dialect: Dialect) {
    let Some(python) = std::env::var_os(variable) else {
        eprintln!("{variable} names no interpreter: nothing to ask");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/parity/roundtrip_peer.py");
    let folder = std::env::temp_dir().join(format!("avp-core-peers-{}-{variable}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let cases = cases(dialect);
    let files: Vec<PathBuf> = (0..cases.len()).map(|index| folder.join(format!("{index}.avp"))).collect();
    for (case, file) in cases.iter().zip(&files) {
        std::fs::write(file, case.encode(dialect)).unwrap();
    }
    let output = Command::new(python).arg(script).args(&files).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), cases.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for (index, (case, answer)) in cases.iter().zip(&answers).enumerate() {
        for (key, expected) in case.expect(dialect).as_object().unwrap() {
            assert_eq!(&answer[key], expected, "frame {index}, {key}: {answer}");
        }
    }
}

#[test]
fn avp_0_2_1_reads_our_0_2_frames_as_we_meant_them() {
    peer_reads("AVP_PEER_0_2_1_PYTHON", Dialect::V0_2);
}

#[test]
fn avp_0_6_2_reads_our_0_3_frames_as_we_meant_them() {
    peer_reads("AVP_PEER_0_6_2_PYTHON", Dialect::V0_3);
}
