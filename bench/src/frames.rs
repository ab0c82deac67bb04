//! Frames: encoding, decoding, and reading the fields that a router needs.

use std::convert::Infallible;

use anyhow::{Result, ensure};
use avp_core::{DType, Dialect, Frame, FrameEncoder, Metadata, PayloadType, copy_threads, crc32};

use crate::{
    peer::Peer,
    table::{Table, percent, rate, size, time, times},
    timing::{median_seconds, memcpy_seconds},
};

/// Payloads compared with the peers, in bytes.
pub(crate) const SIZES: [usize; 2] = [16 << 10, 128 << 20];

const LARGE: usize = 128 << 20;

/// More than header and metadata of these frames take.
const HEAD: usize = 1024;

/// The same metadata as in `peer.py`.
fn metadata() -> Metadata<'static> {
    Metadata {
        session_id: "bench",
        model_id: "Qwen/Qwen2.5-0.5B",
        hidden_dim: 896,
        num_layers: 24,
        payload_type: PayloadType::KvCache,
        dtype: DType::Float16,
        extra: (&[("num_steps", "8")]).into(),
        ..Metadata::default()
    }
}

/// Each peer beside this library in the peer's dialect: 0.2 without a checksum, 0.3 with one.
pub(crate) fn against_peers(peers: &[Peer]) -> Result<Table> {
    let mut table = Table::new(
        "Frames, against the Python peers",
        &["work", "payload", "peer", "peer takes", "we take", "ratio"],
    );
    for bytes in SIZES {
        let payload = pattern(bytes);
        let mut out = vec![0; bytes + HEAD];
        let mut head = [0; HEAD];
        for peer in peers {
            let Some(dialect) = Dialect::from_avp_version(&peer.version) else { continue };
            let encoder = FrameEncoder::new(metadata()).dialect(dialect).threads(copy_threads(bytes));
            let frame = encoder.encode(&payload)?;
            ensure!(Frame::decode(&frame)?.payload()? == payload, "our own frame reads back differently");
            let ours = [
                ("encode", "encode", median_seconds(|| encoder.encode(&payload))?),
                (
                    "encode into a kept buffer",
                    "encode",
                    median_seconds(|| encoder.encode_into(&payload, &mut out))?,
                ),
                (
                    "encode, body borrowed",
                    "encode",
                    median_seconds(|| encoder.encode_head_into(&[&payload], &mut head))?,
                ),
                ("decode", "decode", median_seconds(|| Frame::decode(&frame)?.payload())?),
                // The peer has no way to read a header without the body.
                ("header and metadata", "decode", median_seconds(|| Frame::decode(&frame))?),
            ];
            for (work, peers_work, ours) in ours {
                let theirs = peer.seconds(bytes, peers_work)?;
                table.row([
                    work.to_owned(),
                    size(bytes),
                    format!("avp {}: {peers_work}", peer.version),
                    time(theirs),
                    time(ours),
                    times(theirs / ours),
                ]);
            }
        }
    }
    Ok(table)
}

/// Encoding compared with the memory bandwidth of the machine.
pub(crate) fn against_memory() -> Result<Table> {
    let mut table = Table::new(
        format!("Encoding {}, against the machine", size(LARGE)),
        &["work", "takes", "speed", "yardstick", "yardstick takes", "share"],
    );
    let payload = pattern(LARGE);
    let encoder = FrameEncoder::new(metadata()).threads(copy_threads(LARGE));
    let unsummed = encoder.checksum(false);
    let mut out = vec![0; LARGE + HEAD];
    let mut copy = vec![0; LARGE];
    let mut head = [0; HEAD];

    let checksum = median_seconds(|| Ok::<_, Infallible>(crc32(&payload)))?;
    let memcpy = memcpy_seconds(&payload, &mut copy)?;
    let vectored = median_seconds(|| encoder.encode_head_into(&[&payload], &mut head))?;
    let vectored_unsummed = median_seconds(|| unsummed.encode_head_into(&[&payload], &mut head))?;
    let one_buffer = median_seconds(|| encoder.encode_into(&payload, &mut out))?;
    let one_buffer_unsummed = median_seconds(|| unsummed.encode_into(&payload, &mut out))?;

    let mut row = |work: &str, takes: f64, yardstick: &str, against: f64| {
        table.row([
            work.to_owned(),
            time(takes),
            rate(LARGE, takes),
            yardstick.to_owned(),
            time(against),
            percent(against / takes),
        ]);
    };
    row("vectored, with checksum", vectored, "CRC-32 alone", checksum);
    row("into one buffer, with checksum", one_buffer, "memcpy", memcpy);
    row("into one buffer, no checksum", one_buffer_unsummed, "memcpy", memcpy);
    table.row([
        "vectored, no checksum".to_owned(),
        time(vectored_unsummed),
        String::new(),
        "nothing is copied".to_owned(),
        String::new(),
        String::new(),
    ]);
    Ok(table)
}

/// Bytes that no allocator hands out as untouched zero pages.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| index as u8).collect()
}
