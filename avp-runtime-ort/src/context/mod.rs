//! Contexts: KV-caches to continue from or to hand over.

mod cut;
mod file;
mod fingerprint;
mod frame;
mod positions;
mod reuse;
mod scan;

use std::sync::Arc;

use avp_core::{Evidence, KvDType, KvHeader, KvView, OwnedModelIdentity, Rule, resolve};

pub(crate) use self::reuse::Before;
pub use self::{
    fingerprint::Fingerprint,
    frame::{FrameOptions, FrameReadOptions},
};
use self::{positions::Positions, scan::first_not_finite};
use crate::{
    CacheLayout, ContextError,
    kv::{HostBuffer, KvCache},
};

/// A KV-cache and its origin. Immutable and cheap to clone.
///
/// Continuing from a context does not change it: two agents can continue from the same one, so a clone is a fork.
///
/// # Token ids and fingerprint
///
/// A context computed by a [`Model`](crate::Model) has the token or latent step at each position
/// ([`tokens`](Self::tokens)), and the fingerprint of the model's weights and rotary settings. A file has both, and a model
/// that continues from it must have the same fingerprint. A frame has them if [`FrameOptions`] select them; a context from a
/// frame without them is checked by its shape and by the handshake's rules.
#[derive(Debug, Clone)]
pub struct Context {
    cache: Arc<KvCache>,
    identity: Arc<OwnedModelIdentity>,
    num_steps: usize,
    last_hidden_state: Option<Arc<[f32]>>,
    /// The token or latent step at each position of the cache, if known.
    positions: Option<Positions>,
    fingerprint: Option<Arc<Fingerprint>>,
    /// The position of the first token; above 0 for the tail of a longer context.
    position_offset: usize,
    /// For a tail: [`Positions::hash`] of the positions before it, if known.
    prefix_hash: Option<Arc<str>>,
}

/// The origin of a new context.
pub(crate) struct Origin {
    fingerprint: Arc<Fingerprint>,
    positions: Option<Positions>,
}

impl Origin {
    /// The origin of a context that a model with `fingerprint` computes after `before` from `tokens`, and then latent steps.
    /// Positions read from vectors are unknown.
    pub(crate) fn new(fingerprint: Arc<Fingerprint>, before: Before<'_>, tokens: Option<&[u32]>) -> Self {
        let positions = before.positions().zip(tokens).map(|(before, tokens)| before.and(tokens, 0));
        Self { fingerprint, positions }
    }
}

impl Context {
    pub(crate) fn new(
        cache: impl Into<Arc<KvCache>>,
        identity: Arc<OwnedModelIdentity>,
        num_steps: usize,
        last_hidden_state: Vec<f32>,
    ) -> Self {
        Self {
            cache: cache.into(),
            identity,
            num_steps,
            last_hidden_state: Some(last_hidden_state.into()),
            positions: None,
            fingerprint: None,
            position_offset: 0,
            prefix_hash: None,
        }
    }

    /// Sets the origin, behind which `steps` latent steps were taken.
    pub(crate) fn computed_from(self, origin: &Origin, steps: usize) -> Self {
        let positions = origin.positions.as_ref().map(|positions| positions.and(&[], steps));
        let positions = positions.filter(|positions| positions.len() == self.seq_len());
        Self { positions, fingerprint: Some(origin.fingerprint.clone()), ..self }
    }

    /// Number of tokens and latent steps in the cache.
    pub fn seq_len(&self) -> usize {
        self.cache.seq_len()
    }

    /// Number of latent steps.
    pub fn num_steps(&self) -> usize {
        self.num_steps
    }

    /// The model that computed it.
    pub fn identity(&self) -> &OwnedModelIdentity {
        &self.identity
    }

    /// Shape and number format of the cache.
    pub fn cache_layout(&self) -> CacheLayout {
        self.cache.layout()
    }

    /// The hidden state of the last position after the final norm, `[hidden_dim]`; `None` for a context that was
    /// received, loaded or cut, since neither frames nor caches carry it.
    pub fn last_hidden_state(&self) -> Option<&[f32]> {
        self.last_hidden_state.as_deref()
    }

    /// The token at each position of the cache, with `None` for a latent step; `None` if the token ids are unknown.
    pub fn tokens(&self) -> Option<impl ExactSizeIterator<Item = Option<u32>>> {
        self.positions.as_ref().map(Positions::iter)
    }

    /// Length of the common prefix of this context and `prompt`, which a model that reads `prompt` need not compute again. A
    /// latent step ends the prefix; 0 if the token ids are unknown.
    pub fn common_prefix(&self, prompt: &[u32]) -> usize {
        match &self.positions {
            Some(positions) if self.position_offset == 0 => positions.common_prefix(prompt),
            _ => 0,
        }
    }

    /// The position of the first token: above 0 only for the [`tail`](Self::tail) of a longer context.
    pub fn position_offset(&self) -> usize {
        self.position_offset
    }

