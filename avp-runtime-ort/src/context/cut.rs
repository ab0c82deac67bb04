//! Parts of contexts: cutting at a token, joining a tail to its context, selecting layers.
//!
//! # Joining
//!
//! Each key and value was computed with attention to all tokens before it, and with rotary embeddings each key is rotated by
//! its position. Two contexts that were both computed from position 0 therefore cannot be joined: the keys of the second
//! are at the wrong positions, and its tokens have not attended to the first. Rotating the keys would correct only the
//! positions. Joining is exact in one case, the only one supported: a [`tail`](Context::tail) is appended to the context
//! after which it was computed. An agent can thus send a context, and later only the tokens that were added.

use std::{ops::Range, sync::Arc};

use avp_core::{KvError, OwnedModelIdentity};

use super::{Context, Positions, same};
use crate::{
    CacheLayout, ContextError,
    kv::{HostBuffer, KvCache},
};

impl Context {
    /// The first `seq_len` tokens, equal to the context of these tokens alone.
    ///
    /// # Errors
    /// When `seq_len` is 0 or more than the context's length.
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

    /// The tokens after the first `from`, for a receiver that has the first `from` tokens and [`append`](Self::append)s the
    /// tail to them. A model cannot continue from a tail alone.
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

    /// This context followed by its `tail`.
    ///
    /// # Errors
    /// When the position of `tail` is not the length of this context, when both have token ids and those before the tail
    /// differ, or when model, shape or number format differ. The error names the field.
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

    /// These layers, for a model that consists of them, such as a truncated model for drafting. The result has no
    /// fingerprint, because the weights are those of another model.
    ///
    /// # Errors
    /// When a layer does not exist, or the range is empty.
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

    /// The cache of these tokens with the description of the whole context.
    fn cut(&self, tokens: Range<usize>) -> Result<Self, ContextError> {
        let part = Part { cache: &*self.cache.on_host()?, layers: 0..self.cache.layout().num_layers, tokens };
        Ok(Self { cache: Arc::new(join(&[part])?), ..self.clone() })
    }
}

/// Latent steps in a part: counted if the positions are known, else at most the number of tokens.
pub(super) fn steps(positions: &Option<Positions>, all: usize, seq_len: usize) -> usize {
    positions.as_ref().map_or(all.min(seq_len), Positions::latent_steps)
}

struct Part<'c> {
    cache: &'c KvCache,
    layers: Range<usize>,
    tokens: Range<usize>,
}

/// Copies `parts`, which have the same number of layers, heads and number format, into one cache.
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
