//! Contexts fetched from a server that keeps them.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use avp_core::{Compression, Frame, FrameEncoder, Metadata};
use avp_transport::{
    client::{Client, ClientError},
    wire::Reply,
};
use bytes::Bytes;

use super::server::{Answer, Call, Server, answer, cut_answer, frame, noise, options};

const TAG: &str = "\"e1\"";

/// Gives out a frame, or the part of it that is asked for.
fn whole_or_rest(call: &Call, frame: &Bytes, tag: &str) -> Answer {
    let range = call.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    match range {
        Some(start) if call.header("if-range") == tag => {
            let start: usize = start.parse().unwrap();
            let range = format!("bytes {start}-{}/{}", frame.len() - 1, frame.len());
            Ok(answer(206, &[("etag", tag), ("content-range", &range)], frame.slice(start..)))
        }
        _ => Ok(answer(200, &[("etag", tag)], frame.clone())),
    }
}

/// Gives out a frame; its first `cuts` answers end in the middle.
async fn keeper(frame: Bytes, cuts: usize) -> Server {
    Server::start(move |call| {
        let frame = frame.clone();
        async move {
            match call.number < cuts {
                false => whole_or_rest(&call, &frame, TAG),
                true => {
                    let sent = frame.slice(..frame.len() / 2);
                    Ok(cut_answer(200, &[("etag", TAG)], frame.len(), sent))
                }
            }
        }
    })
    .await
}

/// Fetches into memory and into a file, and expects both to fail alike and to leave nothing.
async fn fails(client: &Client) -> ClientError {
    let folder = tempfile::tempdir().unwrap();
    let in_memory = client.fetch_context("c1").to_memory().await.unwrap_err();
    let in_file = client.fetch_context("c1").to_file(folder.path().join("c1.avp")).await.unwrap_err();
    assert_eq!(in_memory.kind(), in_file.kind());
    assert_eq!(names_in(folder.path()), [""; 0]);
    in_memory
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_context_is_fetched_whole_into_memory_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c1.avp");
    for len in [0, 100, 20 << 20] {
        let frame = frame(&noise(len));
        let server = keeper(frame.clone(), 0).await;
        let client = server.client();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let progress = move |done, total| log.lock().unwrap().push((done, total));
        let fetched = client.fetch_context("c1").on_progress(progress).to_memory().await.unwrap();
        assert!(fetched.frame == frame);
        assert_eq!(
            (fetched.head.header().frame_len(), fetched.etag.as_deref()),
            (frame.len() as u64, Some(TAG))
        );
        let (seen, total) = (seen.lock().unwrap().clone(), frame.len() as u64);
        assert!(seen.is_sorted_by(|a, b| a.0 < b.0) && seen.last() == Some(&(total, total)));
        std::fs::write(&path, "what was there before").unwrap();
        let in_file = client.fetch_context("c1").to_file(&path).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == frame);
        assert_eq!((in_file.head, in_file.etag), (fetched.head, fetched.etag));
        assert_eq!(names_in(folder.path()), ["c1.avp"]);
        assert_eq!(server.paths(), ["/avp/v2/contexts/c1"; 2]);
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_is_taken_up_where_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c1.avp");
    // Of the short one, half a head arrives at first.
    for len in [4, 5 << 20] {
        let frame = frame(&noise(len));
        for to_file in [false, true] {
            let server = keeper(frame.clone(), 1).await;
            let client = server.client();
            let fetched = match to_file {
                true => {
                    client.fetch_context("c1").to_file(&path).await.unwrap();
                    std::fs::read(&path).unwrap().into()
                }
                false => client.fetch_context("c1").to_memory().await.unwrap().frame,
            };
            assert!(fetched == frame);
            let seen = server.seen();
            assert_eq!((seen.len(), seen[0].header("range")), (2, ""));
            assert_eq!(seen[1].header("range"), format!("bytes={}-", frame.len() / 2));
            assert_eq!(seen[1].header("if-range"), TAG);
        }
    }
}

#[tokio::test]
async fn a_context_that_changed_meanwhile_is_fetched_from_its_start() {
    let (old, new) = (frame(&noise(2 << 20)), frame(&noise(1 << 20)));
    for careless in [false, true] {
        let (old, expected) = (old.clone(), new.clone());
        let new = new.clone();
        let server = Server::start(move |call| {
            let (old, new) = (old.clone(), new.clone());
            async move {
                match (call.number, careless) {
                    (0, _) => Ok(cut_answer(200, &[("etag", TAG)], old.len(), old.slice(..1000))),
                    // It looks at the range, and not at `If-Range`.
                    (1, true) => {
                        let headers = [("etag", "\"e2\""), ("content-range", "bytes 1000-9999/10000")];
                        Ok(answer(206, &headers, new.slice(1000..10000)))
                    }
                    _ => whole_or_rest(&call, &new, "\"e2\""),
                }
            }
        })
        .await;
        let fetched = server.client().fetch_context("c1").to_memory().await.unwrap();
        assert!(fetched.frame == expected);
        assert_eq!(fetched.etag.as_deref(), Some("\"e2\""));
        assert_eq!(server.seen().len(), if careless { 3 } else { 2 });
        assert!(server.seen()[1].headers.contains_key("range"));
    }
}

