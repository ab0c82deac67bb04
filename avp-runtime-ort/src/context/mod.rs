//! What a model knows after reading and thinking, ready to be used again or handed over.

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

/// A KV-cache with what is known of its making; cheap to clone, never changed.
///
/// Using a context leaves it as it was: two agents can continue from the same one, so a clone is a fork.
///
/// # What it remembers
///
/// A context that a [`Model`](crate::Model) here made knows which token or latent step stands at each position
/// ([`tokens`](Self::tokens)) and which weights and rotary settings made it. Saved to a file it keeps both, and any
/// model it is then used with must have the same. A frame carries them where [`FrameOptions`] asks for it; a context out
/// of a frame without them is held to its shape and to the handshake's rules alone.
#[derive(Debug, Clone)]
pub struct Context {
    cache: Arc<KvCache>,
    identity: Arc<OwnedModelIdentity>,
    num_steps: usize,
    last_hidden_state: Option<Arc<[f32]>>,
    /// What stands at each position of the cache, where that is known.
    positions: Option<Positions>,
    fingerprint: Option<Arc<Fingerprint>>,
    /// The position of the first token; above 0 for a tail cut off a longer context.
    position_offset: usize,
    /// For a tail: [`Positions::hash`] of what stood before it, where that is known.
    prefix_hash: Option<Arc<str>>,
}

/// What a new context is to remember.
pub(crate) struct Origin {
    fingerprint: Arc<Fingerprint>,
    positions: Option<Positions>,
}

impl Origin {
    /// Of a context that a model with `fingerprint` computes behind `before` from `tokens` and then latent steps. Nothing is
    /// known of the positions where vectors are read in place of tokens.
    pub(crate) fn new(
        fingerprint: Arc<Fingerprint>,
        before: Before<'_>,
        tokens: Option<&[u32]>,
        steps: usize,
    ) -> Self {
        let positions = before.positions().zip(tokens).map(|(before, tokens)| before.and(tokens, steps));
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

    /// Notes what it was computed by and from.
    pub(crate) fn computed_from(self, origin: &Origin) -> Self {
        let positions = origin.positions.clone().filter(|positions| positions.len() == self.seq_len());
        Self { positions, fingerprint: Some(origin.fingerprint.clone()), ..self }
    }

    /// Tokens and latent steps in the cache.
    pub fn seq_len(&self) -> usize {
        self.cache.seq_len()
    }

    /// Latent steps taken on the way here.
    pub fn num_steps(&self) -> usize {
        self.num_steps
    }

    /// The model that computed it.
    pub fn identity(&self) -> &OwnedModelIdentity {
        &self.identity
    }

    /// Shape and type of the cache.
    pub fn cache_layout(&self) -> CacheLayout {
        self.cache.layout()
    }

    /// The hidden state of the last position after the final norm, `[hidden_dim]`; `None` for a context that was
    /// received, loaded or cut, since neither frames nor caches carry it.
    pub fn last_hidden_state(&self) -> Option<&[f32]> {
        self.last_hidden_state.as_deref()
    }

    /// The token at each position of the cache, `None` where a latent step stands; `None` altogether where the sender
    /// did not say.
    pub fn tokens(&self) -> Option<impl ExactSizeIterator<Item = Option<u32>>> {
        self.positions.as_ref().map(Positions::iter)
    }

    /// Tokens from the first on that this context and `prompt` have in common: what a model that is to read `prompt` need
    /// not compute again. A latent step ends them; 0 where the tokens are not known.
    pub fn common_prefix(&self, prompt: &[u32]) -> usize {
        match &self.positions {
            Some(positions) if self.position_offset == 0 => positions.common_prefix(prompt),
            _ => 0,
        }
    }

    /// The position of the first token in the text that the cache was computed from: 0 but for the
    /// [`tail`](Self::tail) of a longer context.
    pub fn position_offset(&self) -> usize {
        self.position_offset
    }

    /// The weights and rotary settings that computed it; `None` where the sender did not say.
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        self.fingerprint.as_deref()
    }

    /// The beginning of this context that a reading of `prompt` can go on from: all they have in common, but for the last
    /// token of `prompt`, which has to be evaluated whatever is known before it. `None` where that is nothing.
    ///
    /// # Errors
    /// When there is no memory for it.
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

    /// Looks at every number of the cache, once.
    ///
    /// # Errors
    /// When one is NaN or infinite: layer, part, head and token of the first.
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

    /// The cache in the number format of a model that takes it.
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

    /// The cache's shape as a frame says it.
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

    /// The shape a run depends on must be the model's whatever the hashes say (its number format can be changed, unless
    /// the context says which weights made it); then the handshake's own rules decide.
    pub(crate) fn fits(
        &self,
        model: &OwnedModelIdentity,
        layout: &CacheLayout,
        fingerprint: &Fingerprint,
    ) -> Result<Rule, ContextError> {
        let own = self.cache.layout();
        same("num_layers", layout.num_layers, own.num_layers)?;
        same("num_kv_heads", layout.num_kv_heads, own.num_kv_heads)?;
        same("head_dim", layout.head_dim, own.head_dim)?;
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

fn same<T: PartialEq + ToString>(field: &'static str, expected: T, got: T) -> Result<(), ContextError> {
    if expected == got {
        return Ok(());
    }
    Err(ContextError::OtherModel { field, expected: expected.to_string(), got: got.to_string() })
}

fn field(field: &'static str, value: usize) -> Result<u32, ContextError> {
    u32::try_from(value).map_err(|_| ContextError::TooLarge { field, value })
}
