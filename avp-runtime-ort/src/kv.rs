//! KV-caches as ONNX Runtime values: the output of one run is the input of the next, without a copy through host vectors.

use std::sync::Arc;

use avp_core::KvDType;
use ort::{
    memory::Allocator,
    value::{DynTensor, DynValue, TensorElementType},
};

use crate::{RunError, conventions::present, prepare::CacheLayout};

mod host;

pub(crate) use host::HostBuffer;

/// Key and value of each layer, `[1, num_kv_heads, seq_len, head_dim]`.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<[DynTensor; 2]>,
    layout: CacheLayout,
    seq_len: usize,
}

/// The prefix from which a call continues: the first `seq_len` rows of a cache, not copied yet.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    cache: Arc<KvCache>,
    seq_len: usize,
}

impl Past {
    /// The first rows of `cache`, at most `seq_len`.
    pub(crate) fn new(cache: Arc<KvCache>, seq_len: usize) -> Self {
        Self { seq_len: seq_len.min(cache.seq_len()), cache }
    }

    pub(crate) fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// All of the cache.
    pub(crate) fn cache(&self) -> &Arc<KvCache> {
        &self.cache
    }
}

impl From<Arc<KvCache>> for Past {
    fn from(cache: Arc<KvCache>) -> Self {
        Self { seq_len: cache.seq_len(), cache }
    }
}

impl KvCache {
    /// A cache without tokens, the start of a conversation.
    pub(crate) fn empty(layout: CacheLayout) -> ort::Result<Self> {
        let allocator = Allocator::default();
        let layers = (0..layout.num_layers)
            .map(|_| Ok([layout.tensor(&allocator, 0)?, layout.tensor(&allocator, 0)?]))
            .collect::<ort::Result<_>>()?;
        Ok(Self { layers, layout, seq_len: 0 })
    }

    /// Checks the tensors of a run for `seq_len` tokens.
    ///
    /// # Errors
    /// When a tensor has another type or shape, as in exports that keep only a window of their tokens. Such a cache cannot be
    /// handed over.
    pub(crate) fn from_outputs(
        layout: CacheLayout,
        seq_len: usize,
        values: impl Iterator<Item = [DynValue; 2]>,
    ) -> Result<Self, RunError> {
        let expected = layout.shape(seq_len);
        let check = |layer: usize, part: usize, value: DynValue| -> Result<DynTensor, RunError> {
            let tensor: DynTensor = value.downcast()?;
            if *tensor.data_type() != element_type(layout.dtype) || tensor.shape()[..] != expected[..] {
                return Err(RunError::Output {
                    output: present(layer, part),
                    expected: format!("{expected:?} of {}", layout.dtype),
                    got: format!("{:?} of {}", &tensor.shape()[..], tensor.data_type()),
                });
            }
            Ok(tensor)
        };
        let layers = values
            .enumerate()
            .map(|(layer, [key, value])| Ok([check(layer, 0, key)?, check(layer, 1, value)?]))
            .collect::<Result<_, RunError>>()?;
        Ok(Self { layers, layout, seq_len })
    }

    pub(crate) fn layout(&self) -> CacheLayout {
        self.layout
    }

    pub(crate) fn seq_len(&self) -> usize {
        self.seq_len
    }

    pub(crate) fn layers(&self) -> &[[DynTensor; 2]] {
        &self.layers
    }

    /// The bytes of `[K0][V0][K1][V1]…`, without a copy.
    pub(crate) fn planes(&self) -> impl Iterator<Item = ort::Result<&[u8]>> {
        self.layers.iter().flatten().map(bytes_of)
    }
}

impl CacheLayout {
    fn tensor(&self, allocator: &Allocator, seq_len: usize) -> ort::Result<DynTensor> {
        DynTensor::new(allocator, element_type(self.dtype), self.shape(seq_len))
    }

    /// The shape of one key or value in ONNX Runtime: `[1, num_kv_heads, seq_len, head_dim]`.
    fn shape(&self, seq_len: usize) -> [i64; 4] {
        // Sizes come from a session's or a frame's own numbers, which are smaller than this.
        [1, self.num_kv_heads as i64, seq_len as i64, self.head_dim as i64]
    }
}

/// ONNX Runtime's name for the element type of a cache.
fn element_type(dtype: KvDType) -> TensorElementType {
    match dtype {
        KvDType::Float32 => TensorElementType::Float32,
        KvDType::Float16 => TensorElementType::Float16,
        KvDType::BFloat16 => TensorElementType::Bfloat16,
    }
}

/// The elements of a tensor in host memory, as bytes.
fn bytes_of(tensor: &DynTensor) -> ort::Result<&[u8]> {
    Ok(match tensor.data_type() {
        TensorElementType::Float16 => bytemuck::cast_slice(tensor.try_extract_tensor::<half::f16>()?.1),
        TensorElementType::Bfloat16 => bytemuck::cast_slice(tensor.try_extract_tensor::<half::bf16>()?.1),
        _ => bytemuck::cast_slice(tensor.try_extract_tensor::<f32>()?.1),
    })
}
