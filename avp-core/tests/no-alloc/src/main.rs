//! Everything that `avp-core` does without features, in a program that has no allocator to call.
//!
//! It links only if nothing asks for one, and exits with 0 if every step gave what it should.
#![no_std]
#![no_main]

use core::ffi::c_int;

use avp_core::{
    Chunk, Dialect, Evidence, Frame, FrameEncoder, Hybrid, KvDType, KvHeader, KvView, KvWriter,
    Metadata, Mode, ModelIdentity, PayloadType, Rule, hybrid, kv, resolve,
};

// The start files of the platform call `main`; this is all that is wanted of its C library.
#[link(name = "c")]
unsafe extern "C" {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// What the platform calls.
// SAFETY: no other item of this program is called `main`.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> c_int {
    match run() {
        Some(()) => 0,
        None => 1,
    }
}

fn run() -> Option<()> {
    let shape = KvHeader { num_layers: 2, num_kv_heads: 1, head_dim: 2, seq_len: 2, dtype: KvDType::Float16 };
    let mut cache = [0; 64];
    let mut writer = KvWriter::new(shape, &mut cache).ok()?;
    writer.layer(b"k0k1k2k3", b"v0v1v2v3").ok()?;
    writer.layer(b"K0K1K2K3", b"V0V1V2V3").ok()?;
    let cache_len = writer.finish().ok()?;

    let fields = Metadata {
        session_id: "session",
        model_id: "model",
        payload_type: PayloadType::KvCache,
        tensor_shape: (&[2, 1, 2, 2]).into(),
        extra: (&[("num_steps", "8"), ("model_family", "qwen2")]).into(),
        ..Default::default()
    };
    let mut buffer = [0; 256];
    let len = FrameEncoder::new(fields).encode_into(&cache[..cache_len], &mut buffer).ok()?;
    let frame = Frame::decode(&buffer[..len]).ok()?;
    let metadata = frame.metadata();
    let view = frame.kv_cache(frame.payload().ok()?).ok()?;
    require(frame.dialect() == Some(Dialect::V0_3))?;
    require(metadata.tensor_shape.iter().eq([2, 1, 2, 2]) && metadata.extra.get("num_steps") == Some("8"))?;
    require(view.layer(1).value() == b"V0V1V2V3")?;

    let mut last_token = [0; 64];
    let len = view.select().tokens(1..2).ok()?.dtype(KvDType::Float32).write_into(&mut last_token).ok()?;
    require(KvView::decode(&last_token[..len]).ok()?.header().seq_len == 1)?;
    let pool = kv::BlockShape {
        num_blocks: 2,
        num_kv_heads: 1,
        block_size: 2,
        head_dim: 2,
        dtype: KvDType::Float16,
    };
    let mut blocks = [[0; 32]; 2];
    let [first, second] = &mut blocks;
    kv::BlockTable::new(&[1], pool).ok()?.scatter(&view, &mut [first, second]).ok()?;
    require(blocks[1][16..] == *b"K0K1K2K3V0V1V2V3")?;

    let mut body = [0; 64];
    let chunks = [Chunk::latent(b"latent", 0.5), Chunk::text("text", 1.0)];
    let body_len = hybrid::encode_into(&chunks, &mut body).ok()?;
    let fields = Metadata { mode: Mode::Hybrid, confidence_score: Some(0.5), ..Default::default() };
    let encoder = FrameEncoder::new(fields).dialect(Dialect::V0_2);
    let len = encoder.encode_into(&body[..body_len], &mut buffer).ok()?;
    let frame = Frame::decode(&buffer[..len]).ok()?;
    require(Hybrid::decode(frame.payload().ok()?).ok()?.text() == Some("text"))?;
    require((0..len).all(|cut| Frame::decode(&buffer[..cut]).is_err()))?;

    let model =
        ModelIdentity { model_family: "qwen2", hidden_dim: 896, num_layers: 24, ..Default::default() };
    let other = ModelIdentity { num_layers: 28, ..model };
    require(resolve(&model, &model, Evidence::default()).rule == Rule::StructuralMatch)?;
    require(model.differences(&other).map(|difference| difference.field).eq(["num_layers"]))
}

fn require(holds: bool) -> Option<()> {
    holds.then_some(())
}
