//! What each fuzz target does with its input. It may refuse the input; it must not panic, and where it accepts, what it
//! read must hold together.
//!
//! The targets are plain functions, so that a finding also replays as an ordinary test: `tests/it/fuzz_smoke.rs` includes
//! this file.

use avp_core::{BodyReader, DecodeError, Frame, FrameLimits, HeadReader, verify_compressed};
use avp_transport::carriers::{Limits, a2a, mcp, multipart::Related};
use bytes::Bytes;

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
