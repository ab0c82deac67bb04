//! Peak memory of transferring a context.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use avp_core::{FrameEncoder, KvDType, KvHeader, Metadata, PayloadType};
use avp_runtime_ort::{Context, FrameOptions, FrameReadOptions, Runtime};

/// 12 MiB: large compared with all other allocations of the test.
const HEADER: KvHeader =
    KvHeader { num_layers: 24, num_kv_heads: 2, head_dim: 64, seq_len: 512, dtype: KvDType::Float32 };

fn frame() -> Vec<u8> {
    let mut body = HEADER.encode().to_vec();
    body.resize(HEADER.body_len().unwrap(), 1);
    let fields = Metadata { payload_type: PayloadType::KvCache, ..Metadata::default() };
    FrameEncoder::new(fields).align(64).encode(&body).unwrap()
}

/// Peak memory as a multiple of the size of the cache.
fn peak(work: impl FnOnce()) -> f64 {
    allocation_counter::measure(work).bytes_max as f64 / HEADER.tensors_len().unwrap() as f64
}

#[test]
fn a_hand_over_holds_the_cache_and_its_frame_and_nothing_more() {
    let runtime = Runtime::find().unwrap();
    let read = |frame: Vec<u8>| Context::from_bytes(&runtime, frame, &FrameReadOptions::default()).unwrap();
    let made = frame();
    let options = FrameOptions::default();
    // The sender's cache, the frame, and the receiver's cache, which lies in the frame.
    let handed_over = peak(move || {
        let context = read(made);
        let received = read(context.to_frame(&options).unwrap());
        assert_eq!(received.seq_len(), context.seq_len());
    });
    // `made` was there before; what is counted comes on top of it.
    assert!(1.0 + handed_over < 2.2, "{}", 1.0 + handed_over);
}

#[test]
fn streams_and_files_allocate_almost_nothing() {
    let runtime = Runtime::find().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("context.avp");
    let context = Context::from_bytes(&runtime, frame(), &FrameReadOptions::default()).unwrap();
    let options = FrameOptions::default();
    assert!(peak(|| assert!(context.write_to(&mut std::io::sink(), &options).is_ok())) < 0.01);
    assert!(peak(|| context.save(&path).unwrap()) < 0.01);
    let loaded = peak(|| drop(Context::load(&runtime, &path, &FrameReadOptions::default()).unwrap()));
    assert!(loaded < 0.01, "{loaded}");
}

#[test]
fn a_cut_allocates_only_the_remaining_rows() {
    let runtime = Runtime::find().unwrap();
    let context = Context::from_bytes(&runtime, frame(), &FrameReadOptions::default()).unwrap();
    let half = peak(|| drop(context.truncate(256).unwrap()));
    assert!((0.5..0.51).contains(&half), "{half}");
}
