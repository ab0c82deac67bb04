//! Parts of contexts: cutting at a token, joining what belongs together, dropping layers.
//!
//! # What can be joined
//!
//! A cache is not a bag of tokens. Each key and value was computed while attending to everything before it, and with rotary
//! embeddings each key is turned by its position. So two contexts that were computed each from position 0 cannot be
//! joined: the second's keys stand at the wrong positions, and none of its tokens has seen the first. Turning the
//! keys would mend the positions and not the rest, and what came out would look right. Joining is exact in one case, and
//! only that is done: a [`tail`](Context::tail) goes back behind the context that it was computed behind. That is what an
//! agent needs that has sent a context and sends what has been added since.

use std::{ops::Range, sync::Arc};

use avp_core::{KvError, OwnedModelIdentity};

use super::{Context, Positions, same};
use crate::{
    CacheLayout, ContextError,
    kv::{HostBuffer, KvCache},
};

impl Context {
    /// The first `seq_len` tokens, as if nothing had been read after them.
    ///
    /// # Errors
    /// When `seq_len` is 0 or more than there are.
    pub fn truncate(&self, seq_len: usize) -> Result<Self, ContextError> {
        if seq_len == self.seq_len() {
            return Ok(self.clone());
        }
        let positions = self.positions.as_ref();
        let cut = self.cut(0..seq_len)?;
        let positions = positions.map(|positions| positions.slice(0..seq_len));
        Ok(Self {
            num_steps: steps(&positions, self.num_steps, seq_len),
            positions,
            last_hidden_state: None,
            ..cut
        })
    }

    /// What stands behind the first `from` tokens: to be handed to one who has those, and there put behind them with
    /// [`append`](Self::append). A tail alone cannot be continued from.
    ///
    /// # Errors
    /// When fewer than one token would be left.
    pub fn tail(&self, from: usize) -> Result<Self, ContextError> {
        if from == 0 {
            return Ok(self.clone());
        }
        let cut = self.cut(from..self.seq_len())?;
        let whole = self.positions.as_ref();
        let positions = whole.map(|positions| positions.slice(from..positions.len()));
        let prefix = whole.filter(|_| self.position_offset == 0).map(|positions| positions.slice(0..from));
        Ok(Self {
            num_steps: steps(&positions, self.num_steps, self.seq_len() - from),
            positions,
            position_offset: self.position_offset + from,
            prefix_hash: prefix.map(|prefix| prefix.hash().into()),
            ..cut
        })
    }

    /// This context with `tail` behind it: what `tail` was cut from.
    ///
    /// # Errors
    /// When `tail` was not cut off behind as many tokens as this context has, or behind other tokens where both sides know
    /// theirs, or its model, shape or number format is another: the field is named.
    pub fn append(&self, tail: &Self) -> Result<Self, ContextError> {
        let (own, other) = (self.cache.layout(), tail.cache.layout());
        same("num_layers", own.num_layers, other.num_layers)?;
        same("num_kv_heads", own.num_kv_heads, other.num_kv_heads)?;
        same("head_dim", own.head_dim, other.head_dim)?;
        same("dtype", own.dtype, other.dtype)?;
        same("model_hash", &self.identity.model_hash, &tail.identity.model_hash)?;
        if let (Some(own), Some(other)) = (&self.fingerprint, &tail.fingerprint) {
            other.check(own)?;
        }
        let end = self.position_offset + self.seq_len();
        if tail.position_offset != end {
            return Err(ContextError::Position { expected: end, got: tail.position_offset });
        }
        if let (Some(positions), 0, Some(expected)) =
            (&self.positions, self.position_offset, &tail.prefix_hash)
            && positions.hash() != **expected
        {
            return Err(ContextError::OtherPrefix { seq_len: end });
        }
        let (head, rest) = (self.cache.on_host()?, tail.cache.on_host()?);
        let part = |cache| Part { cache, layers: 0..own.num_layers, tokens: 0..KvCache::seq_len(cache) };
        let cache = join(&[part(&head), part(&rest)])?;
        let positions = self.positions.as_ref().zip(tail.positions.as_ref());
        Ok(Self {
            cache: Arc::new(cache),
            num_steps: self.num_steps + tail.num_steps,
            last_hidden_state: tail.last_hidden_state.clone(),
            positions: positions.map(|(own, tail)| own.followed_by(tail)),
            ..self.clone()
        })
    }

