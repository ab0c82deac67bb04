//! Paged KV-caches, as in vLLM: blocks of tokens, and for each sequence a table of its blocks.
//!
//! The blocks of one layer are `[num_blocks, 2, num_kv_heads, block_size, head_dim]`, row-major: in each block first
//! the keys, then the values. Entry `i` of a block table names the block that holds tokens `i * block_size` and on.

use super::{KvDType, KvError, KvHeader, KvView, product};
use crate::parallel::{copy, share};

/// The shape of one layer's blocks.
///
/// # Examples
///
/// ```
/// use avp_core::{KvDType, kv::BlockShape};
///
/// let shape =
///     BlockShape { num_blocks: 1024, num_kv_heads: 4, block_size: 16, head_dim: 128, dtype: KvDType::Float16 };
/// assert_eq!(shape.layer_len(), Some(1024 * 2 * 4 * 16 * 128 * 2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockShape {
    /// Blocks in the pool of each layer.
    pub num_blocks: u32,
    /// Key/value heads per layer.
    pub num_kv_heads: u32,
    /// Tokens in a block.
    pub block_size: u32,
    /// Elements per head.
    pub head_dim: u32,
    /// Number format of every element.
    pub dtype: KvDType,
}

impl BlockShape {
    /// Bytes of one layer's blocks; `None` on overflow.
    #[must_use]
    pub fn layer_len(&self) -> Option<usize> {
        self.block_len()?.checked_mul(usize::try_from(self.num_blocks).ok()?)
    }

    /// Bytes of one block: keys and values.
    fn block_len(&self) -> Option<usize> {
        product(&[2, self.num_kv_heads, self.block_size, self.head_dim])?.checked_mul(self.dtype.size())
    }

    /// Blocks that `seq_len` tokens need.
    fn blocks_for(&self, seq_len: u32) -> Result<usize, KvError> {
        match (seq_len, self.block_size) {
            (0, _) => Ok(0),
            (_, 0) => Err(KvError::Mismatch { field: "block_size", expected: 1, got: 0 }),
            _ => Ok(seq_len.div_ceil(self.block_size) as usize),
        }
    }
}

/// A valid block table for a pool: every block exists, and no block occurs twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTable<'a> {
    blocks: &'a [u32],
    shape: BlockShape,
    threads: usize,
}

impl<'a> BlockTable<'a> {
    /// Validates `blocks` for a pool of this shape.
    ///
    /// # Complexity
    ///
    /// With `alloc` it sorts a copy of the table; without, it compares all pairs.
    ///
    /// # Errors
    ///
    /// [`KvError::BlockRange`] or [`KvError::BlockTwice`].
    pub fn new(blocks: &'a [u32], shape: BlockShape) -> Result<Self, KvError> {
        for (index, &block) in blocks.iter().enumerate() {
            if block >= shape.num_blocks {
                return Err(KvError::BlockRange { index, block, num_blocks: shape.num_blocks as usize });
            }
        }
        match first_repeated(blocks) {
            Some(index) => Err(KvError::BlockTwice { index, block: blocks[index] }),
            None => Ok(Self { blocks, shape, threads: 1 }),
        }
    }

    /// Copies the layers on up to this many threads, including the caller's; they end before a call returns. Default: 1.
    /// `copy_threads` recommends a number for this machine. Without `std` there is only the caller's thread.
    #[must_use]
    pub const fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Collects the first `seq_len` tokens from each layer's blocks into a KV-cache body at the start of `out`, and
    /// returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`KvError::Mismatch`] if the table has too few blocks or a layer the wrong length, [`KvError::Buffer`],
    /// [`KvError::Overflow`]. Nothing is written then.
    pub fn gather_into(&self, layers: &[&[u8]], seq_len: u32, out: &mut [u8]) -> Result<usize, KvError> {
        let header = self.header(layers.len(), seq_len)?;
        let body_len = header.body_len().ok_or(KvError::Overflow)?;
        self.check(layers.iter().map(|layer| layer.len()), seq_len)?;
        let got = out.len();
        let body = out.get_mut(..body_len).ok_or(KvError::Buffer { needed: body_len, got })?;
        let (head, tensors) = body.split_at_mut(KvHeader::LEN);
        head.copy_from_slice(&header.encode());
        let Some(tensor_len) = header.tensor_len().filter(|&len| len > 0) else {
            return Ok(body_len);
        };
        let threads = self.threads.min(layers.len());
        let layers = layers.iter().zip(tensors.chunks_exact_mut(2 * tensor_len));
        share(threads, layers, |(layer, target)| {
            for run in self.runs(seq_len) {
                copy(&layer[run.paged], &mut target[run.contiguous]);
            }
        });
        Ok(body_len)
    }