    /// The fingerprint of the weights and rotary settings, if known.
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        self.fingerprint.as_deref()
    }

    /// The prefix of this context from which a reading of `prompt` can continue: the common prefix without the last token of
    /// `prompt`, which must always be evaluated. `None` if it is empty.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn reusable(&self, prompt: &[u32]) -> Result<Option<Self>, ContextError> {
        match self.reusable_len(prompt) {
            0 => Ok(None),
            seq_len => self.truncate(seq_len).map(Some),
        }
    }

    /// Tokens of [`reusable`](Self::reusable).
    fn reusable_len(&self, prompt: &[u32]) -> usize {
        self.common_prefix(prompt).min(prompt.len().saturating_sub(1))
    }

    /// Scans every number of the cache.
    ///
    /// # Errors
    /// When a number is NaN or infinite, with layer, part, head and token of the first one.
    pub fn check_finite(&self) -> Result<(), ContextError> {
        let layout = self.cache.layout();
        let cache = self.cache.on_host()?;
        for (index, plane) in cache.planes().enumerate() {
            if let Some(element) = first_not_finite(plane?, layout.dtype) {
                let row = element / layout.head_dim;
                return Err(ContextError::NotFinite {
                    layer: index / 2,
                    part: if index % 2 == 0 { "key" } else { "value" },
                    head: row / self.seq_len(),
                    token: row % self.seq_len(),
                });
            }
        }
        Ok(())
    }

    /// The cache in the number format of a model that accepts it.
    pub(crate) fn cache_in(&self, dtype: KvDType) -> Result<Arc<KvCache>, ContextError> {
        if self.cache.layout().dtype == dtype {
            return Ok(self.cache.clone());
        }
        let cache = self.cache.on_host()?;
        let mut body = self.header()?.encode().to_vec();
        for plane in cache.planes() {
            body.extend_from_slice(plane?);
        }
        let selection = KvView::decode(&body)?.select().dtype(dtype);
        let converted_len = selection.header().body_len().ok_or(avp_core::KvError::Overflow)?;
        // The header in front of the tensors ends at an aligned place, so that they can be bound.
        let start = KvHeader::LEN.next_multiple_of(HostBuffer::ALIGNMENT) - KvHeader::LEN;
        let mut converted = HostBuffer::new(start + converted_len);
        selection.write_into(&mut converted.bytes_mut()[start..])?;
        let layout = CacheLayout { dtype, ..self.cache.layout() };
        let planes = converted.into_bytes().slice(start + KvHeader::LEN..);
        Ok(Arc::new(KvCache::lend(layout, self.cache.seq_len(), planes)?))
    }

    /// The cache's shape as in a frame.
    fn header(&self) -> Result<KvHeader, ContextError> {
        let layout = self.cache.layout();
        Ok(KvHeader {
            num_layers: field("num_layers", layout.num_layers)?,
            num_kv_heads: field("num_kv_heads", layout.num_kv_heads)?,
            head_dim: field("head_dim", layout.head_dim)?,
            seq_len: field("seq_len", self.cache.seq_len())?,
            dtype: layout.dtype,
        })
    }

    /// The shape must equal the model's, independent of hashes. The number format can be converted, unless the context has a
    /// fingerprint. Then the handshake's rules decide.
    pub(crate) fn fits(
        &self,
        model: &OwnedModelIdentity,
        layout: &CacheLayout,
        fingerprint: &Fingerprint,
    ) -> Result<Rule, ContextError> {
        let own = self.cache.layout();
        layout.check_shape(&own)?;
        if self.position_offset != 0 {
            return Err(ContextError::Position { expected: 0, got: self.position_offset });
        }
        if let Some(own_fingerprint) = &self.fingerprint {
            same("dtype", layout.dtype, own.dtype)?;
            own_fingerprint.check(fingerprint)?;
        }
        match resolve(model, &*self.identity, Evidence::default()).rule {
            rule @ (Rule::HashMatch | Rule::StructuralMatch) => Ok(rule),
            _ => {
                same("model_family", &model.model_family, &self.identity.model_family)?;
                same("hidden_dim", model.hidden_dim, self.identity.hidden_dim)?;
                // Neither side names a family: only equal hashes could have shown that the models are one.
                same("model_hash", &model.model_hash, &self.identity.model_hash)?;
                Ok(Rule::HashMatch)
            }
        }
    }
}

pub(crate) fn same<T: PartialEq + ToString>(
    field: &'static str,
    expected: T,
    got: T,
) -> Result<(), ContextError> {
    if expected == got {
        return Ok(());
    }
    Err(ContextError::OtherModel { field, expected: expected.to_string(), got: got.to_string() })
}

fn field(field: &'static str, value: usize) -> Result<u32, ContextError> {
    u32::try_from(value).map_err(|_| ContextError::TooLarge { field, value })
}
