//! The exchange in `docs/transport.md` is one that takes place.

use avp_core::{FrameEncoder, Metadata};
use avp_transport::server::{AllowedHosts, ContextHandler, ListenOptions, ServerOptions, Service};
use avp_transport::store::{ContextStore, StoreOptions};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::{Running, blocks, body};

/// What is another one in every exchange.
const OWN: [&str; 4] = ["session_id", "context_id", "etag", "link"];

/// An answer, as it came or as it is shown.
#[derive(Debug, PartialEq)]
struct Response {
    status: String,
    /// Names as they are, values where they are not this exchange's own.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn parse(head: &str, body: &[u8]) -> Self {
        let mut lines = head.lines();
        let status = lines.next().unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            let is_own = matches!(name, "date" | "x-request-id" | "etag");
            (name.to_owned(), if is_own { String::new() } else { value.to_owned() })
        };
        Self { status, fields: lines.map(field).collect(), body: body.to_vec() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// That both say the same, but for what is each one's own.
    fn assert_is(&self, shown: &Self) {
        assert_eq!((&self.status, &self.fields), (&shown.status, &shown.fields));
        let (mut came, mut shown) = (self.json(), shown.json());
        for name in OWN {
            for (one, other) in came.get_mut(name).into_iter().zip(shown.get_mut(name)) {
                assert_eq!(one.as_str().map(str::len), other.as_str().map(str::len), "{name}");
                (*one, *other) = (Value::Null, Value::Null);
            }
        }
        // In their order too.
        assert_eq!(came.to_string(), shown.to_string());
    }
}

/// Head and body of what is shown in one block.
fn parts(block: &str) -> (&str, &str) {
    block.split_once("\n\n").unwrap_or((block, ""))
}

async fn ask(server: &Running, head: &str, body: &[u8]) -> Response {
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    assert_eq!(announced.unwrap_or("0"), body.len().to_string(), "{head}");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut came = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0, "{}", String::from_utf8_lossy(&came));
        let Some(end) = came.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&came[..end]).unwrap();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if came.len() == end + 4 + len.parse::<usize>().unwrap() {
            return Response::parse(head, &came[end + 4..]);
        }
    }
}

#[tokio::test]
async fn the_exchange_in_the_documentation_takes_place() {
    let stock = ContextHandler::new("relay", ContextStore::in_memory(StoreOptions::default()));
    let hosts = AllowedHosts::new(["b.example"]).unwrap();
    let service = Service::new(stock, ServerOptions { hosts, ..Default::default() });
    let server = Running::start(service, ListenOptions::default()).await;
    let shown = blocks("transport.md", "http");
    let [hello, session, frame, receipt, fetch, part, share, linked] = &shown[..] else {
        panic!("{} blocks", shown.len())
    };
    let answer = |block: &str| {
        let (head, body) = parts(block);
        Response::parse(head, body.as_bytes())
    };

    let (head, body_of_hello) = parts(hello);
    let agreed = ask(&server, head, body_of_hello.as_bytes()).await;
    agreed.assert_is(&answer(session));

    let session_id = agreed.json()["session_id"].as_str().unwrap().to_owned();
    let fields = Metadata { session_id: &session_id, model_id: "Qwen/Qwen2.5-0.5B", ..Default::default() };
    let bytes = FrameEncoder::new(fields).encode(&body(56)).unwrap();
    let kept = ask(&server, parts(frame).0, &bytes).await;
    kept.assert_is(&answer(receipt));

    let id = |answer: Response| answer.json()["context_id"].as_str().unwrap().to_owned();
    let (shown_id, id) = (id(answer(receipt)), id(kept));
    assert!(fetch.contains(&shown_id), "it is this context that is fetched");
    let fetched = ask(&server, &fetch.replace(&shown_id, &id), b"").await;
    let part = answer(part);
    assert_eq!((&fetched.status, &fetched.fields), (&part.status, &part.fields));
    let told = blocks("transport.md", "text").remove(0);
    let hex: Vec<String> = fetched.body.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(told.starts_with(&hex.join(" ")), "{}", hex.join(" "));
    let payload_len =
        format!("{} bytes of payload, {} of them metadata", bytes.len() - 12, bytes.len() - 12 - 56);
    assert!(told.ends_with(&payload_len), "{payload_len}");

    assert!(share.contains(&shown_id), "it is this context that is shared");
    let (head, body_of_share) = parts(share);
    let shared = ask(&server, &head.replace(&shown_id, &id), body_of_share.as_bytes()).await;
    shared.assert_is(&answer(linked));
}