    /// The first `seq_len` tokens as a KV-cache body: see [`gather_into`](Self::gather_into).
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Errors
    ///
    /// As [`gather_into`](Self::gather_into), without [`KvError::Buffer`].
    #[cfg(feature = "alloc")]
    pub fn gather(&self, layers: &[&[u8]], seq_len: u32) -> Result<alloc::vec::Vec<u8>, KvError> {
        // Checked before the allocation: the layers hold as many tokens.
        self.check(layers.iter().map(|layer| layer.len()), seq_len)?;
        let body_len = self.header(layers.len(), seq_len)?.body_len().ok_or(KvError::Overflow)?;
        let mut body = alloc::vec![0; body_len];
        self.gather_into(layers, seq_len, &mut body)?;
        Ok(body)
    }

    /// Writes a KV-cache to each layer's blocks. Only the table's blocks change, and in the last of them only the tokens
    /// of the cache.
    ///
    /// # Errors
    ///
    /// [`KvError::Mismatch`] if cache, table and layers differ in shape. Nothing is written then.
    pub fn scatter(&self, cache: &KvView<'_>, layers: &mut [&mut [u8]]) -> Result<(), KvError> {
        let header = cache.header();
        let shape = &self.shape;
        for (field, expected, got) in [
            ("num_layers", header.num_layers as usize, layers.len()),
            ("num_kv_heads", header.num_kv_heads as usize, shape.num_kv_heads as usize),
            ("head_dim", header.head_dim as usize, shape.head_dim as usize),
        ] {
            if expected != got {
                return Err(KvError::Mismatch { field, expected, got });
            }
        }
        if header.dtype != shape.dtype {
            return Err(KvError::Mismatch {
                field: "dtype",
                expected: header.dtype.to_wire().into(),
                got: shape.dtype.to_wire().into(),
            });
        }
        self.check(layers.iter().map(|layer| layer.len()), header.seq_len)?;
        let tensor_len = header.tensor_len().unwrap_or(0);
        if tensor_len > 0 {
            let threads = self.threads.min(layers.len());
            let layers = layers.iter_mut().zip(cache.tensors().chunks_exact(2 * tensor_len));
            share(threads, layers, |(layer, source)| {
                for run in self.runs(header.seq_len) {
                    copy(&source[run.contiguous], &mut layer[run.paged]);
                }
            });
        }
        Ok(())
    }

    fn header(&self, num_layers: usize, seq_len: u32) -> Result<KvHeader, KvError> {
        Ok(KvHeader {
            num_layers: u32::try_from(num_layers).map_err(|_| KvError::Overflow)?,
            num_kv_heads: self.shape.num_kv_heads,
            head_dim: self.shape.head_dim,
            seq_len,
            dtype: self.shape.dtype,
        })
    }

    fn check(&self, layer_lens: impl Iterator<Item = usize>, seq_len: u32) -> Result<(), KvError> {
        let expected = self.shape.blocks_for(seq_len)?;
        if self.blocks.len() < expected {
            return Err(KvError::Mismatch { field: "blocks in the table", expected, got: self.blocks.len() });
        }
        let expected = self.shape.layer_len().ok_or(KvError::Overflow)?;
        for got in layer_lens {
            if got != expected {
                return Err(KvError::Mismatch { field: "bytes of a layer's blocks", expected, got });
            }
        }
        Ok(())
    }

