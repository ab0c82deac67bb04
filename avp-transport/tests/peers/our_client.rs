//! Our client against the packages' own FastAPI app.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use avp_core::{
    Chunk, Compression, DType, Dialect, FrameEncoder, Metadata, Mode, OwnedModelIdentity, PayloadType, Rule,
    crc32, hybrid, json::Json, messages::JsonMessage,
};
use avp_transport::client::{Client, ClientError, ClientOptions, FrameBody, Sent, Token, blocking};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    common::body,
    python::{NEW, OLD, Peer},
};

/// The app of a release under uvicorn, until it is dropped.
struct App {
    child: Child,
    url: String,
}

impl App {
    /// `None`, visibly, where the release is not there.
    fn start(peer: Peer, arguments: &[&str]) -> Option<Self> {
        let mut script = peer.script("serve.py")?;
        script.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Some(Self { child, url: format!("http://127.0.0.1:{}", told["port"]) })
    }

    fn options(peer: Peer) -> ClientOptions {
        ClientOptions {
            agent_id: "researcher".to_owned(),
            identity: Some(identity()),
            token: Some(Token::new("s3cret").unwrap()),
            dialect: peer.dialect,
            ..Default::default()
        }
    }

    fn client(&self, peer: Peer) -> Client {
        Client::new(&self.url, Self::options(peer)).unwrap()
    }

    /// The headers that the app has seen last on `path`.
    async fn seen(&self, path: &str) -> Value {
        // Fails where another test has done so already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seen = reqwest::get(format!("{}/seen", self.url)).await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&seen).unwrap()[path].take()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn identity() -> OwnedModelIdentity {
    OwnedModelIdentity {
        model_family: "qwen2".into(),
        model_id: "Qwen/Qwen2.5-0.5B".into(),
        model_hash: "ab".repeat(32),
        hidden_dim: 896,
        num_layers: 24,
        ..Default::default()
    }
}

struct Kind {
    fields: Metadata<'static>,
    payload: Vec<u8>,
    compression: Compression,
    text: Option<&'static str>,
}

fn kinds(dialect: Dialect) -> Vec<Kind> {
    let full = Metadata {
        session_id: "s-1",
        source_agent_id: "réseau",
        target_agent_id: "智能体",
        model_id: "Qwen/Qwen2.5-0.5B",
        hidden_dim: 896,
        num_layers: 24,
        payload_type: PayloadType::KvCache,
        dtype: DType::Float16,
        avp_map_id: "vocab:0123456789abcdef",
        extra: (&[("num_steps", "8"), ("model_hash", "ab")]).into(),
        ..Default::default()
    };
    let hidden =
        Metadata { payload_type: PayloadType::HiddenState, tensor_shape: (&[1, 896]).into(), ..full };
    let plain = |fields, len| Kind { fields, payload: body(len), compression: Compression::None, text: None };
    let mut kinds = vec![plain(full, 300_000), plain(hidden, 3584), plain(Metadata::default(), 0)];
    kinds.push(plain(Metadata { mode: Mode::Json, ..full }, 20));
    for compression in [Compression::Fast, Compression::Balanced, Compression::Max] {
        kinds.push(Kind { compression, ..plain(full, 300_000) });
    }
    if dialect == Dialect::V0_2 {
        let mixed = Metadata { mode: Mode::Hybrid, ..full };
        kinds.push(Kind { text: Some("résumé"), ..plain(mixed, 5000) });
        kinds.push(plain(Metadata { payload_type: PayloadType::Embedding, ..full }, 64));
    }
    kinds
}

impl Kind {
    fn encode(&self, dialect: Dialect) -> Bytes {
        let body = match self.text {
            Some(text) => hybrid::encode(&[Chunk::latent(&self.payload, 0.75), Chunk::text(text, 1.0)]),
            None => self.payload.clone(),
        };
        let encoder = FrameEncoder::new(self.fields).dialect(dialect).compression(self.compression);
        encoder.encode(&body).unwrap().into()
    }