    /// Only these layers, for a model that consists of just these, such as one cut short for drafting. The context no longer
    /// says which weights made it: they were another model's.
    ///
    /// # Errors
    /// When a layer is not there, or none is left.
    pub fn layers(&self, range: Range<usize>) -> Result<Self, ContextError> {
        let part = Part { cache: &*self.cache.on_host()?, layers: range, tokens: 0..self.seq_len() };
        let cache = join(&[part])?;
        let num_layers = super::field("num_layers", cache.layout().num_layers)?;
        let identity =
            OwnedModelIdentity { num_layers, model_hash: String::new(), ..(*self.identity).clone() };
        Ok(Self {
            cache: Arc::new(cache),
            identity: Arc::new(identity),
            fingerprint: None,
            last_hidden_state: None,
            ..self.clone()
        })
    }

    /// The cache of these tokens; everything said of it is still that of the whole.
    fn cut(&self, tokens: Range<usize>) -> Result<Self, ContextError> {
        let part = Part { cache: &*self.cache.on_host()?, layers: 0..self.cache.layout().num_layers, tokens };
        Ok(Self { cache: Arc::new(join(&[part])?), ..self.clone() })
    }
}

/// Latent steps in a part: counted where the positions are known, else no more than there are tokens.
pub(super) fn steps(positions: &Option<Positions>, all: usize, seq_len: usize) -> usize {
    positions.as_ref().map_or(all.min(seq_len), Positions::latent_steps)
}

struct Part<'c> {
    cache: &'c KvCache,
    layers: Range<usize>,
    tokens: Range<usize>,
}

/// Copies `parts`, which have as many layers each and the same heads and number format, into one cache.
fn join(parts: &[Part<'_>]) -> Result<KvCache, ContextError> {
    let Some(first) = parts.first() else { return Err(ContextError::Empty { num_layers: 0, seq_len: 0 }) };
    let mut seq_len = 0;
    let mut sources = Vec::with_capacity(parts.len());
    for Part { cache, layers, tokens } in parts {
        within("layers", layers, cache.layout().num_layers)?;
        within("tokens", tokens, cache.seq_len())?;
        seq_len += tokens.len();
        let planes = cache.planes().skip(2 * layers.start).take(2 * layers.len());
        sources.push((planes.collect::<ort::Result<Vec<&[u8]>>>()?, cache.seq_len(), tokens));
    }
    let layout = CacheLayout { num_layers: first.layers.len(), ..first.cache.layout() };
    if seq_len == 0 || layout.num_layers == 0 {
        return Err(ContextError::Empty { num_layers: layout.num_layers, seq_len });
    }
    let planes = 2 * layout.num_layers;
    let len = layout.plane_len(seq_len).and_then(|len| len.checked_mul(planes)).ok_or(KvError::Overflow)?;
    let mut joined = HostBuffer::new(len);
    let mut rest = joined.bytes_mut();
    let row = layout.head_dim * layout.dtype.size();
    for plane in 0..planes {
        for head in 0..layout.num_kv_heads {
            for (sources, seq_len, tokens) in &sources {
                let start = head * seq_len * row;
                let source = &sources[plane][start + tokens.start * row..start + tokens.end * row];
                let (target, after) = rest.split_at_mut(source.len());
                target.copy_from_slice(source);
                rest = after;
            }
        }
    }
    Ok(KvCache::lend(layout, seq_len, joined.into_bytes())?)
}

fn within(axis: &'static str, range: &Range<usize>, len: usize) -> Result<(), KvError> {
    if range.start > range.end || range.end > len {
        return Err(KvError::Range { axis, start: range.start, end: range.end, len });
    }
    Ok(())
}