    /// The runs of tokens that are contiguous in both layouts: those of one block and one head.
    ///
    /// Call [`check`](Self::check) first: the ranges are within the layer and the tensors then.
    fn runs(&self, seq_len: u32) -> impl Iterator<Item = Run> {
        let BlockShape { num_kv_heads, block_size, head_dim, dtype, .. } = self.shape;
        let row = head_dim as usize * dtype.size();
        let (block_size, seq_len, heads) = (block_size as usize, seq_len as usize, 2 * num_kv_heads as usize);
        let num_blocks = if block_size == 0 { 0 } else { seq_len.div_ceil(block_size) };
        // Keys and values are one axis of twice the length, in both layouts. Block by block, since the blocks are the
        // longest contiguous stretches of the paged side.
        let blocks = &self.blocks[..num_blocks];
        blocks.iter().enumerate().flat_map(move |(index, &block)| {
            let first = index * block_size;
            let len = block_size.min(seq_len - first) * row;
            (0..heads).map(move |head| {
                let paged = (block as usize * heads + head) * block_size * row;
                let contiguous = (head * seq_len + first) * row;
                Run { paged: paged..paged + len, contiguous: contiguous..contiguous + len }
            })
        })
    }
}

/// The same bytes in both layouts: a range of a layer's blocks, and one of a layer's keys and values.
struct Run {
    paged: core::ops::Range<usize>,
    contiguous: core::ops::Range<usize>,
}

/// The index of the first repeated block.
#[cfg(feature = "alloc")]
fn first_repeated(blocks: &[u32]) -> Option<usize> {
    let mut mentions: alloc::vec::Vec<(u32, usize)> = blocks.iter().copied().zip(0..).collect();
    mentions.sort_unstable();
    let again = mentions.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1);
    again.min()
}