    /// What the package must have decoded.
    fn check(&self, reply: &Value) {
        let fields = &self.fields;
        let extra: serde_json::Map<String, Value> =
            fields.extra.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let expected = json!({
            "success": true,
            "session_id": fields.session_id,
            "source_agent_id": fields.source_agent_id,
            "target_agent_id": fields.target_agent_id,
            "model_id": fields.model_id,
            "hidden_dim": fields.hidden_dim,
            "num_layers": fields.num_layers,
            "payload_type": fields.payload_type,
            "mode": fields.mode,
            "avp_map_id": fields.avp_map_id,
            "extra": extra,
            "text": self.text,
            "payload_bytes": self.payload.len(),
            "payload_crc32": crc32(&self.payload),
        });
        assert_eq!(*reply, expected);
    }
}

fn told(receipt: &avp_transport::client::Receipt) -> Value {
    serde_json::from_str(&receipt.reply().to_string()).unwrap()
}

async fn frames(peer: Peer) {
    let Some(app) = App::start(peer, &[]) else { return };
    let client = app.client(peer);
    client.health().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frame.avp");
    for kind in kinds(peer.dialect) {
        let frame = kind.encode(peer.dialect);
        std::fs::write(&path, &frame).unwrap();
        let cut = frame.len() / 2;
        for body in [
            FrameBody::bytes(frame.clone()),
            FrameBody::parts([frame.slice(..cut), frame.slice(cut..)]),
            FrameBody::slice(&frame),
            FrameBody::file(&path),
            FrameBody::reader(std::io::Cursor::new(frame.clone())),
        ] {
            kind.check(&told(&client.transmit(body).await.unwrap()));
        }
    }
    let headers = app.seen("/avp/v2/transmit").await;
    let version = if peer.version == NEW.version { "0.4" } else { "0.2" };
    assert_eq!(headers["avp-version"], version);
    assert_eq!(headers["content-type"], "application/avp+binary");
    assert_eq!(headers["avp-agent-id"], "researcher");
    assert_eq!(headers["authorization"], "Bearer s3cret");

    let large = Kind { payload: body(128 << 20), ..kinds(peer.dialect).swap_remove(0) };
    std::fs::write(&path, large.encode(peer.dialect)).unwrap();
    large.check(&told(&client.transmit(FrameBody::file(&path)).await.unwrap()));
}

/// Handshakes, words, and what goes wrong.
async fn words(peer: Peer) {
    let Some(app) = App::start(peer, &[]) else { return };
    // Without a handler of its own, the package sends our identity back.
    let client = app.client(peer);
    let session = client.handshake().await.unwrap();
    assert_eq!((session.mode, session.rule, session.id.len()), (Mode::Latent, Rule::HashMatch, 32));
    assert_eq!(session.remote.agent_id, "researcher");
    assert_eq!(session.dialect, peer.dialect);
    let message = JsonMessage {
        session_id: session.id.clone(),
        content: "résumé 🤝".to_owned(),
        extra: Json::object([("steps", 8.into())]),
        ..Default::default()
    };
    let reply = told(&client.send_text(&message).await.unwrap());
    assert_eq!(reply["heard"], serde_json::from_str::<Value>(&message.to_string()).unwrap());

    // An agent without a model has nothing that a peer could read but words.
    let options = ClientOptions { identity: None, ..App::options(peer) };
    let stranger = Client::new(&app.url, options).unwrap();
    let sent = stranger.send(frame(peer, "m"), |_| message.clone()).await.unwrap();
    assert!(matches!(&sent, Sent::Text(receipt) if told(receipt)["heard"]["content"] == "résumé 🤝"));
    let sent = client.send(frame(peer, "m"), |_| message.clone()).await.unwrap();
    assert!(matches!(&sent, Sent::Latent(receipt) if told(receipt)["session_id"] == *session.id));

    let raised = client.transmit(frame(peer, "raise")).await.unwrap_err();
    assert!(matches!(raised, ClientError::Refused { status: 500, .. }), "{raised}");
    // Behind that, uvicorn closes the connection without having said so, and the client finds another.
    let missing = client.fetch_context("none").to_memory().await.unwrap_err();
    assert!(matches!(missing, ClientError::Refused { status: 404, .. }), "{missing}");
    let encoder = FrameEncoder::new(Metadata::default()).dialect(peer.dialect);
    let mut broken = encoder.compression(Compression::Fast).encode(&body(1000)).unwrap();
    *broken.last_mut().unwrap() ^= 1;
    match client.transmit(FrameBody::bytes(broken)).await.unwrap_err() {
        ClientError::Refused { status: 400, message, .. } => assert!(!message.is_empty()),
        other => panic!("{other}"),
    }
    client.health().await.unwrap();

    let url = app.url.clone();
    let blocking = move || {
        let client = blocking::Client::new(&url, App::options(peer)).unwrap();
        client.health().unwrap();
        told(&client.transmit(frame(peer, "m")).unwrap())
    };
    assert_eq!(tokio::task::spawn_blocking(blocking).await.unwrap()["payload_bytes"], 6);
}

fn frame(peer: Peer, model_id: &'static str) -> FrameBody<'static> {
    let encoder = FrameEncoder::new(Metadata { model_id, ..Default::default() });
    FrameBody::bytes(encoder.dialect(peer.dialect).encode(b"tensor").unwrap())
}

/// An app that greets by itself, and one that takes no words.
async fn apps_of_another_kind(peer: Peer) {
    let Some(app) = App::start(peer, &["--handshake", "--no-text"]) else { return };
    let client = app.client(peer);
    let session = client.session().await.unwrap();
    assert_eq!((session.id.as_str(), session.remote.agent_id.as_str()), ("peer's session", "peer"));
    assert_eq!(session.mode, Mode::Latent);
    let sent = client.send(frame(peer, "m"), |_| JsonMessage::default()).await.unwrap();
    assert_eq!(told(sent.receipt())["session_id"], "peer's session");
    match client.send_text(&JsonMessage::default()).await.unwrap_err() {
        ClientError::Refused { status, message, .. } => {
            assert_eq!((status, message.as_str()), (501, "Text handler not configured"));
        }
        other => panic!("{other}"),
    }
    let headers = app.seen("/avp/v2/handshake").await;
    assert_eq!(
        (&headers["content-type"], &headers["authorization"]),
        (&json!("application/json"), &json!("Bearer s3cret"))
    );
}

#[tokio::test]
async fn the_app_of_avp_0_2_1_reads_our_frames() {
    frames(OLD).await;
}

#[tokio::test]
async fn the_app_of_avp_0_6_2_reads_our_frames() {
    frames(NEW).await;
}

#[tokio::test]
async fn the_app_of_avp_0_2_1_hears_our_words() {
    words(OLD).await;
}

#[tokio::test]
async fn the_app_of_avp_0_6_2_hears_our_words() {
    words(NEW).await;
}

#[tokio::test]
async fn an_app_of_avp_0_2_1_may_name_the_session_and_take_no_words() {
    apps_of_another_kind(OLD).await;
}

#[tokio::test]
async fn an_app_of_avp_0_6_2_may_name_the_session_and_take_no_words() {
    apps_of_another_kind(NEW).await;
}
