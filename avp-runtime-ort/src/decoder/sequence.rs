//! Growing KV-caches.
//!
//! A cache can grow in two ways. Any export reads the past and writes the present, which is the past and the new rows, into
//! fresh memory. An export with `GroupQueryAttention` can keep both in one buffer with free capacity: a run then writes only
//! the new rows. The capacity is the length that the call can need, but at most twice the current length, so that a short
//! answer does not allocate a window of 128k tokens; a full buffer is doubled.
//!
//! Contexts are immutable: a sequence with a buffer of its own is a copy.

use std::sync::Arc;

use ort::value::{DynTensor, DynValue};

use super::{device::Memory, resize::Resizer};
use crate::{
    RunError,
    kv::{KvCache, Past},
    prepare::CacheLayout,
};

/// A growing KV-cache.
pub(crate) enum Sequence {
    /// Each run creates a longer one.
    Growing(Arc<KvCache>),
    /// Runs write into the free capacity of this one.
    Shared(Buffers),
}

/// Key and value of each layer, `[1, num_kv_heads, capacity, head_dim]`, of which `seq_len` rows are written.
pub(crate) struct Buffers {
    layers: Vec<[DynTensor; 2]>,
    /// The source to copy from before the first run; `layers` are empty until then.
    past: Option<Arc<KvCache>>,
    layout: CacheLayout,
    seq_len: usize,
    capacity: usize,
    /// Maximum number of rows that the call needs.
    limit: usize,
}

/// Minimum free capacity in rows, so that short calls need no second buffer.
const MIN_ROOM: usize = 128;

impl Sequence {
    /// Tokens and latent steps so far.
    pub(crate) fn seq_len(&self) -> usize {
        match self {
            Self::Growing(cache) => cache.seq_len(),
            Self::Shared(buffers) => buffers.seq_len,
        }
    }
}

impl Buffers {
    /// A copy of `past` with capacity for `expected` more rows, or for fewer at first.
    pub(super) fn new(past: Past, expected: usize) -> Self {
        let (cache, seq_len) = (past.cache().clone(), past.seq_len());
        Self {
            layers: Vec::new(),
            layout: cache.layout(),
            seq_len,
            // Rows after `past` are free capacity.
            capacity: cache.seq_len(),
            past: Some(cache),
            limit: seq_len.saturating_add(expected),
        }
    }

    /// Ensures capacity for `seq_len` rows.
    ///
    /// # Errors
    /// When there is not enough memory. The buffer is then unchanged.
    pub(super) fn reserve(
        &mut self,
        resizer: &mut Resizer,
        memory: &Memory,
        seq_len: usize,
    ) -> Result<(), RunError> {
        if seq_len <= self.capacity && self.past.is_none() {
            return Ok(());
        }
        let capacity = seq_len.saturating_add(seq_len.max(MIN_ROOM)).min(self.limit).max(seq_len);
        let layers = self.past.as_ref().map_or(&self.layers[..], |past| past.layers());
        self.layers = resizer.resize_all(layers, self.capacity, capacity, memory)?;
        self.past = None;
        self.capacity = capacity;
        Ok(())
    }

    /// Records that a run has written rows up to `seq_len`.
    pub(super) fn written(&mut self, seq_len: usize) {
        self.seq_len = seq_len;
    }

    pub(super) fn layers(&self) -> &[[DynTensor; 2]] {
        &self.layers
    }

    pub(super) fn layers_mut(&mut self) -> &mut [[DynTensor; 2]] {
        &mut self.layers
    }

    /// The written rows, without free capacity.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub(super) fn into_cache(self, resizer: &mut Resizer, memory: &Memory) -> Result<Arc<KvCache>, RunError> {
        if let Some(unchanged) = self.past.as_ref().filter(|past| past.seq_len() == self.seq_len) {
            return Ok(unchanged.clone());
        }
        let layers = match &self.past {
            None if self.capacity == self.seq_len => self.layers,
            None => resizer.resize_all(&self.layers, self.capacity, self.seq_len, memory)?,
            Some(past) => resizer.resize_all(past.layers(), self.capacity, self.seq_len, memory)?,
        };
        KvCache::from_outputs(self.layout, self.seq_len, as_outputs(layers)).map(Arc::new)
    }
}

/// Tensors of a run.
pub(super) fn as_outputs(layers: Vec<[DynTensor; 2]>) -> impl Iterator<Item = [DynValue; 2]> {
    layers.into_iter().map(|layer| layer.map(DynTensor::into_dyn))
}
