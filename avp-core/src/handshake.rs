//! The handshake's decision between latent and JSON mode: six rules, tried in order, on borrowed identities.
//!
//! Without I/O: the caller passes what it looked up (a stored map, a vocabulary comparison) as [`Evidence`].

use core::fmt;

use crate::{Mode, ModelIdentity};

/// The least number of shared tokens for a projection, as in the Python package.
pub const MIN_SHARED_TOKENS: u64 = 100;

/// Decides how two models can exchange state.
///
/// | rule | needs | gives |
/// |---|---|---|
/// | 1 | equal model hash | latent |
/// | 2 | equal family, `hidden_dim` and `num_layers`, none of them empty | latent |
/// | 3 | equal tokenizer hash | latent, map `vocab:{hash[:16]}` |
/// | 4 | both model hashes, and a stored map for them | latent, map `{local[:16]}_{remote[:16]}` |
/// | 5 | at least [`MIN_SHARED_TOKENS`] shared tokens | latent, map `vocab_overlap:{n}` |
/// | 6 | | JSON |
///
/// # Examples
///
/// ```
/// use avp_core::{Evidence, Mode, ModelIdentity, Rule, resolve};
///
/// let ours = ModelIdentity { model_family: "qwen2", hidden_dim: 896, num_layers: 24, ..Default::default() };
/// let resolution = resolve(&ours, &ours, Evidence::default());
/// assert_eq!((resolution.mode, resolution.rule), (Mode::Latent, Rule::StructuralMatch));
/// ```
#[must_use]
pub fn resolve<'a, S: AsRef<str>, T: AsRef<str>>(
    local: &'a ModelIdentity<S>,
    remote: &'a ModelIdentity<T>,
    evidence: Evidence,
) -> Resolution<'a> {
    let (local, remote) = (local.as_ref(), remote.as_ref());
    let latent = |rule, map_id| Resolution { mode: Mode::Latent, rule, map_id };

    if same_text(local.model_hash, remote.model_hash) {
        return latent(Rule::HashMatch, MapId::None);
    }
    if same_text(local.model_family, remote.model_family)
        && same_number(local.hidden_dim, remote.hidden_dim)
        && same_number(local.num_layers, remote.num_layers)
    {
        return latent(Rule::StructuralMatch, MapId::None);
    }
    if same_text(local.tokenizer_hash, remote.tokenizer_hash) {
        return latent(
            Rule::SharedTokenizer,
            MapId::Vocabulary { tokenizer_hash: prefix(local.tokenizer_hash) },
        );
    }
    if evidence.has_stored_map && !local.model_hash.is_empty() && !remote.model_hash.is_empty() {
        let (source, target) = (prefix(local.model_hash), prefix(remote.model_hash));
        return latent(Rule::AvpMapFile, MapId::Stored { source, target });
    }
    match evidence.shared_tokens {
        Some(shared_tokens) if shared_tokens >= MIN_SHARED_TOKENS => {
            latent(Rule::VocabOverlap, MapId::VocabOverlap { shared_tokens })
        }
        _ => Resolution { mode: Mode::Json, rule: Rule::JsonFallback, map_id: MapId::None },
    }
}

/// The id under which a map between two models is stored, `{source[:16]}_{target[:16]}`: to look it
/// up before [`resolve`].
#[must_use]
pub fn stored_map_id<'a>(source_hash: &'a str, target_hash: &'a str) -> MapId<'a> {
    MapId::Stored { source: prefix(source_hash), target: prefix(target_hash) }
}

/// The caller's knowledge beside the two identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Whether a projection map is stored under [`stored_map_id`].
    pub has_stored_map: bool,
    /// The number of tokens that the two vocabularies share; `None` if unknown.
    pub shared_tokens: Option<u64>,
}

/// The result of [`resolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// [`Mode::Latent`] or [`Mode::Json`].
    pub mode: Mode,
    /// The rule that applied.
    pub rule: Rule,
    /// The projection map to use.
    pub map_id: MapId<'a>,
}

