//! KV-caches at a real shape: paged blocks, and conversion between dtypes.

use anyhow::Result;
use avp_core::{
    KvDType, KvHeader, KvView,
    kv::{BlockShape, BlockTable},
};

use crate::{
    frames::pattern,
    table::{Table, percent, rate, time},
    timing::{median_seconds, memcpy_seconds},
};

/// Qwen2.5-1.5B's layers and a little more: 28 layers, 4 KV heads, 128 wide, 4,096 tokens.
const HEADER: KvHeader =
    KvHeader { num_layers: 28, num_kv_heads: 4, head_dim: 128, seq_len: 4096, dtype: KvDType::Float16 };

const BLOCK_SIZE: u32 = 16;

pub(crate) fn against_memory() -> Result<Table> {
    let mut table = Table::new(
        "KV-caches: 28 layers, 4 KV heads, 128 wide, 4,096 tokens, blocks of 16",
        &["work", "takes", "speed", "yardstick", "share"],
    );
    let body_len = HEADER.body_len().unwrap_or(0);
    let shape = BlockShape {
        num_blocks: HEADER.seq_len / BLOCK_SIZE,
        num_kv_heads: HEADER.num_kv_heads,
        block_size: BLOCK_SIZE,
        head_dim: HEADER.head_dim,
        dtype: HEADER.dtype,
    };
    // Blocks as an allocator leaves them after a while: in no order.
    let blocks: Vec<u32> = (0..shape.num_blocks).map(|block| (block * 97) % shape.num_blocks).collect();
    let block_table = BlockTable::new(&blocks, shape)?;
    let layer_len = shape.layer_len().unwrap_or(0);
    let mut pool: Vec<Vec<u8>> = (0..HEADER.num_layers).map(|_| pattern(layer_len)).collect();
    let mut body = vec![0; body_len];
    let mut copy = vec![0; body_len];

    let layers: Vec<&[u8]> = pool.iter().map(Vec::as_slice).collect();
    let gather = median_seconds(|| block_table.gather_into(&layers, HEADER.seq_len, &mut body))?;
    let memcpy = memcpy_seconds(&body, &mut copy)?;
    let view = KvView::decode(&body)?;
    let mut layers: Vec<&mut [u8]> = pool.iter_mut().map(Vec::as_mut_slice).collect();
    let scatter = median_seconds(|| block_table.scatter(&view, &mut layers))?;
    for (work, takes) in [("gather", gather), ("scatter", scatter)] {
        table.row([
            work.to_owned(),
            time(takes),
            rate(body_len, takes),
            format!("one memcpy, {}", time(memcpy)),
            percent(memcpy / takes),
        ]);
    }
    for (work, dtype) in
        [("float32 to float16", KvDType::Float16), ("float32 to bfloat16", KvDType::BFloat16)]
    {
        // A sixteenth of the tokens, so that one core's cache and not the whole memory is measured.
        let header = KvHeader { dtype: KvDType::Float32, seq_len: HEADER.seq_len / 16, ..HEADER };
        let source = floats(header);
        let view = KvView::decode(&source)?;
        let selection = view.select().dtype(dtype);
        let mut target = vec![0; source.len()];
        let takes = median_seconds(|| selection.write_into(&mut target))?;
        table.row([
            work.to_owned(),
            time(takes),
            rate(source.len(), takes),
            "4 GB/s of input".to_owned(),
            percent(source.len() as f64 / takes / 4e9),
        ]);
    }
    Ok(table)
}

/// A cache of multiples of one half, so that conversions meet neither subnormals nor NaN.
fn floats(header: KvHeader) -> Vec<u8> {
    let mut body = header.encode().to_vec();
    let elements = header.tensors_len().unwrap_or(0) / 4;
    body.extend((0..elements).flat_map(|index| ((index % 1000) as f32 * 0.5 - 250.0).to_le_bytes()));
    body
}
