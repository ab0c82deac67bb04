//! A KV-cache in the making.

use std::sync::Arc;

use crate::kv::KvCache;

/// A KV-cache that runs make longer. Contexts hold finished ones, which never change.
pub(crate) struct Sequence {
    cache: Arc<KvCache>,
}

impl Sequence {
    pub(super) fn new(past: Arc<KvCache>) -> Self {
        Self { cache: past }
    }

    /// Tokens and latent steps so far.
    pub(crate) fn seq_len(&self) -> usize {
        self.cache.seq_len()
    }

    pub(super) fn cache(&self) -> &KvCache {
        &self.cache
    }

    pub(super) fn grow(&mut self, longer: KvCache) {
        self.cache = Arc::new(longer);
    }

    pub(super) fn into_cache(self) -> Arc<KvCache> {
        self.cache
    }
}
