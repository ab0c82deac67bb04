//! Speed of what touches many bytes, each beside the bound it is held to: copying, or the checksum crate alone.
//!
//!     cargo bench -p avp-core --features std,zstd-native   # or zstd, for the pure backend

use std::{hint::black_box, time::Duration};

use avp_core::{
    Frame, FrameEncoder, KvDType, KvHeader, KvView, Metadata, PayloadType, copy_threads,
    kv::{BlockShape, BlockTable},
};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};

/// 128 MiB: a KV-cache of some thousand tokens.
const BODY: usize = 128 << 20;

fn fields() -> Metadata<'static> {
    Metadata {
        session_id: "0f8fad5bd9cb469fa165708867a3b7f1",
        source_agent_id: "researcher",
        target_agent_id: "writer",
        model_id: "Qwen/Qwen2.5-7B-Instruct",
        hidden_dim: 3584,
        num_layers: 28,
        payload_type: PayloadType::KvCache,
        tensor_shape: (&[28, 2, 4, 4096, 128]).into(),
        extra: (&[("model_family", "qwen2"), ("num_steps", "20")]).into(),
        ..Default::default()
    }
}

fn group<'c>(criterion: &'c mut Criterion, name: &str, bytes: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes as u64));
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group
}

fn decode(criterion: &mut Criterion) {
    let frame = FrameEncoder::new(fields()).encode(&vec![1; BODY]).expect("a frame");
    criterion.bench_function("decode/header and metadata of 128 MiB", |bencher| {
        bencher.iter(|| Frame::decode(black_box(&frame)).map(|frame| frame.metadata().hidden_dim));
    });
    group(criterion, "decode", BODY).bench_function("payload of 128 MiB, verified", |bencher| {
        bencher.iter(|| Frame::decode(black_box(&frame)).and_then(|frame| frame.payload().map(<[u8]>::len)));
    });
}

#[cfg(feature = "zstd")]
fn zstd(criterion: &mut Criterion) {
    use avp_core::{Compression, compress_body, decompress_body};

    // As in a KV-cache of half-floats: one byte of each is noise, the other takes few values.
    let mut state = 1_u64;
    let half_floats = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        [state as u8, 0x38 + (state >> 61) as u8]
    });
    let payload: Vec<u8> = half_floats.take(8 << 20).flatten().collect();
    for (name, len) in [("16 MiB", 16 << 20), ("16 KiB", 16 << 10)] {
        let payload = &payload[..len];
        let mut group = group(criterion, "zstd", len);
        for compression in [Compression::Fast, Compression::Balanced] {
            group.bench_function(format!("compress_body, {compression:?}, {name}"), |bencher| {
                bencher.iter(|| compress_body(black_box(payload), compression));
            });
        }
        let body = compress_body(payload, Compression::Fast);
        group.bench_function(format!("decompress_body, {name}"), |bencher| {
            bencher.iter(|| decompress_body(black_box(&body), len, 0));
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let body = vec![1_u8; BODY];
    let mut out = vec![0; BODY + 1024];
    let mut head = [0; 1024];
    let with = FrameEncoder::new(fields()).threads(copy_threads(BODY));
    let without = with.checksum(false);

    let mut group = group(criterion, "encode", BODY);
    group.bench_function("bound: crc32fast alone", |bencher| {
        bencher.iter(|| avp_core::crc32(black_box(&body)));
    });
    group.bench_function("128 MiB vectored, with checksum", |bencher| {
        bencher.iter(|| with.encode_head_into(&[black_box(&body)], &mut head));
    });
    group.bench_function("128 MiB vectored, without", |bencher| {
        bencher.iter(|| without.encode_head_into(&[black_box(&body)], &mut head));
    });
    group.bench_function("bound: copying alone", |bencher| {
        bencher.iter(|| out[..BODY].copy_from_slice(black_box(&body)));
    });
    group.bench_function("128 MiB into one buffer, without", |bencher| {
        bencher.iter(|| without.encode_into(black_box(&body), &mut out));
    });
    group.bench_function("128 MiB into one buffer, with checksum", |bencher| {
        bencher.iter(|| with.encode_into(black_box(&body), &mut out));
    });
    group.finish();

    let small = vec![1; 16 << 10];
    criterion.bench_function("encode/16 KiB into one buffer, with checksum", |bencher| {
        bencher.iter(|| with.encode_into(black_box(&small), &mut out));
    });
}

fn paged(criterion: &mut Criterion) {
    let (num_layers, seq_len) = (28, 4096);
    let shape = BlockShape {
        num_blocks: 300,
        num_kv_heads: 4,
        block_size: 16,
        head_dim: 128,
        dtype: KvDType::Float16,
    };
    // Every block but the last some, in an order that no prefetcher guesses.
    let blocks: Vec<u32> = (0..256).map(|index| index * 97 % 257).collect();
    let table = BlockTable::new(&blocks, shape).expect("a sound table");
    let layer_len = shape.layer_len().expect("a small pool");
    let mut pools: Vec<Vec<u8>> = (0..num_layers).map(|layer| vec![layer as u8; layer_len]).collect();
    let header = KvHeader { num_layers, num_kv_heads: 4, head_dim: 128, seq_len, dtype: KvDType::Float16 };
    let tensors_len = header.tensors_len().expect("a cache");
    let table = table.threads(copy_threads(tensors_len));
    let source = vec![1_u8; tensors_len];
    let mut body = vec![0; tensors_len + KvHeader::LEN];

    let mut group = group(criterion, "paged", tensors_len);
    group.bench_function("bound: copying alone", |bencher| {
        // To the start of the buffer: behind 17 bytes some processors copy at a third of their speed.
        bencher.iter(|| body[..tensors_len].copy_from_slice(black_box(&source)));
    });
    let layers: Vec<&[u8]> = pools.iter().map(Vec::as_slice).collect();
    group.bench_function("gather 4096 tokens of 28 layers", |bencher| {
        bencher.iter(|| table.gather_into(black_box(&layers), seq_len, &mut body));
    });
    let cache = KvView::decode(&body).expect("a cache");
    let mut layers: Vec<&mut [u8]> = pools.iter_mut().map(Vec::as_mut_slice).collect();
    group.bench_function("scatter 4096 tokens of 28 layers", |bencher| {
        bencher.iter(|| table.scatter(black_box(&cache), &mut layers));
    });
    group.finish();
}

fn convert(criterion: &mut Criterion) {
    let header =
        KvHeader { num_layers: 4, num_kv_heads: 4, head_dim: 128, seq_len: 1024, dtype: KvDType::Float32 };
    let mut body = vec![0; header.body_len().expect("a cache")];
    body[..KvHeader::LEN].copy_from_slice(&header.encode());
    for (index, bytes) in body[KvHeader::LEN..].as_chunks_mut().0.iter_mut().enumerate() {
        *bytes = (index as f32 / 1000.0).to_le_bytes();
    }
    let cache = KvView::decode(&body).expect("a cache");
    let mut out = vec![0; body.len()];
    let mut group = group(criterion, "convert", body.len());
    for dtype in [KvDType::Float16, KvDType::BFloat16] {
        group.bench_function(format!("float32 to {dtype}"), |bencher| {
            bencher.iter(|| black_box(&cache).select().dtype(dtype).write_into(&mut out));
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, paged, convert);
#[cfg(feature = "zstd")]
criterion_group!(bodies, zstd);
#[cfg(feature = "zstd")]
criterion_main!(benches, bodies);
#[cfg(not(feature = "zstd"))]
criterion_main!(benches);
