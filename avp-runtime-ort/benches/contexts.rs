//! The cost of exporting and importing a context compared with a copy of its bytes, with the shape of Qwen2.5-0.5B in float32
//! and 4,096 tokens.
//!
//!     cargo bench -p avp-runtime-ort --bench contexts
//!
//! No model is run, but an ONNX Runtime library is needed to hold the cache. The unit is one memcpy into newly allocated memory,
//! as for a frame; an export and an import may together take two units.

use std::{hint::black_box, time::Duration};

use avp_core::{Compression, FrameEncoder, KvDType, KvHeader, Metadata, PayloadType};
use avp_runtime_ort::{Context, FrameOptions, FrameReadOptions, Runtime};
use bytes::Bytes;
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

const HEADER: KvHeader =
    KvHeader { num_layers: 24, num_kv_heads: 2, head_dim: 64, seq_len: 4096, dtype: KvDType::Float32 };

/// A frame of normal numbers.
fn frame(alignment: usize) -> Vec<u8> {
    let elements = HEADER.tensors_len().expect("a shape that fits memory") / 4;
    let mut body = HEADER.encode().to_vec();
    body.extend((0..elements).flat_map(|index| ((index % 1000) as f32 * 0.5 - 250.0).to_le_bytes()));
    let fields = Metadata {
        hidden_dim: 896,
        num_layers: HEADER.num_layers,
        payload_type: PayloadType::KvCache,
        ..Metadata::default()
    };
    FrameEncoder::new(fields).align(alignment).encode(&body).expect("a frame")
}

fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(HEADER.tensors_len().unwrap_or(0) as u64));
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group
}

fn contexts(criterion: &mut Criterion) {
    let runtime = Runtime::find().expect("an ONNX Runtime library");
    let aligned = Bytes::from(frame(64));
    let verified = FrameReadOptions::default();
    let unverified = FrameReadOptions { verify_checksum: false, ..verified };
    let scanned = FrameReadOptions { scan: true, ..unverified };
    let read =
        |bytes: &Bytes, options| Context::from_bytes(&runtime, bytes.clone(), options).expect("a context");
    let context = read(&aligned, &verified);
    let with_sum = FrameOptions::default();
    let without_sum = FrameOptions { checksum: Some(false), ..with_sum.clone() };

    let mut both = group(criterion, "hand-over");
    both.bench_function("bound: memcpy twice into fresh memory", |bencher| {
        bencher.iter(|| drop(black_box(black_box(aligned.to_vec()).clone())));
    });
    for (name, options) in [("checksum", &with_sum), ("no checksum", &without_sum)] {
        both.bench_function(format!("export and import, {name}"), |bencher| {
            bencher.iter(|| {
                let frame = context.to_frame(options).expect("a frame");
                drop(black_box(read(&Bytes::from(frame), &verified)));
            });
        });
    }
    both.finish();

    let mut parts = group(criterion, "parts");
    parts.bench_function("bound: memcpy into fresh memory", |bencher| {
        bencher.iter(|| drop(black_box(aligned.to_vec())));
    });
    parts.bench_function("to_frame", |bencher| bencher.iter(|| context.to_frame(&with_sum)));
    parts.bench_function("to_frame, no checksum", |bencher| bencher.iter(|| context.to_frame(&without_sum)));
    parts.bench_function("write_to nowhere", |bencher| {
        bencher.iter(|| context.write_to(&mut std::io::sink(), &with_sum));
    });
    parts.bench_function("from_bytes", |bencher| bencher.iter(|| read(&aligned, &verified)));
    parts.bench_function("from_bytes, no checksum", |bencher| bencher.iter(|| read(&aligned, &unverified)));
    parts.bench_function("from_bytes, scanned", |bencher| bencher.iter(|| read(&aligned, &scanned)));
    parts.bench_function("from_frame, which copies", |bencher| {
        bencher.iter(|| Context::from_frame(&runtime, &aligned));
    });
    parts.bench_function("truncate to half", |bencher| {
        bencher.iter(|| context.truncate(HEADER.seq_len as usize / 2));
    });
    parts.finish();

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("context.avp");
    let mut disk = group(criterion, "disk");
    disk.bench_function("save", |bencher| bencher.iter(|| context.save(&path)));
    disk.bench_function("save, zstd 1", |bencher| {
        let options = FrameOptions { compression: Compression::Fast, ..FrameOptions::default() };
        bencher.iter(|| context.save_with(folder.path().join("packed.avp"), &options));
    });
    disk.bench_function("load", |bencher| bencher.iter(|| Context::load(&runtime, &path, &verified)));
    disk.bench_function("load, no checksum", |bencher| {
        bencher.iter(|| Context::load(&runtime, &path, &unverified));
    });
    disk.finish();
}

criterion_group!(benches, contexts);
criterion_main!(benches);