/// A rule of [`resolve`]; the Python package calls it the resolution path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Rule {
    /// Rule 1: the same model.
    HashMatch,
    /// Rule 2: the same family and shape.
    StructuralMatch,
    /// Rule 3: the same vocabulary.
    SharedTokenizer,
    /// Rule 4: a stored map.
    AvpMapFile,
    /// Rule 5: enough shared tokens.
    VocabOverlap,
    /// Rule 6: nothing in common.
    JsonFallback,
}

impl Rule {
    /// The rule's name in JSON, such as `"hash_match"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HashMatch => "hash_match",
            Self::StructuralMatch => "structural_match",
            Self::SharedTokenizer => "shared_tokenizer",
            Self::AvpMapFile => "avp_map_file",
            Self::VocabOverlap => "vocab_overlap",
            Self::JsonFallback => "json_fallback",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The id of a projection map. `Display` writes it as in a frame's `avp_map_id`.
///
/// # Examples
///
/// ```
/// use avp_core::MapId;
///
/// assert_eq!(MapId::VocabOverlap { shared_tokens: 151 }.to_string(), "vocab_overlap:151");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MapId<'a> {
    /// No map is needed: `""`.
    None,
    /// Through the shared vocabulary: `vocab:{hash[:16]}`.
    Vocabulary {
        /// The first 16 characters of the tokenizer hash.
        tokenizer_hash: &'a str,
    },
    /// A stored map: `{source[:16]}_{target[:16]}`.
    Stored {
        /// The first 16 characters of the source model's hash.
        source: &'a str,
        /// The first 16 characters of the target model's hash.
        target: &'a str,
    },
    /// Through the tokens in both vocabularies: `vocab_overlap:{n}`.
    VocabOverlap {
        /// The number of shared tokens.
        shared_tokens: u64,
    },
}

impl fmt::Display for MapId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Vocabulary { tokenizer_hash } => write!(f, "vocab:{tokenizer_hash}"),
            Self::Stored { source, target } => write!(f, "{source}_{target}"),
            Self::VocabOverlap { shared_tokens } => write!(f, "vocab_overlap:{shared_tokens}"),
        }
    }
}

/// An empty field matches nothing, not even another empty one.
fn same_text(local: &str, remote: &str) -> bool {
    !local.is_empty() && local == remote
}

fn same_number(local: u32, remote: u32) -> bool {
    local != 0 && local == remote
}

/// The first 16 characters.
fn prefix(hash: &str) -> &str {
    hash.char_indices().nth(16).map_or(hash, |(end, _)| &hash[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn earlier_rules_win() {
        let local = ModelIdentity {
            model_family: "llama",
            model_hash: A,
            hidden_dim: 8,
            num_layers: 2,
            tokenizer_hash: B,
            ..Default::default()
        };
        let everything = Evidence { has_stored_map: true, shared_tokens: Some(1000) };
        let mut remote = local;
        for (rule, map_id) in [
            (Rule::HashMatch, MapId::None),
            (Rule::StructuralMatch, MapId::None),
            (Rule::SharedTokenizer, MapId::Vocabulary { tokenizer_hash: "bbbbbbbbbbbbbbbb" }),
            (Rule::AvpMapFile, stored_map_id(A, "cc")),
            (Rule::VocabOverlap, MapId::VocabOverlap { shared_tokens: 1000 }),
        ] {
            let found = resolve(&local, &remote, everything);
            assert_eq!(found, Resolution { mode: Mode::Latent, rule, map_id });
            match rule {
                Rule::HashMatch => remote.model_hash = "cc",
                Rule::StructuralMatch => remote.num_layers = 3,
                Rule::SharedTokenizer => remote.tokenizer_hash = "",
                _ => remote.model_hash = "",
            }
        }
    }

    #[test]
    fn nothing_in_common_is_json_and_empty_fields_are_nothing() {
        let nobody = ModelIdentity::<&str>::default();
        for shared_tokens in [None, Some(0), Some(MIN_SHARED_TOKENS - 1)] {
            let found = resolve(&nobody, &nobody, Evidence { has_stored_map: true, shared_tokens });
            assert_eq!((found.mode, found.rule), (Mode::Json, Rule::JsonFallback));
        }
    }

    #[test]
    fn prefixes_count_characters_not_bytes() {
        assert_eq!(prefix("ééééééééééééééééé"), "éééééééééééééééé");
        assert_eq!(prefix("short"), "short");
    }
}
