//! A projection map from one model's hidden states to another's input embeddings.

use std::fmt;

use avp_core::{MapId, OwnedModelIdentity, stored_map_id};

use super::{
    ProjectOptions, Projection, RosettaError, Rows, SharedTokens, Table, project, vocabulary::Overlap,
};

/// The projection method of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Through the vocabulary of a common tokenizer, without training.
    VocabMediated,
    /// Through the tokens that both vocabularies share, without training.
    VocabOverlap,
    /// By a matrix learned by ridge regression.
    Ridge,
    /// By an orthogonal matrix learned by Procrustes; both models have the same hidden size.
    Procrustes,
}

impl Method {
    const ALL: [Self; 4] = [Self::VocabMediated, Self::VocabOverlap, Self::Ridge, Self::Procrustes];

    /// The name that the Python package uses, such as `"vocab_mediated"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VocabMediated => "vocab_mediated",
            Self::VocabOverlap => "vocab_overlap",
            Self::Ridge => "ridge",
            Self::Procrustes => "procrustes",
        }
    }

    /// The method with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// Whether a projected state represents the next token (through a vocabulary) or the same token (learned).
    pub(super) fn predicts_next_token(self) -> bool {
        matches!(self, Self::VocabMediated | Self::VocabOverlap)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The source or target model of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapModel {
    /// Display name of the model.
    pub model_id: String,
    /// SHA-256 of its config in hex, as in handshakes.
    pub model_hash: String,
    /// SHA-256 of its vocabulary in hex, or empty.
    pub tokenizer_hash: String,
    /// Width of its hidden states.
    pub hidden_dim: u32,
}

impl From<&OwnedModelIdentity> for MapModel {
    fn from(identity: &OwnedModelIdentity) -> Self {
        Self {
            model_id: identity.model_id.clone(),
            model_hash: identity.model_hash.clone(),
            tokenizer_hash: identity.tokenizer_hash.clone(),
            hidden_dim: identity.hidden_dim,
        }
    }
}

/// A projection map between two models. It holds a copy of the target's embeddings, if the method uses them, so that the
/// source can project without the target's weights.
///
/// ```
/// use avp_rosetta::{AvpMap, MapError, Method};
///
/// let map = AvpMap::load("../test-vectors/rosetta/peer.avp-map".as_ref())?;
/// assert_eq!(AvpMap::from_bytes(&map.to_bytes()?)?, map);
/// # Ok::<(), MapError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AvpMap {
    /// The source model.
    pub source: MapModel,
    /// The target model.
    pub target: MapModel,
    /// Mean L2 norm of the target's input embeddings; every projected vector is scaled to it.
    pub target_norm: f32,
    /// Number of texts that a learned map was fitted to; 0 for the other methods.
    pub anchor_count: u32,
    /// Learned maps: mean cosine similarity on held-out texts. Overlap: the shared tokens as a share of the smaller
    /// vocabulary. Common tokenizer: 1.
    pub validation_score: f32,
    pub(super) body: Body,
}

/// The data of each method.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// The target's embedding, row by token.
    Mediated(Table),
    /// The target's embeddings of the shared tokens, in the order of the ids.
    Overlap { table: Table, ids: Overlap },
    /// A matrix `[source width, target width]` in row-major order, and a bias.
    Linear { method: Method, matrix: Vec<f32>, bias: Option<Vec<f32>> },
}

impl AvpMap {
    /// The projection method.
    pub fn method(&self) -> Method {
        match &self.body {
            Body::Mediated(_) => Method::VocabMediated,
            Body::Overlap { .. } => Method::VocabOverlap,
            Body::Linear { method, .. } => *method,
        }
    }

    /// The id of the map: the `avp_map_id` of a frame, and the name of a stored file.
    pub fn id(&self) -> MapId<'_> {
        stored_map_id(&self.source.model_hash, &self.target.model_hash)
    }

    /// Number of shared tokens; 0 for methods other than [`VocabOverlap`](Method::VocabOverlap), as in the Python package.
    pub fn overlap_count(&self) -> usize {
        match &self.body {
            Body::Overlap { ids, .. } => ids.len(),
            _ => 0,
        }
    }

    /// The ids of the shared tokens in the source's and the target's vocabulary; `None` for the other methods.
    pub fn overlap_ids(&self) -> Option<(&[u32], &[u32])> {
        match &self.body {
            Body::Overlap { ids, .. } => Some((&ids.source_ids, &ids.target_ids)),
            _ => None,
        }
    }

    /// Projects a hidden state of the source, after its final norm, into the target's input space. `head` is the source's
    /// head, one row per token; learned maps ignore it.
    ///
    /// # Errors
    /// When an option is out of range, sizes do not match, or the state is not finite.
    pub fn project(
        &self,
        hidden: &[f32],
        head: &dyn Rows,
        options: &ProjectOptions,
    ) -> Result<Projection, RosettaError> {
        let expected = self.source.hidden_dim as usize;
        if hidden.len() != expected {
            return Err(RosettaError::Width { what: "the hidden state", expected, got: hidden.len() });
        }
        let norm = Some(self.target_norm);
        match &self.body {
            Body::Mediated(table) => {
                project::through_vocabulary(hidden, head, table, SharedTokens::Prefix, norm, options)
            }
            Body::Overlap { table, ids } => {
                let shared = SharedTokens::Listed(&ids.source_ids);
                project::through_vocabulary(hidden, head, table, shared, norm, options)
            }
            Body::Linear { matrix, bias, .. } => {
                project::through_matrix(hidden, matrix, bias.as_deref(), self.target_norm)
            }
        }
    }

    /// The embeddings that are weighed; `None` for learned maps.
    pub(super) fn table(&self) -> Option<&Table> {
        match &self.body {
            Body::Mediated(table) | Body::Overlap { table, .. } => Some(table),
            Body::Linear { .. } => None,
        }
    }
}
