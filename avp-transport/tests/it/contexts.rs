//! Contexts that are stored, fetched and deleted.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use avp_core::{Compression, FrameEncoder, Metadata};
use avp_transport::{
    server::{ContextHandler, FairShares, Limits, ListenOptions, ServerOptions, Service},
    store::{ContextStore, SealKeys, StoreOptions},
    wire,
};
use futures_util::FutureExt as _;
use http::{StatusCode, header};

use tokio::io::AsyncWriteExt as _;

use crate::common::{Running, answer, body, files, frame, frame_of, until};

async fn keep(server: &Running, frame: &[u8]) -> String {
    let (status, reply) = server.post(wire::TRANSMIT, frame.to_vec()).await;
    assert_eq!((status, &reply["bytes"]), (200, &frame.len().into()), "{reply}");
    reply["context_id"].as_str().unwrap().to_owned()
}

/// A server over a folder.
async fn start_in(folder: &Path) -> Running {
    let contexts = ContextStore::in_folder(folder, StoreOptions::default()).unwrap();
    let service = Service::new(ContextHandler::new("server", contexts), ServerOptions::default());
    Running::start(service, ListenOptions::default()).await
}

fn path(id: &str) -> String {
    format!("{}{id}", wire::CONTEXTS)
}

#[tokio::test]
async fn a_context_is_the_frame_that_was_sent_whole_and_in_part() {
    for len in [0, 1, 100_000, 3 << 20] {
        let server = Running::stock(ServerOptions::default()).await;
        let frame = frame(len);
        let id = keep(&server, &frame).await;
        let whole = server.get(&path(&id)).await;
        assert_eq!(whole.status(), StatusCode::OK);
        assert_eq!(whole.headers()[header::CONTENT_TYPE], wire::FRAME);
        let etag = whole.headers()[header::ETAG].clone();
        assert_eq!(whole.bytes().await.unwrap(), frame);

        let ask = |name, value: &str| server.http.get(server.url(&path(&id))).header(name, value).send();
        let part = ask(header::RANGE, "bytes=5-9").await.unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()[header::CONTENT_RANGE], format!("bytes 5-9/{}", frame.len()));
        assert_eq!(part.bytes().await.unwrap(), &frame[5..10]);
        let outside = ask(header::RANGE, "bytes=99999999-").await.unwrap();
        assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(outside.headers()[header::CONTENT_RANGE], format!("bytes */{}", frame.len()));
        let known = ask(header::IF_NONE_MATCH, etag.to_str().unwrap()).await.unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        let changed = server.http.get(server.url(&path(&id)));
        let changed = changed.header(header::RANGE, "bytes=5-9").header(header::IF_RANGE, "\"other\"");
        assert_eq!(changed.send().await.unwrap().bytes().await.unwrap(), frame, "all of what is there now");
        let head = server.http.head(server.url(&path(&id))).send().await.unwrap();
        assert_eq!(head.headers()[header::CONTENT_LENGTH], frame.len().to_string());
    }
}

#[tokio::test]
async fn a_range_counts_for_get_alone() {
    let server = Running::stock(ServerOptions::default()).await;
    let frame = frame(1000);
    let url = server.url(&path(&keep(&server, &frame).await));
    for range in ["bytes=5-9", "bytes=99999999-"] {
        let head = server.http.head(&url).header(header::RANGE, range).send().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK, "{range}");
        assert_eq!(head.headers()[header::CONTENT_LENGTH], frame.len().to_string());
        assert!(!head.headers().contains_key(header::CONTENT_RANGE));
    }
}

