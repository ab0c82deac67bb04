//! How long reading, validating, explaining and building one packet of common length takes.
//!
//! `cargo bench -p aacp --features std,serde,workflows`

#![allow(missing_docs)] // The macros below make public functions without any.

use std::hint::black_box;

use aacp::{
    Builder, Explanation, Limits, Packet, Priority, Validator,
    peer::{self, Release},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PACKET: &str =
    "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08|filter:status=active|fmt:json";

fn one_packet(c: &mut Criterion) {
    let mut group = c.benchmark_group("packet");
    group.throughput(Throughput::Bytes(PACKET.len() as u64));
    group.bench_function("parse", |b| b.iter(|| Packet::parse(black_box(PACKET))));
    group.bench_function("parse and validate, lenient", |b| {
        b.iter(|| Validator::lenient().validate(black_box(PACKET), |_| ()))
    });
    group.bench_function("parse and validate, strict", |b| {
        b.iter(|| Validator::strict().validate(black_box(PACKET), |_| ()))
    });
    group.bench_function("peer report without its texts", |b| {
        b.iter(|| peer::validate(black_box(PACKET), Release::V1_4_0, Limits::DEFAULT, |_| ()))
    });
    group.bench_function("explain", |b| {
        b.iter(|| Packet::parse(black_box(PACKET)).map(|packet| Explanation::of(&packet).to_string()))
    });
    group.bench_function("build", |b| {
        b.iter(|| {
            Builder::new("FETCH", "HR", black_box("HR-Agent"))
                .priority(Priority::Critical)
                .res("emp_salary")
                .period("2024-08")
                .filter("status=active")
                .fmt("json")
                .build()
        })
    });
    group.finish();
}

fn long_lines(c: &mut Criterion) {
    let mut group = c.benchmark_group("10 MB line");
    group.sample_size(10);
    let value = format!("SEND|HR|return:A|aacp:1.2|subj:{}", "x".repeat(10_000_000));
    group.throughput(Throughput::Bytes(value.len() as u64));
    group.bench_function("one value", |b| b.iter(|| Validator::strict().validate(black_box(&value), |_| ())));
    let fields = format!("SEND|HR|return:A|aacp:1.2{}", "|key:value".repeat(1_000_000));
    group.bench_function("a million equal keys", |b| {
        b.iter(|| Validator::lenient().limits(Limits::MAX).validate(black_box(&fields), |_| ()))
    });
    group.finish();
}

criterion_group!(benches, one_packet, long_lines);
criterion_main!(benches);
