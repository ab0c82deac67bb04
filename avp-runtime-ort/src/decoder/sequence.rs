//! A KV-cache in the making.
//!
//! There are two ways to make one longer. Any export reads the past and writes the present, which is the past and the new
//! rows, into fresh memory. An export whose attention is `GroupQueryAttention` can have both in one buffer with room behind
//! the past: a run then writes the new rows and copies nothing. The room is what the call may need, but no more than as much
//! again as there is, so that a window of 128k tokens is not paid for by a short answer; where it runs out, it doubles.
//!
//! Contexts never change, whatever is made of them: a sequence that has room to write in was copied.

use std::sync::Arc;

use ort::value::{DynTensor, DynValue};

use super::{device::Memory, resize::Resizer};
use crate::{
    RunError,
    kv::{KvCache, Past},
    prepare::CacheLayout,
};

/// A KV-cache that runs make longer. Contexts hold finished ones, which never change.
pub(crate) enum Sequence {
    /// Each run makes a longer one.
    Growing(Arc<KvCache>),
    /// Runs write into the room of this one.
    Shared(Buffers),
}

/// Key and value of each layer, `[1, num_kv_heads, capacity, head_dim]`, of which `seq_len` rows are written.
pub(crate) struct Buffers {
    layers: Vec<[DynTensor; 2]>,
    /// What to copy from before the first run; `layers` are empty till then.
    past: Option<Arc<KvCache>>,
    layout: CacheLayout,
    seq_len: usize,
    capacity: usize,
    /// Rows that the call needs at most.
    limit: usize,
}

/// Rows of room at least, so that short calls need no second buffer.
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
    /// To be a copy of `past` with room for `expected` rows, or for the first of them.
    pub(super) fn new(past: Past, expected: usize) -> Self {
        let (cache, seq_len) = (past.cache().clone(), past.seq_len());
        Self {
            layers: Vec::new(),
            layout: cache.layout(),
            seq_len,
            // Rows that are no part of `past` are room as any other.
            capacity: cache.seq_len(),
            past: Some(cache),
            limit: seq_len.saturating_add(expected),
        }
    }

    /// Sees that there is room for `seq_len` rows.
    ///
    /// # Errors
    /// When there is no memory for it; everything stays as it was.
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

    /// A run has written up to `seq_len`.
    pub(super) fn written(&mut self, seq_len: usize) {
        self.seq_len = seq_len;
    }

    pub(super) fn layers(&self) -> &[[DynTensor; 2]] {
        &self.layers
    }

    pub(super) fn layers_mut(&mut self) -> &mut [[DynTensor; 2]] {
        &mut self.layers
    }

    /// What was written, without the room behind it.
    ///
    /// # Errors
    /// When there is no memory for it.
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

/// Tensors as a run gives them.
pub(super) fn as_outputs(layers: Vec<[DynTensor; 2]>) -> impl Iterator<Item = [DynValue; 2]> {
    layers.into_iter().map(|layer| layer.map(DynTensor::into_dyn))
}