#[tokio::test]
async fn a_context_that_was_let_go_is_not_found_again() {
    let server = Running::stock(ServerOptions::default()).await;
    let id = keep(&server, &frame(10)).await;
    let delete = || server.http.delete(server.url(&path(&id))).send();
    assert_eq!(delete().await.unwrap().status(), StatusCode::OK);
    assert_eq!(delete().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(server.get(&path(&id)).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.stored_bytes().await, 0);
}

#[tokio::test]
async fn contexts_in_a_folder_outlive_the_server_and_parts_of_frames_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (frame(1 << 20), frame_of(&body(77), ""));
    let packed = FrameEncoder::new(Metadata::default()).compression(Compression::Fast);
    let packed = packed.encode(&body(5000)).unwrap();
    let server = start_in(folder.path()).await;
    let (a, b) = (keep(&server, &first).await, keep(&server, &second).await);
    let (c, d) = (keep(&server, &packed).await, keep(&server, &packed).await);
    server.stop().await;
    // What a process leaves that is killed within a body, and what a disk makes of a file.
    fs::write(folder.path().join(".avp-xyz.part"), &first[..1000]).unwrap();
    for id in [&b, &d] {
        let broken = folder.path().join(format!("{id}.avp"));
        let mut bytes = fs::read(&broken).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&broken, bytes).unwrap();
    }
    for name in ["notes.txt", "download.part", ".avp-list"] {
        fs::write(folder.path().join(name), "somebody's").unwrap();
    }

    let server = start_in(folder.path()).await;
    assert_eq!(server.get(&path(&a)).await.bytes().await.unwrap(), first);
    assert_eq!(server.get(&path(&c)).await.bytes().await.unwrap(), packed);
    for id in [&b, &d] {
        assert_eq!(server.get(&path(id)).await.status(), StatusCode::NOT_FOUND);
    }
    let mut expected: Vec<String> = ["notes.txt", "download.part", ".avp-list"].map(str::to_owned).into();
    expected.extend([&a, &c].map(|id| format!("{id}.avp")));
    expected.sort();
    assert_eq!(files(folder.path()), expected);
}

