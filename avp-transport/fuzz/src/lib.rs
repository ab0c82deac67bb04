//! What each fuzz target does with its input. It may refuse the input; it must not panic, and where it accepts, what it
//! read must hold together.
//!
//! The targets are plain functions, so that a finding also replays as an ordinary test: `tests/it/fuzz_smoke.rs` includes
//! this file.

use avp_core::{BodyReader, DecodeError, Frame, FrameLimits, HeadReader, verify_compressed};
use avp_transport::{
    carriers::{Limits, a2a, mcp, multipart::Related},
    server::{AllowedHosts, AllowedOrigins, ContextHandler, ServerOptions, Service, Tokens},
    store::{ContextStore, StoreOptions},
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::{Builder, Runtime};

/// Little enough that unpacking a bomb stops soon.
const LIMIT: usize = 1 << 20;

fn limits() -> Limits {
    let frame = FrameLimits { metadata: 4096, frame: LIMIT as u64, unpacked: LIMIT };
    Limits { frame, ..Default::default() }
}

/// A frame in pieces whose lengths the first byte decides; must say what reading it whole says.
pub fn reader(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let mut pieces = data.chunks(usize::from(piece).max(1)).map(Bytes::copy_from_slice);
    let mut reader = HeadReader::new(limits().frame);
    let (head, first) = loop {
        let Some(piece) = pieces.next() else {
            assert!(Frame::decode(data).is_err(), "a frame without a head");
            let _ = reader.finish();
            return;
        };
        match reader.feed(piece) {
            Ok(None) => {}
            Ok(Some(found)) => break found,
            Err(DecodeError::FrameTooLarge { .. } | DecodeError::MetadataTooLarge { .. }) => return,
            Err(error) => {
                let whole = Frame::decode(data).expect_err("refused in pieces");
                // Of a frame cut short, nobody knows what else is wrong with it.
                assert!(
                    whole == error || matches!(whole, DecodeError::Truncated { .. }),
                    "{whole:?}, {error:?}"
                );
                return;
            }
        }
    };
    let mut body = BodyReader::new(&head.head());
    let fed = std::iter::once(first).chain(pieces).try_for_each(|piece| body.feed(&piece));
    let read = fed.and_then(|()| body.finish());
    match (Frame::decode(data), read) {
        (Err(whole), Err(in_pieces)) => assert_eq!(whole.kind(), in_pieces.kind()),
        (Ok(frame), Ok(crc32)) => {
            assert_eq!(crc32, avp_core::crc32(frame.body()));
            assert_eq!(&data[..head.bytes().len()], &head.bytes()[..]);
            if frame.is_compressed() {
                let whole = frame.decompress(LIMIT).map(drop);
                let mut rest = frame.body();
                let in_pieces = verify_compressed(&head.head(), LIMIT, |buffer| {
                    let len = rest.len().min(buffer.len()).min(usize::from(piece).max(1));
                    let (next, after) = rest.split_at(len);
                    buffer[..len].copy_from_slice(next);
                    rest = after;
                    Ok::<usize, DecodeError>(len)
                });
                assert_eq!(whole.is_ok(), in_pieces.is_ok(), "{whole:?}, {in_pieces:?}");
            }
        }
        (Ok(frame), Err(error)) => {
            assert_eq!(frame.verify_checksum(frame.body()), Err(error));
        }
        (Err(whole), Ok(_)) => panic!("taken in pieces, and whole {whole:?}"),
    }
}

/// JSON as parts of A2A and results of MCP.
pub fn carriers(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    let limits = limits();
    let _ = a2a::read_part(&value, &limits);
    let _ = a2a::read_parts(&value, &limits);
    let _ = mcp::read_content(&value, &limits);
}

/// A `multipart/related` body under the content type that the first line holds.
pub fn multipart(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(content_type) = std::str::from_utf8(&data[..end]) else { return };
    let _ = Related::read(content_type, Bytes::copy_from_slice(&data[end + 1..]), &limits());
}

/// A request: a line with method and path, header fields of one line each, an empty line, and a body.
///
/// # Panics
/// If the server fails, or its answer is not JSON where it should be.
pub fn service(data: &[u8]) {
    let Some(request) = request(data) else { return };
    let options = ServerOptions {
        tokens: Tokens::new(["token"]),
        hosts: AllowedHosts::new(["avp.example"]).expect("a name"),
        origins: AllowedOrigins::new(["https://app.example"]).expect("an origin"),
        ..Default::default()
    };
    let contexts = ContextStore::in_memory(StoreOptions::default());
    let service = Service::new(ContextHandler::new("fuzz", contexts), options);
    runtime().block_on(async {
        let is_head = request.method() == http::Method::HEAD;
        let response = service.answer(request).await;
        let status = response.status().as_u16();
        assert!(status < 500 || [501, 503, 507].contains(&status), "{status}");
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        if status >= 400 && !is_head {
            let reply: serde_json::Value = serde_json::from_slice(&body).expect("an error as JSON");
            assert!(reply["code"].is_string(), "{reply}");
        }
    });
}

fn request(data: &[u8]) -> Option<Request<Full<Bytes>>> {
    let mut rest = data;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some(line)
    };
    let start = std::str::from_utf8(line()?).ok()?;
    let (method, path) = start.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    while let Some(field) = line().filter(|line| !line.is_empty()) {
        let colon = field.iter().position(|byte| *byte == b':')?;
        request = request.header(&field[..colon], field[colon + 1..].trim_ascii());
    }
    request.body(Full::new(Bytes::copy_from_slice(rest))).ok()
}

/// A folder with a context: the length of its record in two bytes, the record, the frame.
///
/// # Panics
/// If a context is served that is not a whole frame.
pub fn store(data: &[u8]) {
    let Some((len, rest)) = data.split_first_chunk::<2>() else { return };
    let (record, frame) = rest.split_at(rest.len().min(u16::from_le_bytes(*len).into()));
    let folder = tempfile::tempdir().expect("a folder");
    let id = "0".repeat(32);
    let path = |extension| folder.path().join(format!("{id}.{extension}"));
    std::fs::write(path("json"), record).expect("a record");
    std::fs::write(path("avp"), frame).expect("a frame");
    let contexts = ContextStore::in_folder(folder.path(), StoreOptions::default()).expect("readable files");
    let Some(context) = contexts.get(&id) else { return };
    let bytes = runtime().block_on(context.bytes()).expect("its bytes");
    assert_eq!(bytes, frame);
    let read = Frame::decode(&bytes).expect("a whole frame");
    if !read.is_compressed() {
        read.verify_checksum(read.body()).expect("undamaged");
    }
    assert!(contexts.remove(&id).expect("removed") && !path("avp").exists());
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}
