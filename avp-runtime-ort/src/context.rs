//! What a model knows after reading and thinking, ready to be used again or handed over.

use std::sync::Arc;

use avp_core::{
    ContextFields, DEFAULT_PAYLOAD_LIMIT, DType, Dialect, Evidence, Frame, FrameEncoder, KvDType, KvHeader,
    KvView, MetadataFields, OwnedModelIdentity, PayloadType, Rule, resolve,
};

use crate::{CacheLayout, ContextError, Runtime, kv::KvCache};

/// A KV-cache with what is known of its making; cheap to clone, never changed.
///
/// Using a context leaves it as it was: two agents can continue from the same one.
#[derive(Debug, Clone)]
pub struct Context {
    cache: Arc<KvCache>,
    identity: Arc<OwnedModelIdentity>,
    num_steps: usize,
    last_hidden_state: Option<Arc<[f32]>>,
}

/// What a frame says beside the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameOptions {
    /// The session it belongs to.
    pub session_id: String,
    /// The agent that sends it.
    pub source_agent_id: String,
    /// The agent it is for.
    pub target_agent_id: String,
    /// The dialect to write; 0.3 unless the peer's handshake says 0.2.
    pub dialect: Dialect,
}

impl Default for FrameOptions {
    fn default() -> Self {
        Self {
            session_id: String::new(),
            source_agent_id: String::new(),
            target_agent_id: String::new(),
            dialect: Dialect::V0_3,
        }
    }
}

impl Context {
    pub(crate) fn new(
        cache: impl Into<Arc<KvCache>>,
        identity: Arc<OwnedModelIdentity>,
        num_steps: usize,
        last_hidden_state: Vec<f32>,
    ) -> Self {
        let last_hidden_state = Some(last_hidden_state.into());
        Self { cache: cache.into(), identity, num_steps, last_hidden_state }
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

    /// The hidden state of the last position after the final norm, `[hidden_dim]`; `None` for a received context, whose
    /// frame does not carry it.
    pub fn last_hidden_state(&self) -> Option<&[f32]> {
        self.last_hidden_state.as_deref()
    }

    /// Writes the context as a frame that `avp`'s `AVPContext.from_bytes` reads.
    ///
    /// # Errors
    /// When the cache is longer than a frame can hold, 4 GiB.
    pub fn to_frame(&self, options: &FrameOptions) -> Result<Vec<u8>, ContextError> {
        let header = self.header()?;
        let kv_header = header.encode();
        let mut parts: Vec<&[u8]> = vec![&kv_header];
        for plane in self.cache.planes() {
            parts.push(plane?);
        }
        let made_by = ContextFields {
            model_hash: &self.identity.model_hash,
            model_family: &self.identity.model_family,
            num_steps: Some(field("num_steps", self.num_steps)?),
        };
        let extra = made_by.to_extra();
        let fields = MetadataFields {
            session_id: &options.session_id,
            source_agent_id: &options.source_agent_id,
            target_agent_id: &options.target_agent_id,
            model_id: &self.identity.model_id,
            hidden_dim: self.identity.hidden_dim,
            num_layers: header.num_layers,
            payload_type: PayloadType::KvCache,
            dtype: DType::from(header.dtype),
            extra: &extra.entries(),
            ..MetadataFields::default()
        };
        Ok(FrameEncoder::new(fields).dialect(options.dialect).encode_parts(&parts)?)
    }

    /// Reads a context from a frame of either dialect, compressed or not, and verifies its checksum.
    ///
    /// The cache is held by ONNX Runtime, so a runtime must be loaded; it may be before any model is.
    /// Whether it fits a model is decided where it is used: [`Model::accepts`](crate::Model::accepts).
    ///
    /// # Errors
    /// When the bytes are no whole frame, its checksum is wrong, it holds something other than a KV-cache, or its metadata
    /// contradicts the cache. Nothing of a refused frame is kept.
    pub fn from_frame(_runtime: &Runtime, bytes: &[u8]) -> Result<Self, ContextError> {
        let frame = Frame::decode(bytes)?;
        let metadata = frame.metadata();
        if metadata.payload_type() != PayloadType::KvCache {
            return Err(ContextError::NotAKvCache { got: metadata.payload_type().as_str() });
        }
        // The limit guards against what unpacks; bytes that are here already cost nothing more.
        let payload = if frame.is_compressed() {
            frame.decompress(DEFAULT_PAYLOAD_LIMIT)?
        } else {
            frame.payload()?.into()
        };
        let view = frame.kv_cache(&payload)?;
        let header = view.header();
        if view.tensors().is_empty() {
            return Err(ContextError::Empty { num_layers: header.num_layers, seq_len: header.seq_len });
        }
        if metadata.num_layers() != 0 && metadata.num_layers() != header.num_layers {
            return Err(ContextError::Contradiction {
                field: "num_layers",
                metadata: metadata.num_layers().into(),
                body: header.num_layers.into(),
            });
        }
        let layout = CacheLayout {
            num_layers: header.num_layers as usize,
            num_kv_heads: header.num_kv_heads as usize,
            head_dim: header.head_dim as usize,
            dtype: header.dtype,
        };
        let planes = view.layers().flat_map(|layer| [layer.key(), layer.value()]);
        let cache = KvCache::from_planes(layout, header.seq_len as usize, planes)?;
        let made_by = metadata.context();
        let identity = OwnedModelIdentity {
            model_family: made_by.model_family.to_owned(),
            model_id: metadata.model_id().to_owned(),
            model_hash: made_by.model_hash.to_owned(),
            hidden_dim: metadata.hidden_dim(),
            num_layers: header.num_layers,
            num_kv_heads: header.num_kv_heads,
            head_dim: header.head_dim,
            tokenizer_hash: String::new(),
        };
        let num_steps = match (made_by.num_steps, metadata.extra_value("num_steps")) {
            (Some(steps), _) => steps as usize,
            (None, None) => 0,
            (None, Some(_)) => return Err(ContextError::Extra { field: "num_steps" }),
        };
        Ok(Self { cache: Arc::new(cache), identity: Arc::new(identity), num_steps, last_hidden_state: None })
    }

    /// The cache in the number format of a model that takes it.
    pub(crate) fn cache_in(&self, dtype: KvDType) -> Result<Arc<KvCache>, ContextError> {
        if self.cache.layout().dtype == dtype {
            return Ok(self.cache.clone());
        }
        let mut body = self.header()?.encode().to_vec();
        for plane in self.cache.planes() {
            body.extend_from_slice(plane?);
        }
        let converted = KvView::decode(&body)?.select().dtype(dtype).to_vec()?;
        let view = KvView::decode(&converted)?;
        let layout = CacheLayout { dtype, ..self.cache.layout() };
        let planes = view.layers().flat_map(|layer| [layer.key(), layer.value()]);
        Ok(Arc::new(KvCache::from_planes(layout, self.cache.seq_len(), planes)?))
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

    /// The shape a run depends on must be the model's whatever the hashes say (its number format can be changed); then the handshake's own rules decide.
    pub(crate) fn fits(
        &self,
        model: &OwnedModelIdentity,
        layout: &CacheLayout,
    ) -> Result<Rule, ContextError> {
        let own = self.cache.layout();
        same("num_layers", layout.num_layers, own.num_layers)?;
        same("num_kv_heads", layout.num_kv_heads, own.num_kv_heads)?;
        same("head_dim", layout.head_dim, own.head_dim)?;
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