/// The index of the first repeated block.
#[cfg(not(feature = "alloc"))]
fn first_repeated(blocks: &[u32]) -> Option<usize> {
    (0..blocks.len()).find(|&index| blocks[..index].contains(&blocks[index]))
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "std")]
    use {
        proptest::{collection::vec, prelude::*, sample::select},
        std::vec::Vec,
    };

    use super::*;

    const SHAPE: BlockShape =
        BlockShape { num_blocks: 5, num_kv_heads: 2, block_size: 3, head_dim: 1, dtype: KvDType::BFloat16 };
    const LAYER: usize = 5 * 2 * 2 * 3 * 2;

    #[test]
    fn what_is_gathered_scatters_back_and_touches_nothing_else() {
        let layers: [[u8; LAYER]; 2] =
            core::array::from_fn(|layer| core::array::from_fn(|index| (layer * LAYER + index) as u8));
        let table = BlockTable::new(&[4, 1, 2], SHAPE).unwrap();
        for seq_len in 0..=9 {
            let mut body = [0; 17 + 2 * 2 * 2 * 9 * 2];
            let len = table.gather_into(&[&layers[0], &layers[1]], seq_len, &mut body).unwrap();
            let cache = KvView::decode(&body[..len]).unwrap();
            assert_eq!(cache.header().seq_len, seq_len);
            if seq_len > 3 {
                // Value head 1 of token 3: the first token of block 1 in layer 1.
                let row = &cache.layer(1).value()[(seq_len as usize + 3) * 2..][..2];
                assert_eq!(row, &layers[1][(4 + 3) * 3 * 2..][..2]);
            }

            let mut pools = [[0xee; LAYER]; 2];
            let [first, second] = &mut pools;
            table.scatter(&cache, &mut [first, second]).unwrap();
            for (pool, layer) in pools.iter().zip(&layers) {
                for (index, (&found, &original)) in pool.iter().zip(layer).enumerate() {
                    let (block, token) = ((index / 24) as u32, (index / 2 % 3) as u32);
                    let position = [4, 1, 2].iter().position(|&named| named == block);
                    let is_held = position.is_some_and(|position| position as u32 * 3 + token < seq_len);
                    assert_eq!(found, if is_held { original } else { 0xee });
                }
            }
        }
    }

    #[test]
    fn tables_are_checked_for_range_and_repeats() {
        assert_eq!(
            BlockTable::new(&[0, 5], SHAPE).unwrap_err(),
            KvError::BlockRange { index: 1, block: 5, num_blocks: 5 }
        );
        assert_eq!(
            BlockTable::new(&[3, 0, 3, 0], SHAPE).unwrap_err(),
            KvError::BlockTwice { index: 2, block: 3 }
        );
    }

    #[test]
    fn shapes_that_do_not_agree_are_refused_before_anything_is_written() {
        let table = BlockTable::new(&[0, 1], SHAPE).unwrap();
        let layer = [0; LAYER];
        let mut out = [7; 64];
        let mismatch = |field, expected, got| Err(KvError::Mismatch { field, expected, got });
        assert_eq!(table.gather_into(&[&layer], 7, &mut out), mismatch("blocks in the table", 3, 2));
        assert_eq!(
            table.gather_into(&[&layer[1..]], 6, &mut out),
            mismatch("bytes of a layer's blocks", LAYER, LAYER - 1)
        );
        assert_eq!(
            table.gather_into(&[&layer], 6, &mut out),
            Err(KvError::Buffer { needed: 17 + 2 * 2 * 6 * 2, got: 64 })
        );
        assert_eq!(out, [7; 64]);
    }

    #[test]
    fn blocks_without_tokens_hold_none() {
        let shape = BlockShape { block_size: 0, ..SHAPE };
        let table = BlockTable::new(&[0], shape).unwrap();
        let mut out = [0; 17];
        assert_eq!(table.gather_into(&[&[]], 0, &mut out), Ok(17));
        assert_eq!(table.gather_into(&[&[]], 1, &mut out).unwrap_err().kind(), "kv_mismatch");
    }

    /// A shape, a table for it, and how many tokens it holds; small, so that Miri can walk it.
    #[cfg(feature = "std")]
    fn paged() -> impl Strategy<Value = (BlockShape, Vec<u32>, u32)> {
        let dtypes = select(&[KvDType::Float32, KvDType::Float16, KvDType::BFloat16][..]);
        (1..4_u32, 1..5_u32, 1..70_u32, 1..9_u32, dtypes)
            .prop_map(|(num_kv_heads, block_size, head_dim, num_blocks, dtype)| BlockShape {
                num_blocks,
                num_kv_heads,
                block_size,
                head_dim,
                dtype,
            })
            .prop_flat_map(|shape| {
                let blocks = Just((0..shape.num_blocks).collect::<Vec<_>>()).prop_shuffle();
                (Just(shape), blocks, 0..=shape.num_blocks * shape.block_size)
            })
    }

    #[cfg(feature = "std")]
    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 128 },
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn threads_change_no_byte_of_what_is_gathered_or_scattered(
            (shape, blocks, seq_len) in paged(),
            num_layers in 0..6_usize,
            threads in prop_oneof![2..5_usize, Just(usize::MAX)],
            seed in vec(any::<u8>(), 251),
        ) {
            let table = BlockTable::new(&blocks, shape).unwrap();
            let layer_len = shape.layer_len().unwrap();
            let mut bytes = seed.iter().copied().cycle();
            let pools: Vec<Vec<u8>> = (0..num_layers).map(|_| bytes.by_ref().take(layer_len).collect()).collect();
            let layers: Vec<&[u8]> = pools.iter().map(Vec::as_slice).collect();

            let alone = table.gather(&layers, seq_len).unwrap();
            let mut together = std::vec![0xee; alone.len()];
            prop_assert_eq!(table.threads(threads).gather_into(&layers, seq_len, &mut together), Ok(alone.len()));
            prop_assert_eq!(&together, &alone);

            let cache = KvView::decode(&alone).unwrap();
            let scattered = |threads: usize| {
                let mut pools = std::vec![std::vec![0xee; layer_len]; num_layers];
                let mut layers: Vec<&mut [u8]> = pools.iter_mut().map(Vec::as_mut_slice).collect();
                table.threads(threads).scatter(&cache, &mut layers).map(|()| pools)
            };
            prop_assert_eq!(scattered(threads), scattered(1));
        }
    }
}
