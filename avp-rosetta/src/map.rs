//! A projection map: what is needed to bring one model's hidden states to another.

use std::fmt;

use avp_core::{MapId, OwnedModelIdentity, stored_map_id};

use super::{
    ProjectOptions, Projection, RosettaError, Rows, SharedTokens, Table, project, vocabulary::Overlap,
};

/// How a map projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Through the vocabulary that both models share whole; nothing is learned.
    VocabMediated,
    /// Through the tokens that are in both vocabularies; nothing is learned.
    VocabOverlap,
    /// By a matrix that ridge regression found.
    Ridge,
    /// By a rotation that orthogonal Procrustes found; both models have one width.
    Procrustes,
}

impl Method {
    const ALL: [Self; 4] = [Self::VocabMediated, Self::VocabOverlap, Self::Ridge, Self::Procrustes];

    /// The peers' name, such as `"vocab_mediated"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VocabMediated => "vocab_mediated",
            Self::VocabOverlap => "vocab_overlap",
            Self::Ridge => "ridge",
            Self::Procrustes => "procrustes",
        }
    }

    /// The method with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// Whether a projected state stands for the next token, as it does through a vocabulary, or for the same one.
    pub(super) fn predicts_next_token(self) -> bool {
        matches!(self, Self::VocabMediated | Self::VocabOverlap)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// One end of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapModel {
    /// The model's name, for people.
    pub model_id: String,
    /// SHA-256 of its config, in hex, as in handshakes.
    pub model_hash: String,
    /// SHA-256 of its vocabulary, in hex.
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

/// A projection map between two models. It holds what the source needs of the target, so that the source can project
/// without the target's weights at hand.
#[derive(Debug, Clone, PartialEq)]
pub struct AvpMap {
    /// The model that thinks.
    pub source: MapModel,
    /// The model that answers.
    pub target: MapModel,
    /// Mean L2 norm of the target's input embeddings, which every projected vector is brought to.
    pub target_norm: f32,
    /// Texts that a learned map was fitted to; 0 otherwise.
    pub anchor_count: u32,
    /// Learned: mean cosine similarity over the texts held back. Overlap: the share of the smaller vocabulary that both
    /// have. Shared vocabulary: 1.
    pub validation_score: f32,
    pub(super) body: Body,
}

/// What each method goes by.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// The target's embedding, row by token.
    Mediated(Table),
    /// The target's embeddings of the shared tokens, in the order of the ids.
    Overlap { table: Table, ids: Overlap },
    /// `[source width, target width]` row by row, and what is added.
    Linear { method: Method, matrix: Vec<f32>, bias: Option<Vec<f32>> },
}

impl AvpMap {
    /// How it projects.
    pub fn method(&self) -> Method {
        match &self.body {
            Body::Mediated(_) => Method::VocabMediated,
            Body::Overlap { .. } => Method::VocabOverlap,
            Body::Linear { method, .. } => *method,
        }
    }

    /// The id that a frame's `avp_map_id` and a stored file go by.
    pub fn id(&self) -> MapId<'_> {
        stored_map_id(&self.source.model_hash, &self.target.model_hash)
    }

    /// Tokens that a map through an overlap goes by; 0 for the other methods, as peers count.
    pub fn overlap_count(&self) -> usize {
        match &self.body {
            Body::Overlap { ids, .. } => ids.len(),
            _ => 0,
        }
    }

    /// The ids of the shared tokens in the source's vocabulary and in the target's; `None` for the other methods.
    pub fn overlap_ids(&self) -> Option<(&[u32], &[u32])> {
        match &self.body {
            Body::Overlap { ids, .. } => Some((&ids.source_ids, &ids.target_ids)),
            _ => None,
        }
    }

    /// Brings a hidden state of the source, after its final norm, to the target's input space. `head` is the source's, a
    /// row for each token; learned maps do not look at it.
    ///
    /// # Errors
    /// When an option is out of range, sizes do not fit, or the state is not finite.
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

    /// The embeddings that projected vectors are made of, where they are made of any.
    pub(super) fn table(&self) -> Option<&Table> {
        match &self.body {
            Body::Mediated(table) | Body::Overlap { table, .. } => Some(table),
            Body::Linear { .. } => None,
        }
    }
}