#[tokio::test]
async fn a_rest_is_asked_for_only_by_a_strong_tag() {
    for tag in ["W/\"e1\"", ""] {
        let whole = frame(&noise(1 << 20));
        let server = Server::start(move |call| {
            let frame = whole.clone();
            async move {
                let headers: &[_] = if tag.is_empty() { &[] } else { &[("etag", tag)] };
                match call.number {
                    0 => Ok(cut_answer(200, headers, frame.len(), frame.slice(..1000))),
                    _ => Ok(answer(200, headers, frame)),
                }
            }
        })
        .await;
        server.client().fetch_context("c1").to_memory().await.unwrap();
        assert!(server.seen().iter().all(|seen| !seen.headers.contains_key("range")), "{tag}");
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_too_often_leaves_nothing() {
    let server = keeper(frame(&noise(1 << 20)), usize::MAX).await;
    assert_eq!(fails(&server.client()).await.kind(), "broken");
    assert_eq!(server.seen().len(), 2 * 4);
}

#[tokio::test]
async fn what_is_damaged_is_not_given_out() {
    let fields = Metadata::default();
    let plain = frame(&noise(100_000)).to_vec();
    let packed = FrameEncoder::new(fields).compression(Compression::Fast).encode(&[7; 100_000]).unwrap();
    let mut wrong = plain.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let mut unpackable = packed.clone();
    // The magic number of zstd.
    let body = Frame::decode(&packed).unwrap().body_offset();
    unpackable[body] ^= 0xff;
    let mut other = packed.clone();
    let inside = other.len() - 8;
    other[inside] ^= 0xff;
    let long = [&plain[..], b"!"].concat();
    for (bytes, kinds) in [
        (wrong, &["checksum_mismatch"][..]),
        (unpackable, &["bad_compression"]),
        // What it unpacks to, if it does, has another checksum.
        (other, &["bad_compression", "checksum_mismatch"]),
        (plain[..plain.len() - 1].to_vec(), &["truncated"]),
        (plain[..5].to_vec(), &["truncated"]),
        (long, &["trailing_bytes"]),
        (b"<html>no frame</html>".to_vec(), &["bad_magic"]),
        (Vec::new(), &["truncated"]),
    ] {
        let server = keeper(bytes.into(), 0).await;
        let kind = fails(&server.client()).await.kind();
        assert!(kinds.contains(&kind), "{kind}, not {kinds:?}");
        assert_eq!(server.seen().len(), 2, "the same bytes would come again");
    }
    let server = keeper(packed.clone().into(), 0).await;
    assert!(server.client().fetch_context("c1").to_memory().await.unwrap().frame == packed);
    let mut options = options();
    options.limits.unpacked = 99_999;
    let strict = Client::new(&server.url(), options).unwrap();
    assert_eq!(fails(&strict).await.kind(), "decompressed_too_large");
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_by_its_head() {
    let server = keeper(frame(&noise(1 << 20)), 0).await;
    let mut options = options();
    options.limits.frame = 1 << 20;
    let strict = Client::new(&server.url(), options).unwrap();
    assert_eq!(fails(&strict).await.kind(), "frame_too_large");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_before_anything_is_asked() {
    let server = keeper(frame(b"tensor"), 0).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no such folder").join("c1.avp");
    let error = server.client().fetch_context("c1").to_file(path).await.unwrap_err();
    assert!(matches!(error, ClientError::Io { ref source, .. } if source.kind() == io::ErrorKind::NotFound));
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn contexts_are_looked_at_and_removed_by_names_of_any_kind() {
    let server = Server::start(async |call| match call.number {
        0 => Ok(answer(200, &[("etag", TAG), ("content-length", "1234")], "")),
        1 => call.reply(200, Reply::new().with("context_id", "c/1 ?")).await,
        _ => call.reply(404, Reply::failure("no_context", "there is none")).await,
    })
    .await;
    let client = server.client();
    let info = client.context_info("c/1 ?").await.unwrap();
    assert_eq!((info.len, info.etag.as_deref()), (Some(1234), Some(TAG)));
    assert_eq!(client.delete_context("c/1 ?").await.unwrap().context_id(), Some("c/1 ?"));
    let error = client.delete_context("c/1 ?").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: 404, ref code, .. } if code == "no_context"));
    let error = client.fetch_context("c/1 ?").to_memory().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: 404, .. }));
    let methods: Vec<_> =
        server.seen().into_iter().map(|seen| (seen.method.to_string(), seen.path)).collect();
    let path = "/avp/v2/contexts/c%2F1%20%3F";
    assert_eq!(methods, ["HEAD", "DELETE", "DELETE", "GET"].map(|method| (method.into(), path.into())));
    for id in ["", ".", ".."] {
        assert_eq!(client.context_info(id).await.unwrap_err().kind(), "option");
    }
}
