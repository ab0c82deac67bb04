//! The packages' own client against our server.

use std::{path::Path, sync::Arc};

use avp_core::{FrameLimits, OwnedFrame, OwnedModelIdentity, messages::JsonMessage};
use avp_transport::{
    server::{
        ContextHandler, ErrorResponse, Handler, IncomingFrame, Limits, ListenOptions, RequestInfo,
        ServerOptions, Service, Tokens,
    },
    store::{ContextStore, StoreOptions, StoredContext},
    wire::Reply,
};
use serde_json::{Value, json};

use crate::{
    common::Running,
    python::{NEW, OLD, Peer, output},
    tls::Certified,
};

/// Bytes of the largest payload.
const LARGE: usize = 128 << 20;

/// The same over HTTP/2: the package's client copies what is left of a body for every piece that it sends of it, and does not
/// look at an answer while it waits for the window to open, so what is refused must fit into the window.
const LARGE_HTTP2: usize = 4 << 20;

/// An agent as a program has it: the stock handler, which also listens to words.
struct Agent(ContextHandler);

impl Handler for Agent {
    async fn handshake(
        &self,
        hello: avp_core::messages::Hello,
        info: &RequestInfo,
    ) -> Result<Reply, ErrorResponse> {
        self.0.handshake(hello, info).await
    }

    async fn transmit(&self, frame: IncomingFrame, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.0.transmit(frame, info).await
    }

    async fn text(&self, message: JsonMessage, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        self.0.check_session(&message.session_id)?;
        Ok(Reply::new().with("heard", message.content).with("from", info.agent_id.as_str()))
    }

    async fn context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> Result<Option<Arc<StoredContext>>, ErrorResponse> {
        self.0.context(id, info).await
    }
}

fn identity() -> OwnedModelIdentity {
    OwnedModelIdentity {
        model_family: "qwen2".into(),
        model_hash: "ab".repeat(32),
        hidden_dim: 896,
        num_layers: 24,
        ..Default::default()
    }
}

/// Runs the script `send.py` against a server of ours, and checks all that came of it.
async fn serve(peer: Peer, certified: Option<Certified>) {
    let Some(mut script) = peer.script("send.py") else { return };
    let stock =
        ContextHandler::new("server", ContextStore::in_memory(StoreOptions::default())).identity(identity());
    let large = if certified.is_some() { LARGE_HTTP2 } else { LARGE };
    let frame = FrameLimits { frame: large as u64 + 1024, ..Default::default() };
    let limits = Limits { frame, ..Default::default() };
    let options = ServerOptions { limits, tokens: Tokens::new(["s3cret"]), ..Default::default() };
    let service = Service::new(Agent(stock), options);
    let tls = certified.as_ref().map(|certified| certified.server.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = Running::start(service.clone(), ListenOptions { tls, ..Default::default() }).await;

    let folder = tempfile::tempdir().unwrap();
    if let Some(certified) = &certified {
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, &certified.authority).unwrap();
        script.env("SSL_CERT_FILE", authority);
    }
    script.arg(format!("{scheme}://{}", server.address)).arg(folder.path()).args(["--token", "s3cret"]);
    script.args(["--large", &large.to_string()]);
    let found: Value = serde_json::from_slice(&output(script).await).unwrap();
    assert_eq!(found["peer"], peer.version);

    let session = &found["session"];
    assert_eq!((&session["mode"], &session["remote"]["num_layers"]), (&json!("latent"), &json!(24)));
    assert!(service.handler().0.sessions().get(session["id"].as_str().unwrap()).is_some());
    assert_eq!(found["other"]["mode"], "json", "another model");
    assert_ne!(found["other"]["id"], session["id"]);
    assert_eq!(found["health"], json!({ "status": "ok" }));
    assert_eq!(found["text"]["reply"], json!({ "success": true, "heard": "résumé", "from": "researcher" }));
    let sent = found["sent"].as_array().unwrap();
    let version = if certified.is_some() { "HTTP/2" } else { "HTTP/1.1" };
    for frame in sent {
        assert_eq!(frame["version"], version, "{frame}");
        check(&service.handler().0, folder.path(), frame, peer, large).await;
    }
    refusals(&found["refused"]);
}

/// What was kept is what was sent, to the byte, and reads as what it is.
async fn check(stock: &ContextHandler, folder: &Path, sent: &Value, peer: Peer, large: usize) {
    let name = sent["name"].as_str().unwrap();
    let frame = std::fs::read(folder.join(name)).unwrap();
    assert_eq!((&sent["reply"]["success"], &sent["reply"]["bytes"]), (&json!(true), &frame.len().into()));
    let kept = stock.contexts().get(sent["reply"]["context_id"].as_str().unwrap()).unwrap();
    let bytes = kept.bytes().await.unwrap();
    assert!(bytes == frame, "{name} is kept otherwise than it was sent");
    assert_eq!(sent["reply"]["etag"], kept.etag());
    let owned = OwnedFrame::decode(bytes).unwrap();
    let frame = owned.frame();
    assert!(frame.dialect().is_none_or(|dialect| dialect == peer.dialect), "{name}");
    assert_eq!(frame.metadata().payload_checksum.is_some(), peer.version == NEW.version, "{name}");
    assert_eq!(frame.is_compressed(), name.contains("zstd"), "{name}");
    let payload = owned.payload(avp_core::DEFAULT_PAYLOAD_LIMIT).unwrap();
    if name == "large" {
        assert_eq!(payload.len(), large);
    }
}

/// The package's exceptions carry our status and our words.
fn refusals(found: &Value) {
    for (name, status, code) in [
        ("unknown_session", 410, "session_expired"),
        ("metadata_too_large", 413, "metadata_too_large"),
        ("frame_too_large", 413, "frame_too_large"),
        ("wrong_token", 401, "unauthorized"),
    ] {
        let words = found[name]["words"].as_str().unwrap_or_else(|| panic!("{name}: {found}"));
        assert_eq!(found[name]["status"], status, "{name}: {words}");
        assert!(
            words.starts_with(&format!("Transmit failed: {status} {{\"success\":false,\"code\":\"{code}\"")),
            "{words}"
        );
    }
    let words = found["wrong_token_hello"]["handshake"].as_str().unwrap();
    assert!(words.starts_with("Handshake failed: 401 {"), "{words}");
    assert_eq!(found["after_refusals"]["reply"]["success"], true, "the same client goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avp_0_2_1_speaks_to_our_server() {
    serve(OLD, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avp_0_6_2_speaks_to_our_server() {
    serve(NEW, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avp_0_2_1_speaks_to_our_server_over_tls_by_http_2() {
    serve(OLD, Some(Certified::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avp_0_6_2_speaks_to_our_server_over_tls_by_http_2() {
    serve(NEW, Some(Certified::new())).await;
}