#[test]
fn two_stores_do_not_share_a_folder_and_the_second_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    let unsound = format!("{}.avp", "0".repeat(32));
    for name in [&unsound, ".avp-arriving.part"] {
        fs::write(folder.path().join(name), b"AV").unwrap();
    }
    let before = files(folder.path());
    let error = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    assert_eq!(error.to_string(), "another server has locked this folder");
    assert_eq!(files(folder.path()), before);
    drop(first);
    ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    assert!(files(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_read_now_is_named_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("{}.avp", "0".repeat(32));
    // No reading leads to an end of it, whoever reads.
    std::os::unix::fs::symlink(&name, folder.path().join(&name)).unwrap();
    fs::write(folder.path().join(name.replace(".avp", ".json")), "{}").unwrap();
    let error = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot read {name}: ")), "{error}");
    assert_eq!(files(folder.path()), [name]);
}

#[tokio::test]
async fn a_start_waits_for_no_folder_and_serves_each_context_once_it_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let frame = FrameEncoder::new(Metadata::default()).compression(Compression::Fast);
    let frame = frame.encode(&vec![7; 128 << 20]).unwrap();
    let ids: Vec<String> = (0..12).map(|number| format!("{number:032x}")).collect();
    ids.iter().for_each(|id| fs::write(folder.path().join(format!("{id}.avp")), &frame).unwrap());
    let server = start_in(folder.path()).await;
    let mut statuses = Vec::new();
    for id in ids.iter().rev() {
        loop {
            let response = server.get(&path(id)).await;
            let status = response.status().as_u16();
            statuses.push(status);
            if status == 200 {
                assert_eq!(response.bytes().await.unwrap(), frame);
                break;
            }
            let reply: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            assert_eq!((status, &reply["code"]), (503, &"verifying".into()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), ids.len());
    assert_eq!(server.get(&path(&"f".repeat(32))).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_no_file_that_is_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let frame = frame(1 << 20);
    let keeping = StoreOptions { quota: frame.len() * 3 / 2, ..Default::default() };
    let contexts = ContextStore::in_folder(folder.path(), keeping).unwrap();
    for _ in 0..3 {
        let before = contexts.ids();
        assert!(contexts.insert(frame.clone().into()).now_or_never().is_none(), "it takes a moment");
        until(|| contexts.ids() != before).await;
    }
    let last = contexts.ids();
    assert_eq!(last.len(), 1);
    assert_eq!(contexts.remove(&last[0]), Ok(true));
    // The lock and the key of the links: the file of one that made room goes a moment after its id.
    until(|| fs::read_dir(folder.path()).unwrap().count() == 2).await;
}

#[tokio::test]
async fn what_has_expired_goes_from_a_server_that_nobody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let keeping = StoreOptions { ttl: Duration::from_millis(200), ..Default::default() };
    let contexts = ContextStore::in_folder(folder.path(), keeping).unwrap();
    let limits = Limits { cleanup_interval: Duration::from_millis(20), ..Default::default() };
    let service =
        Service::new(ContextHandler::new("server", contexts), ServerOptions { limits, ..Default::default() });
    let server = Running::start(service, ListenOptions::default()).await;
    keep(&server, &frame(10)).await;
    until(|| files(folder.path()).is_empty()).await;
}

#[tokio::test]
async fn the_longest_unused_context_makes_room_and_its_file_goes_too() {
    let folder = tempfile::tempdir().unwrap();
    // Two blocks, and one for the record.
    let frame = frame(5000);
    let keeping = StoreOptions { quota: 2 * 3 * 4096, ..Default::default() };
    let contexts = ContextStore::in_folder(folder.path(), keeping).unwrap();
    let service = Service::new(ContextHandler::new("server", contexts), ServerOptions::default());
    let server = Running::start(service, ListenOptions::default()).await;
    let ids = [keep(&server, &frame).await, keep(&server, &frame).await, keep(&server, &frame).await];
    assert_eq!(server.get(&path(&ids[0])).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.get(&path(&ids[2])).await.bytes().await.unwrap(), frame);
    assert_eq!(files(folder.path()).len(), 2);
    let (status, reply) = server.post(wire::TRANSMIT, crate::common::frame(6 * 4096)).await;
    assert_eq!((status, &reply["code"]), (507, &"quota".into()));
}

fn seal_keys(text: &str) -> SealKeys {
    text.parse().unwrap()
}

#[tokio::test]
async fn contexts_in_a_sealed_folder_are_read_with_its_keys_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = ("1f".repeat(32), "2e".repeat(32));
    let open = |keys: &str| {
        let store = ContextStore::in_sealed_folder(folder.path(), seal_keys(keys), StoreOptions::default());
        Service::new(ContextHandler::new("server", store.unwrap()), ServerOptions::default())
    };
    let bodies = [body(10), body(3 << 20), body((1 << 20) - 64)];
    let compressed = FrameEncoder::new(Metadata::default()).compression(Compression::Fast);
    let mut frames = bodies.iter().map(|body| frame_of(body, "")).collect::<Vec<_>>();
    frames.push(compressed.encode(&bodies[1]).unwrap());
    let server = Running::start(open(&old), ListenOptions::default()).await;
    let mut ids = Vec::new();
    for frame in &frames {
        let (status, reply) = server.post(wire::TRANSMIT, frame.clone()).await;
        assert_eq!(status, 200, "{reply}");
        ids.push(reply["context_id"].as_str().unwrap().to_owned());
    }
    server.stop().await;
    for name in files(folder.path()) {
        let file = fs::read(folder.path().join(name)).unwrap();
        assert!(file.starts_with(b"AVPSEAL1"));
        assert!(!file.windows(8).any(|bytes| *bytes == bodies[0][..8]));
    }

    let damaged = folder.path().join(format!("{}.avp", ids[2]));
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let service = open(&format!("{new}\n{old}"));
    let server = Running::start(service.clone(), ListenOptions::default()).await;
    for (id, frame) in ids.iter().zip(&frames) {
        let context = server.get(&format!("{}{id}", wire::CONTEXTS)).await;
        if *id == ids[2] {
            assert_eq!(context.status(), 404, "it was changed");
            continue;
        }
        assert_eq!(context.bytes().await.unwrap(), frame);
        let last = frame.len() - 5;
        let range = format!("bytes={last}-");
        let part = server.http.get(server.url(&format!("{}{id}", wire::CONTEXTS))).header("range", range);
        assert_eq!(part.send().await.unwrap().bytes().await.unwrap(), frame[last..]);
    }
    let (_, kept) = server.post(wire::TRANSMIT, frames[0].clone()).await;
    service.handler().contexts().replace_seal_keys(seal_keys(&new));
    let status = async |id: &str| server.get(&format!("{}{id}", wire::CONTEXTS)).await.status().as_u16();
    assert_eq!(status(&ids[0]).await, 404, "its key is gone");
    let kept = kept["context_id"].as_str().unwrap();
    assert_eq!(status(kept).await, 200);
    fs::write(folder.path().join(format!("{kept}.avp")), "AVPSEAL1").unwrap();
    assert_eq!(status(kept).await, 404, "it was cut");
    fs::write(folder.path().join(format!("{kept}.avp")), &frames[0]).unwrap();
    assert_eq!(status(kept).await, 404, "it was replaced");
    server.stop().await;
    drop(service);

    // A frame that is not sealed could be anybody's, and without its record nobody knows whose a sealed one is.
    let (plain, alone) = (
        folder.path().join(format!("{}.avp", "7".repeat(32))),
        folder.path().join(format!("{}.json", ids[1])),
    );
    fs::write(&plain, &frames[0]).unwrap();
    fs::write(plain.with_extension("json"), r#"{"owner":"","expires":99999999999999}"#).unwrap();
    let record = fs::read(&alone).unwrap();
    fs::remove_file(&alone).unwrap();
    let store = ContextStore::in_sealed_folder(
        folder.path(),
        seal_keys(&format!("{new}\n{old}")),
        StoreOptions::default(),
    );
    assert_eq!(store.unwrap().ids().len(), 2);
    assert!(plain.exists() && alone.with_extension("avp").exists());
    fs::remove_file(plain.with_extension("json")).unwrap();
    fs::remove_file(&plain).unwrap();
    fs::write(&alone, record).unwrap();

    let before = files(folder.path());
    let error = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap_err().to_string();
    assert!(error.contains("sealed") && error.contains(".avp"), "{error}");
    let others =
        ContextStore::in_sealed_folder(folder.path(), seal_keys(&"3d".repeat(32)), StoreOptions::default());
    assert_eq!(others.unwrap().ids(), [""; 0]);
    assert_eq!(files(folder.path()), before, "nothing is lost by a wrong key");
}

#[tokio::test]
async fn a_repetition_that_is_compared_in_a_sealed_folder_takes_the_memory_of_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let keys = seal_keys(&"1f".repeat(32));
    let store = ContextStore::in_sealed_folder(folder.path(), keys, StoreOptions::default()).unwrap();
    // Enough to seal a frame, of which 4 MiB are needed, and too little to read it beside that.
    let options = ServerOptions { memory: FairShares::new(21 << 18), ..Default::default() };
    let service = Service::new(ContextHandler::new("server", store), options);
    let server = Running::start(service, ListenOptions::default()).await;
    let send = || {
        let request = server.http.post(server.url(wire::TRANSMIT)).header(wire::IDEMPOTENCY_HEADER, "k");
        answer(request.body(frame(1000)))
    };
    assert_eq!(send().await.0, 200);
    let (status, reply) = send().await;
    assert_eq!((status, &reply["code"]), (413, &"too_large_for_memory".into()));
}

#[tokio::test]
async fn frames_that_are_being_received_have_a_quota_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let keeping = StoreOptions { quota: 8 << 20, ..Default::default() };
    let contexts = ContextStore::in_folder(folder.path(), keeping).unwrap();
    let service = Service::new(ContextHandler::new("server", contexts), ServerOptions::default());
    let server = Running::start(service, ListenOptions::default()).await;
    let frame = frame(6 << 20);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
        wire::TRANSMIT,
        wire::FRAME,
        frame.len()
    );
    let mut slow = tokio::net::TcpStream::connect(server.address).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&frame[..frame.len() - 1]).await.unwrap();
    let part_len = || {
        let parts = files(folder.path()).into_iter().filter(|name| name.ends_with(".part"));
        let lens = parts.map(|name| fs::metadata(folder.path().join(name)).map_or(0, |file| file.len()));
        lens.max().unwrap_or_default()
    };
    until(|| part_len() > 5 << 20).await;
    let (status, reply) = server.post(wire::TRANSMIT, frame.clone()).await;
    assert_eq!((status, &reply["code"]), (503, &"no_room".into()), "{reply}");
    drop(slow);
    until(|| part_len() == 0).await;
    assert_eq!(server.post(wire::TRANSMIT, frame).await.0, 200);
}

