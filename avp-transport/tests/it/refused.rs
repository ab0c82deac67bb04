//! What is refused, or fails within a body, leaves nothing behind, and what was kept before stays as it was.

use std::path::PathBuf;

use avp_core::{Compression, FrameEncoder, FrameLimits, Metadata};
use avp_transport::{
    server::{
        ContextHandler, ErrorResponse, Handler, IncomingFrame, Limits, ListenOptions, RequestInfo,
        ServerOptions, Service,
    },
    store::{ContextStore, StoreOptions, StoredContext},
    wire::{self, Reply},
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::common::{Running, answer, body, files, frame, sha256};

/// Keeps frames as the stock handler does, but for those whose model is a mishap.
struct Clumsy {
    stock: ContextHandler,
    folder: Option<PathBuf>,
}

impl Handler for Clumsy {
    async fn transmit(&self, mut frame: IncomingFrame, info: &RequestInfo) -> Result<Reply, ErrorResponse> {
        match frame.head().metadata().model_id {
            "no" => Err(ErrorResponse::bad_request("no", "not this model, whatever its body holds")),
            "panic within" => {
                frame.chunk().await?;
                panic!("the handler's own fault, within the body");
            }
            "panic behind" => {
                let _held = match &self.folder {
                    Some(folder) => (Some(frame.into_file(folder).await?), None),
                    None => (None, Some(frame.into_bytes().await?)),
                };
                panic!("the handler's own fault, behind the body");
            }
            _ => self.stock.transmit(frame, info).await,
        }
    }

    async fn context(
        &self,
        id: &str,
        info: &RequestInfo,
    ) -> Result<Option<std::sync::Arc<StoredContext>>, ErrorResponse> {
        self.stock.context(id, info).await
    }

    fn stored_bytes(&self) -> u64 {
        self.stock.stored_bytes()
    }
}

async fn start(folder: Option<PathBuf>) -> Running {
    let keeping = StoreOptions::default();
    let contexts = folder.as_ref().map(|folder| ContextStore::in_folder(folder, keeping).unwrap());
    let stock = ContextHandler::new("server", contexts.unwrap_or_else(|| ContextStore::in_memory(keeping)));
    let frame = FrameLimits { unpacked: 6 << 20, ..Default::default() };
    let limits = Limits { frame, ..Default::default() };
    let options = ServerOptions { limits, ..Default::default() };
    Running::start(Service::new(Clumsy { stock, folder }, options), ListenOptions::default()).await
}

fn of_model(model_id: &str) -> FrameEncoder<'_> {
    FrameEncoder::new(Metadata { model_id, ..Default::default() })
}

/// Sends `bytes` with their length in front, or in pieces without one.
async fn send(server: &Running, bytes: &[u8], with_length: bool) -> (u16, serde_json::Value) {
    let pieces: Vec<_> = bytes.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let body = match with_length {
        true => bytes.to_vec().into(),
        false => reqwest::Body::wrap_stream(stream::iter(pieces)),
    };
    answer(server.http.post(server.url(wire::TRANSMIT)).body(body)).await
}

#[tokio::test]
async fn nothing_is_left_of_what_fails_and_what_was_there_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let sound = of_model("m").encode(&body(5 << 20)).unwrap();
    let mut wrong_sum = sound.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let packed = of_model("m").compression(Compression::Fast);
    let mut broken_pack = packed.encode(&body(1 << 20)).unwrap();
    let middle = broken_pack.len() / 2;
    broken_pack[middle] ^= 0xff;
    let bomb = packed.encode(&vec![0; 64 << 20]).unwrap();
    let failing = [
        ("checksum_mismatch", wrong_sum),
        ("trailing_bytes", [&sound[..], b"!"].concat()),
        ("truncated", sound[..sound.len() - 1].to_vec()),
        ("truncated", sound[..sound.len() / 2].to_vec()),
        ("decompressed_too_large", bomb),
        ("", broken_pack),
        ("no", of_model("no").encode(&body(5 << 20)).unwrap()),
        ("internal", of_model("panic within").encode(&body(5 << 20)).unwrap()),
        ("internal", of_model("panic behind").encode(&body(5 << 20)).unwrap()),
    ];
    for folder in [None, Some(folder.path().to_owned())] {
        let server = start(folder.clone()).await;
        let mut earlier = Vec::new();
        for len in [0, 100_000, 5 << 20] {
            let frame = frame(len);
            let (_, reply) = send(&server, &frame, true).await;
            earlier.push((reply["context_id"].as_str().unwrap().to_owned(), sha256(&frame)));
        }
        let there = || folder.as_ref().map(|folder| files(folder));
        let before = (server.stored_bytes().await, there());
        for (code, bytes) in &failing {
            for with_length in [true, false] {
                let (status, reply) = send(&server, bytes, with_length).await;
                assert!(matches!(status, 400 | 413 | 500), "{code}: {status}");
                let told_by_length = with_length
                    && matches!(*code, "trailing_bytes" | "truncated")
                    && reply["code"] == "length_mismatch";
                assert!(code.is_empty() || told_by_length || reply["code"] == *code, "{code}: {reply}");
                assert_eq!((server.stored_bytes().await, there()), before, "{code}");
            }
        }
        for (id, sum) in &earlier {
            let kept = server.get(&format!("{}{id}", wire::CONTEXTS)).await.bytes().await.unwrap();
            assert_eq!(sha256(&kept), *sum);
        }
        server.stop().await;
        if let Some(folder) = folder {
            let again = ContextStore::in_folder(&folder, StoreOptions::default()).unwrap();
            for (id, sum) in &earlier {
                assert_eq!(sha256(&again.get(id).unwrap().bytes().await.unwrap()), *sum);
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_by_the_head_goes_out_while_the_body_is_withheld() {
    let server = start(None).await;
    let frame = of_model("no").encode(&body(5 << 20)).unwrap();
    let first = frame[..frame.len() - (5 << 20)].to_vec();
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/avp+binary\r\ncontent-length: {}\r\n\r\n",
        wire::TRANSMIT,
        frame.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&first).await.unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"}") {
        assert_ne!(client.read_buf(&mut told).await.unwrap(), 0, "{}", String::from_utf8_lossy(&told));
    }
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("\"code\":\"no\""), "{told}");

    let http2 = crate::common::client_builder().http2_prior_knowledge().build().unwrap();
    let withheld = stream::iter([Ok::<_, std::io::Error>(first)]).chain(stream::pending());
    let request = http2.post(server.url(wire::TRANSMIT)).body(reqwest::Body::wrap_stream(withheld));
    let (status, reply) = answer(request).await;
    assert_eq!((status, &reply["code"]), (400, &"no".into()));
}
