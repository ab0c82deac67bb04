//! What each endpoint answers, and what the server counts.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use avp_core::{Compression, Dialect, FrameEncoder, FrameLimits, Metadata, PayloadType};
use avp_transport::{
    server::{
        ContextHandler, ErrorResponse, FairShares, Handler, IncomingBody, IncomingFrame, Limits,
        ListenOptions, RequestInfo, ResponseBody, ServerOptions, Service, Tokens,
    },
    store::{ContextStore, StoreOptions, StoredContext},
    wire::{self, Reply},
};
use http::{Method, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::common::{Running, answer, frame, frame_of, stock};

fn limits(limits: Limits) -> ServerOptions {
    ServerOptions { limits, ..Default::default() }
}

#[tokio::test]
async fn a_405_lists_the_methods_of_its_path() {
    let server = Running::stock(ServerOptions::default()).await;
    for (method, path, allowed) in [
        (Method::POST, wire::HEALTH, "GET,HEAD"),
        (Method::PUT, wire::METRICS, "GET,HEAD"),
        (Method::GET, wire::HANDSHAKE, "POST"),
        (Method::GET, wire::TEXT, "POST"),
        (Method::HEAD, wire::TRANSMIT, "POST"),
        (Method::PUT, "/avp/v2/contexts/c1", "DELETE,GET,HEAD,POST"),
    ] {
        let response = server.http.request(method.clone(), server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        let mut methods: Vec<_> = response.headers()[header::ALLOW].to_str().unwrap().split(',').collect();
        methods.sort_unstable();
        assert_eq!(methods.join(","), allowed, "{method} {path}");
        if method != Method::HEAD {
            let reply: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            assert_eq!(reply["code"], "method_not_allowed");
        }
    }
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let server = Running::stock(ServerOptions::default()).await;
    for path in [wire::HEALTH, wire::METRICS, "/avp/v2/contexts/unknown", "/unknown"] {
        let get = server.get(path).await;
        let head = server.http.head(server.url(path)).send().await.unwrap();
        assert_eq!(head.status(), get.status(), "{path}");
        assert_eq!(head.headers()[header::CONTENT_TYPE], get.headers()[header::CONTENT_TYPE], "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
    let head = server.http.head(server.url(wire::HEALTH)).send().await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()[header::CONTENT_LENGTH]),
        (StatusCode::OK, &"15".parse().unwrap())
    );
}

#[tokio::test]
async fn a_frame_of_either_dialect_and_any_kind_is_taken() {
    let server = Running::stock(ServerOptions::default()).await;
    let fields = Metadata { payload_type: PayloadType::KvCache, avp_map_id: "vocab:1", ..Default::default() };
    for encoder in [
        FrameEncoder::new(fields),
        FrameEncoder::new(fields).dialect(Dialect::V0_2),
        FrameEncoder::new(fields).compression(Compression::Fast),
        FrameEncoder::new(fields).align(64),
    ] {
        let (status, reply) = server.post(wire::TRANSMIT, encoder.encode(&[5; 5000]).unwrap()).await;
        assert_eq!(status, 200, "{reply}");
    }
}

#[tokio::test]
async fn what_is_not_right_is_refused_by_name_and_leaves_nothing() {
    let tight = Limits {
        frame: FrameLimits { metadata: 1000, frame: 10_000, unpacked: 20_000 },
        json: 1000,
        headers: 2000,
        ..Default::default()
    };
    let server = Running::stock(limits(tight)).await;
    let extra = "x".repeat(1100);
    let note = [("note", &extra[..])];
    let wordy = Metadata { extra: (&note).into(), ..Default::default() };
    let long_metadata = FrameEncoder::new(wordy).encode(b"x").unwrap();
    let bomb = FrameEncoder::new(Metadata::default()).compression(Compression::Max);
    let bomb = bomb.encode(&vec![0; 1 << 20]).unwrap();
    let mut wrong_sum = frame(100);
    *wrong_sum.last_mut().unwrap() ^= 1;
    let short = frame(100);
    let (longer, shorter) = ([&short[..], b"!"].concat(), &short[..90]);
    for (path, body, status, code) in [
        (wire::TRANSMIT, b"PK\x03\x04 a file".to_vec(), 400, "bad_magic"),
        (wire::TRANSMIT, vec![], 400, "truncated"),
        (wire::TRANSMIT, b"AV\x01".to_vec(), 400, "truncated"),
        (wire::TRANSMIT, long_metadata, 413, "metadata_too_large"),
        (wire::TRANSMIT, frame(10_000), 413, "frame_too_large"),
        (wire::TRANSMIT, bomb, 413, "decompressed_too_large"),
        (wire::TRANSMIT, wrong_sum, 400, "checksum_mismatch"),
        (wire::TRANSMIT, longer.clone(), 400, "length_mismatch"),
        (wire::TRANSMIT, shorter.to_vec(), 400, "length_mismatch"),
        (wire::TRANSMIT, frame_of(b"x", "no such session"), 410, "session_expired"),
        (wire::HANDSHAKE, b"[]".to_vec(), 400, "bad_hello"),
        (wire::HANDSHAKE, b"{".to_vec(), 400, "bad_hello"),
        (wire::HANDSHAKE, b"{\"agent_id\": \"\xff\"}".to_vec(), 400, "bad_utf8"),
        (wire::HANDSHAKE, vec![b' '; 1001], 413, "json_too_large"),
        (wire::TEXT, b"{\"content\": 1}".to_vec(), 400, "bad_message"),
        (wire::TEXT, b"{}".to_vec(), 501, "no_text"),
        ("/avp/v1/transmit", vec![], 404, "not_found"),
        (wire::HEALTH, vec![], 405, "method_not_allowed"),
    ] {
        let (got, reply) = server.post(path, body).await;
        assert_eq!(
            (got, &reply["code"], &reply["success"]),
            (status, &code.into(), &false.into()),
            "{reply}"
        );
        assert!(reply["message"].as_str().is_some_and(|message| message.len() > 10), "{reply}");
        assert_eq!(reply["request_id"].as_str().map(str::len), Some(32), "{reply}");
    }
    // Without a length in front, the same is found at the end.
    for (bytes, code) in [(longer, "trailing_bytes"), (shorter.to_vec(), "truncated")] {
        let pieces = futures_util::stream::iter(
            bytes.chunks(40).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>(),
        );
        let (status, reply) = server.post(wire::TRANSMIT, reqwest::Body::wrap_stream(pieces)).await;
        assert_eq!((status, &reply["code"]), (400, &code.into()), "{reply}");
    }
    let untyped = reqwest::Client::new();
    for (path, body, code) in [
        (wire::TRANSMIT, frame(1), "not_a_frame"),
        (wire::HANDSHAKE, b"{}".to_vec(), "not_json"),
        (wire::TEXT, b"{}".to_vec(), "not_json"),
    ] {
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let request = untyped.post(server.url(path)).body(body.clone());
            let request =
                content_type.into_iter().fold(request, |request, it| request.header("content-type", it));
            let (status, reply) = answer(request).await;
            assert_eq!((status, &reply["code"]), (415, &code.into()), "{path} {content_type:?}");
        }
    }
    let request = server.http.get(server.url(wire::HEALTH)).header("x-long", "y".repeat(2000));
    assert_eq!(answer(request).await.0, 431);
    assert_eq!(server.stored_bytes().await, 0);
    assert_eq!(server.post(wire::TRANSMIT, frame(100)).await.0, 200, "and still it serves");
}

#[tokio::test]
async fn a_handshake_begins_a_session_that_frames_may_name_until_it_ends() {
    let identity = avp_core::OwnedModelIdentity {
        model_family: "qwen2".into(),
        hidden_dim: 896,
        num_layers: 24,
        ..Default::default()
    };
    let stock = ContextHandler::new("server", ContextStore::in_memory(StoreOptions::default()))
        .identity(identity)
        .session_ttl(Duration::from_millis(300));
    let server =
        Running::start(Service::new(stock, ServerOptions::default()), ListenOptions::default()).await;
    let hello = json!({
        "agent_id": "a",
        "avp_version": "0.6.2",
        "identity": { "model_family": "qwen2", "hidden_dim": 896, "num_layers": 24 },
        "capabilities": {},
    });
    let (status, reply) = server.post(wire::HANDSHAKE, hello.to_string()).await;
    assert_eq!(
        (status, &reply["mode"], &reply["resolution_path"]),
        (200, &"latent".into(), &"structural_match".into())
    );
    assert_eq!((&reply["agent_id"], &reply["identity"]["num_layers"]), (&"server".into(), &24.into()));
    let session = reply["session_id"].as_str().unwrap();
    assert_eq!(server.post(wire::TRANSMIT, frame_of(b"x", session)).await.0, 200);
    let (_, other) = server.post(wire::HANDSHAKE, r#"{"identity": {"model_family": "llama"}}"#).await;
    assert_eq!(other["mode"], "json");
    tokio::time::sleep(Duration::from_millis(350)).await;
    let (status, reply) = server.post(wire::TRANSMIT, frame_of(b"x", session)).await;
    assert_eq!((status, &reply["code"]), (410, &"session_expired".into()));
}

#[tokio::test]
async fn a_server_without_a_model_gives_the_clients_identity_back() {
    let server = Running::stock(ServerOptions::default()).await;
    let (_, reply) = server.post(wire::HANDSHAKE, r#"{"identity": {"model_hash": "abc"}}"#).await;
    assert_eq!((&reply["identity"]["model_hash"], &reply["mode"]), (&"abc".into(), &"latent".into()));
    let (_, reply) = server.post(wire::HANDSHAKE, "{}").await;
    assert_eq!((&reply["identity"], &reply["mode"]), (&json!({}), &"json".into()));
}

#[tokio::test]
async fn more_bytes_than_may_be_received_at_once_are_asked_to_wait() {
    let options = ServerOptions { memory: FairShares::new(8 << 20), ..Default::default() };
    let server = Running::stock(options).await;
    let request = |len| server.http.post(server.url(wire::TRANSMIT)).body(frame(len)).send();
    let never = request(7 << 20).await.unwrap();
    assert_eq!(never.status(), StatusCode::PAYLOAD_TOO_LARGE, "it is more than four fifths");
    let answers = futures_util::future::join_all((0..8).map(|_| request(3 << 20))).await;
    for answer in answers.into_iter().map(Result::unwrap) {
        let asked_to_wait = answer.headers().contains_key(header::RETRY_AFTER);
        let expected = if asked_to_wait { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        assert_eq!(answer.status(), expected);
    }
    assert_eq!(server.post(wire::TRANSMIT, frame(3 << 20)).await.0, 200);
    let none = Running::stock(limits(Limits { bodies: 0, ..Default::default() })).await;
    for (path, body) in [
        (wire::TRANSMIT, frame(1)),
        (wire::HANDSHAKE, b"{}".to_vec()),
        (wire::TEXT, b"{\"content\": \"hello\"}".to_vec()),
    ] {
        let (status, reply) = none.post(path, body).await;
        assert_eq!((status, &reply["code"]), (503, &"too_many_bodies".into()), "{path}");
    }
}

#[tokio::test]
async fn a_request_keeps_the_name_that_its_client_gave_it() {
    let server = Running::stock(ServerOptions::default()).await;
    let request = server.http.get(server.url("/nowhere")).header(wire::REQUEST_ID_HEADER, "r-17");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()[wire::REQUEST_ID_HEADER], "r-17");
    let reply: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(reply["request_id"], "r-17");
    let request = server.http.get(server.url(wire::HEALTH)).header(wire::REQUEST_ID_HEADER, "y".repeat(500));
    let made_up = request.send().await.unwrap().headers()[wire::REQUEST_ID_HEADER].clone();
    assert_eq!(made_up.len(), 32, "a name that does not fit a log line is not taken");
}

#[tokio::test]
async fn what_is_counted_can_be_read() {
    let server = Running::stock(ServerOptions::default()).await;
    let frame = frame(1000);
    server.post(wire::TRANSMIT, frame.clone()).await;
    server.post(wire::TRANSMIT, "nonsense").await;
    let text = server.get(wire::METRICS).await.text().await.unwrap();
    for line in [
        "avp_requests_total{endpoint=\"transmit\",status=\"200\"} 1".to_owned(),
        "avp_requests_total{endpoint=\"transmit\",status=\"400\"} 1".to_owned(),
        "avp_refusals_total{reason=\"bad_magic\"} 1".to_owned(),
        "avp_received_bytes_total 1000".to_owned(),
        "avp_bodies 0".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let stored = server.stored_bytes().await as usize;
    assert!(frame.len() < stored && stored < frame.len() + 4096, "{stored}");
}

#[tokio::test]
async fn bytes_are_counted_as_they_are_read_and_not_as_they_are_announced() {
    let service = Service::new(stock(), ServerOptions::default());
    let server = Running::start(service.clone(), ListenOptions::default()).await;
    // The second is read to compare it with the first, the third not at all.
    for (frame, so_far) in [(frame(1000), 1000), (frame(1000), 2000), (frame(20_000), 2000)] {
        let request = server.http.post(server.url(wire::TRANSMIT)).body(frame);
        answer(request.header(wire::IDEMPOTENCY_HEADER, "k1")).await;
        let text = service.metrics().text();
        assert!(text.contains(&format!("avp_received_bytes_total {so_far}\n")), "{text}");
    }
    let service = Service::new(Moody, ServerOptions::default());
    let server = Running::start(service.clone(), ListenOptions::default()).await;
    for (model_id, so_far) in [("no", 0), ("unread", 0), ("yes", 5000)] {
        let fields = Metadata { model_id, ..Default::default() };
        server.post(wire::TRANSMIT, FrameEncoder::new(fields).encode(&[0; 5000]).unwrap()).await;
        let text = service.metrics().text();
        assert!(text.contains(&format!("avp_received_bytes_total {so_far}\n")), "{model_id}: {text}");
    }
}

/// Reads heads and refuses, panics or streams, by what the frame says.
struct Moody;

impl Handler for Moody {
    async fn transmit(&self, mut frame: IncomingFrame, _: &RequestInfo) -> Result<Reply, ErrorResponse> {
        match frame.head().metadata().model_id {
            "panic" => panic!("the handler's own fault"),
            "no" => Err(ErrorResponse::bad_request("no", "not this model, whatever its body holds")),
            "unread" => Ok(Reply::new()),
            _ => {
                let mut bytes = 0;
                while let Some(piece) = frame.chunk().await? {
                    bytes += piece.len();
                }
                Ok(Reply::new().with("bytes", bytes))
            }
        }
    }
}

#[tokio::test]
async fn a_handler_may_refuse_by_the_head_stream_or_panic_and_the_server_goes_on() {
    let service = Service::new(Moody, ServerOptions::default());
    let server = Running::start(service, ListenOptions::default()).await;
    let body = crate::common::body(4 << 20);
    let of = |model_id| FrameEncoder::new(Metadata { model_id, ..Default::default() }).encode(&body).unwrap();
    for _ in 0..2 {
        let (status, reply) = server.post(wire::TRANSMIT, of("panic")).await;
        assert_eq!((status, &reply["code"]), (500, &"internal".into()));
        let (status, reply) = server.post(wire::TRANSMIT, of("no")).await;
        assert_eq!((status, &reply["code"]), (400, &"no".into()));
        let (status, reply) = server.post(wire::TRANSMIT, of("yes")).await;
        assert_eq!((status, &reply["bytes"]), (200, &body.len().into()));
    }
    assert_eq!(
        server.post(wire::HANDSHAKE, "{}").await.0,
        200,
        "hellos are answered as the peers answer them"
    );
}

#[tokio::test]
async fn middleware_of_others_can_stand_before_the_service() {
    let service = Service::new(stock(), ServerOptions::default());
    let request = http::Request::post(wire::TRANSMIT).header(header::CONTENT_TYPE, wire::FRAME);
    let request = request.body(Full::from(frame(10))).unwrap();
    let response = tower_service::Service::call(&mut service.clone(), request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(service.handler().contexts().ids().len(), 1);
}

/// Remembers the ids that it was asked for.
#[derive(Default)]
struct Ids(Mutex<Vec<String>>);

impl Handler for Ids {
    async fn transmit(&self, _: IncomingFrame, _: &RequestInfo) -> Result<Reply, ErrorResponse> {
        Err(ErrorResponse::internal())
    }

    async fn context(&self, id: &str, _: &RequestInfo) -> Result<Option<Arc<StoredContext>>, ErrorResponse> {
        self.0.lock().unwrap().push(format!("get {id}"));
        Ok(None)
    }

    async fn delete_context(&self, id: &str, _: &RequestInfo) -> Result<bool, ErrorResponse> {
        self.0.lock().unwrap().push(format!("delete {id}"));
        Ok(true)
    }

    fn fallback_error(&self, _: &ErrorResponse) -> Reply {
        Reply::failure("another", "an error of another protocol")
    }
}

#[tokio::test]
async fn every_path_of_contexts_is_avps_and_its_id_is_percent_decoded() {
    let service = Service::new(Ids::default(), ServerOptions::default());
    let server = Running::start(service.clone(), ListenOptions::default()).await;
    for (id, status_of_delete) in [("c%2F1%20%3F", 200), ("a/b", 200), ("%FF", 404), ("", 404)] {
        let url = server.url(&format!("{}{id}", wire::CONTEXTS));
        let (status, reply) = answer(server.http.get(&url)).await;
        assert_eq!((status, &reply["code"]), (404, &"not_found".into()), "{id:?}: {reply}");
        assert_eq!(answer(server.http.delete(&url)).await.0, status_of_delete, "{id:?}");
        let (status, reply) = answer(server.http.put(&url)).await;
        assert_eq!((status, &reply["code"]), (405, &"method_not_allowed".into()), "{id:?}: {reply}");
    }
    let asked = service.handler().0.lock().unwrap().clone();
    assert_eq!(asked, ["get c/1 ?", "delete c/1 ?", "get a/b", "delete a/b"]);
    let counted = service.metrics().text();
    assert!(!counted.contains("endpoint=\"other\""), "{counted}");
}

/// Answers one path beside AVP's, in words of its own.
struct Beside;

impl Handler for Beside {
    async fn transmit(&self, _: IncomingFrame, _: &RequestInfo) -> Result<Reply, ErrorResponse> {
        Err(ErrorResponse::internal())
    }

    async fn fallback(
        &self,
        request: http::Request<IncomingBody>,
        info: &RequestInfo,
    ) -> Result<http::Response<ResponseBody>, ErrorResponse> {
        match request.uri().path() {
            "/v1/echo" => {
                let text = format!("{}: {}", info.agent_id, request.into_body().into_text().await?);
                Ok(http::Response::new(text.into()))
            }
            "/v1/unread" => {
                Err(ErrorResponse::bad_request("no", "whatever it holds").of_field("messages[0]"))
            }
            "/v1/panic" => panic!("the handler's own fault"),
            _ => Err(ErrorResponse::not_found("nothing here")),
        }
    }

    fn fallback_error(&self, error: &ErrorResponse) -> Reply {
        let error = json!({ "code": error.code(), "param": error.field() });
        serde_json::Map::from_iter([("error".to_owned(), error)]).into()
    }
}

#[tokio::test]
async fn a_path_of_the_handlers_own_is_held_to_the_same_tokens_limits_and_counters() {
    let options = ServerOptions {
        tokens: Tokens::new(["s3cret"]),
        limits: Limits { json: 1000, ..Default::default() },
        ..Default::default()
    };
    let server = Running::start(Service::new(Beside, options), ListenOptions::default()).await;
    let ask = |path: &str, body: Vec<u8>| {
        let request = server.http.post(server.url(path)).header(header::CONTENT_TYPE, wire::JSON);
        request.header(wire::AGENT_HEADER, "a").bearer_auth("s3cret").body(body)
    };
    let untyped = reqwest::Client::new().post(server.url("/v1/echo")).bearer_auth("s3cret").body("hello");
    let (status, reply) = answer(untyped).await;
    assert_eq!((status, &reply["error"]["code"]), (415, &"not_json".into()));
    let answered = ask("/v1/echo", b"hello".to_vec()).send().await.unwrap();
    assert_eq!(answered.text().await.unwrap(), "a: hello");
    for (path, body, status, code) in [
        ("/v1/echo", vec![b'x'; 1001], 413, "json_too_large"),
        ("/v1/echo", b"\xff".to_vec(), 400, "bad_utf8"),
        ("/v1/unread", vec![b'x'; 2 << 20], 400, "no"),
        ("/v1/panic", vec![], 500, "internal"),
        ("/nowhere", vec![], 404, "not_found"),
    ] {
        let (got, reply) = answer(ask(path, body)).await;
        assert_eq!(
            (got, &reply["error"]["code"], reply.get("success")),
            (status, &code.into(), None),
            "{reply}"
        );
    }
    assert_eq!(answer(ask("/v1/unread", vec![])).await.1["error"]["param"], "messages[0]");
    let (status, reply) = answer(server.http.post(server.url("/v1/echo"))).await;
    assert_eq!((status, &reply["error"]["code"]), (401, &"unauthorized".into()));
    let metrics = server.http.get(server.url(wire::METRICS)).bearer_auth("s3cret").send().await.unwrap();
    let text = metrics.text().await.unwrap();
    for line in [
        "avp_requests_total{endpoint=\"other\",status=\"200\"} 1",
        "avp_refusals_total{reason=\"json_too_large\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}