#[tokio::test]
async fn a_context_whose_time_is_over_is_gone_from_the_folder_too() {
    let folder = tempfile::tempdir().unwrap();
    let keeping = StoreOptions { ttl: Duration::ZERO, ..Default::default() };
    let contexts = ContextStore::in_folder(folder.path(), keeping).unwrap();
    let service = Service::new(ContextHandler::new("server", contexts), ServerOptions::default());
    let server = Running::start(service, ListenOptions::default()).await;
    let id = keep(&server, &frame(10)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(server.get(&path(&id)).await.status(), StatusCode::NOT_FOUND);
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn a_frame_that_was_made_here_is_kept_as_one_that_came() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    for contexts in [ContextStore::in_memory(StoreOptions::default()), in_folder] {
        let frame = frame(100_000);
        let kept = contexts.insert(frame.clone().into()).await.unwrap();
        assert_eq!(contexts.get(kept.id()).unwrap().bytes().await.unwrap(), frame);
        let mut damaged = frame.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for (wrong, code) in [
            (damaged, "checksum_mismatch"),
            (frame[..frame.len() - 1].to_vec(), "truncated"),
            (b"AV".to_vec(), "truncated"),
        ] {
            assert_eq!(contexts.insert(wrong.into()).await.unwrap_err().kind(), code);
        }
        assert_eq!(contexts.ids().len(), 1);
    }
    assert_eq!(files(folder.path()).len(), 1, "and nothing half-written beside it");
    let again = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!(again.ids().len(), 1);
}

#[tokio::test]
async fn owner_and_expiry_of_a_context_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let options = |ttl| StoreOptions { ttl: Duration::from_secs(ttl), ..StoreOptions::default() };
    let store = ContextStore::in_folder(folder.path(), options(2)).unwrap();
    let short = store.insert_for("alice".into(), frame(10).into()).await.unwrap().id().to_owned();
    drop(store);
    let store = ContextStore::in_folder(folder.path(), options(3600)).unwrap();
    let long = store.insert_for("bob \"b\"".into(), frame(20).into()).await.unwrap().id().to_owned();
    assert_eq!(store.get(&short).unwrap().owner(), "alice");
    drop(store);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let store = ContextStore::in_folder(folder.path(), options(3600)).unwrap();
    assert!(store.get(&short).is_none(), "a restart gives no new time to live");
    assert_eq!(store.get(&long).unwrap().owner(), "bob \"b\"");
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_frame_is_stored_once_for_its_idempotency_key_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let send = async |server: &Running, frame: Vec<u8>| {
        let request = server.http.post(server.url(wire::TRANSMIT)).header(wire::IDEMPOTENCY_HEADER, "k");
        answer(request.body(frame)).await
    };
    let server = start_in(folder.path()).await;
    let (status, first) = send(&server, frame(1000)).await;
    assert_eq!(status, 200, "{first}");
    server.stop().await;
    let server = start_in(folder.path()).await;
    assert_eq!(send(&server, frame(1000)).await, (200, first));
    assert_eq!(send(&server, frame(1001)).await.1["code"], "idempotency_key_reused");
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_frame_whose_client_has_gone_is_stored_once_under_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let contexts = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    let service = Service::new(ContextHandler::new("server", contexts), ServerOptions::default());
    let request = || {
        let request = http::Request::post(wire::TRANSMIT).header(header::CONTENT_TYPE, wire::FRAME);
        let request = request.header(wire::IDEMPOTENCY_HEADER, "k");
        request.body(http_body_util::Full::from(frame(1000))).unwrap()
    };
    assert!(service.answer(request()).now_or_never().is_none(), "the client goes before the answer");
    let contexts = service.handler().contexts();
    until(|| contexts.ids().len() == 1).await;
    // It is stored a moment before its key is known as completed.
    let again = loop {
        let again = service.answer(request()).await.status();
        if again != StatusCode::CONFLICT {
            break again;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((again, contexts.ids().len()), (StatusCode::OK, 1));
}

#[tokio::test]
async fn a_context_whose_file_cannot_be_removed_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    let id = store.insert(frame(10).into()).await.unwrap().id().to_owned();
    // A folder cannot be removed like a file, by any user.
    let file = folder.path().join(format!("{id}.avp"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(store.remove(&id).unwrap_err().kind(), "storage");
    assert!(store.contains(&id));
}

#[tokio::test]
async fn a_damaged_record_takes_the_owner_and_not_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let store = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    let id = store.insert_for("alice".into(), frame(10).into()).await.unwrap().id().to_owned();
    drop(store);
    for damaged in ["", "{\"owner\":", "{}", "nonsense"] {
        fs::write(folder.path().join(format!("{id}.json")), damaged).unwrap();
        let store = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.get(&id).unwrap().owner(), "", "{damaged:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_of_contexts_and_its_files_are_for_their_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("contexts");
    let store = ContextStore::in_folder(&folder, StoreOptions::default()).unwrap();
    store.insert(frame(10).into()).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.ends_with(".avp-lock") || mode(&path) == 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn after_a_restart_too_the_oldest_context_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    // Room for eight, each with a block for the frame and one for the record.
    let keeping = StoreOptions { quota: 8 * 2 * 4096, ..Default::default() };
    let store = ContextStore::in_folder(folder.path(), keeping).unwrap();
    let mut ids = Vec::new();
    for age in (0..8).rev() {
        let id = store.insert(frame(10).into()).await.unwrap().id().to_owned();
        let file = fs::File::options().append(true).open(folder.path().join(format!("{id}.avp"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        ids.push(id);
    }
    drop(store);
    let store = ContextStore::in_folder(folder.path(), keeping).unwrap();
    for oldest in &ids {
        assert!(store.contains(oldest));
        store.insert(frame(10).into()).await.unwrap();
        assert!(!store.contains(oldest));
    }
}

#[tokio::test]
async fn a_file_that_was_exchanged_for_a_longer_one_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_in(folder.path()).await;
    let id = keep(&server, &frame(100)).await;
    let file = fs::File::options().append(true).open(folder.path().join(format!("{id}.avp"))).unwrap();
    file.set_len(1 << 40).unwrap();
    let response = server.get(&path(&id)).await;
    assert_eq!(response.status(), 404, "it was exchanged");
    let store = ContextStore::in_memory(StoreOptions::default());
    assert!(store.insert(frame(100).into()).await.unwrap().bytes().await.is_ok());
}

#[cfg(unix)]
#[tokio::test]
async fn what_else_lies_in_the_folder_delays_no_start_and_fills_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let id = format!("{:032x}", 7);
    fs::write(place(&format!("{id}.avp")), frame(10)).unwrap();
    for pipe in [format!("{id}.json"), ".avp-link-key".to_owned()] {
        assert!(std::process::Command::new("mkfifo").arg(place(&pipe)).status().unwrap().success());
    }
    fs::create_dir(place(".avp-x.part")).unwrap();
    // A gigabyte and a half of metadata, as the head says and the file seems to have.
    let mut sparse = frame(10);
    sparse[4..8].copy_from_slice(&(3u32 << 29).to_le_bytes());
    sparse[8..12].copy_from_slice(&(3u32 << 29).to_le_bytes());
    let sparse_name = format!("{:032x}.avp", 8);
    fs::write(place(&sparse_name), &sparse).unwrap();
    fs::File::options().append(true).open(place(&sparse_name)).unwrap().set_len(12 + (3 << 29)).unwrap();
    let store = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.ids(), [&*id]);
    assert!(place(&sparse_name).exists() && place(".avp-link-key").exists() && place(".avp-x.part").exists());
    drop(store);
    fs::remove_file(place(".avp-lock")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(place(".avp-lock")).status().unwrap().success());
    let error = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap_err().to_string();
    assert!(error.contains(".avp-lock"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_named_like_a_context_delays_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join(format!("{:032x}.avp", 7));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let store = ContextStore::in_folder(folder.path(), StoreOptions::default()).unwrap();
    assert!(store.ids().is_empty() && pipe.exists());
}
