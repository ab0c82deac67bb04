//! Who computed a tensor: the facts about a model that two agents compare.

/// The identity of a model, as agents exchange it in a handshake.
///
/// `S` is how text is held: `&str` to compare without allocating, `String` to keep. Absent text is `""`, absent
/// numbers are 0.
///
/// # Examples
///
/// ```
/// # use avp_core::ModelIdentity;
/// let ours = ModelIdentity { model_family: "qwen2", hidden_dim: 896, num_layers: 24, ..Default::default() };
/// let theirs = ModelIdentity { hidden_dim: 2048, ..ours };
/// assert_eq!(ours.differences(&theirs).next().unwrap().field, "hidden_dim");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: serde::Deserialize<'de> + Default")))]
#[cfg_attr(feature = "serde", serde(bound(serialize = "S: serde::Serialize + AsRef<str>")))]
pub struct ModelIdentity<S> {
    /// Architecture, such as `"qwen2"`: `model_type` in a model's config.
    pub model_family: S,
    /// Name, such as `"Qwen/Qwen2.5-0.5B"`.
    pub model_id: S,
    /// SHA-256 of the model's config, in hex.
    pub model_hash: S,
    /// Width of the hidden states.
    pub hidden_dim: u32,
    /// Number of layers.
    pub num_layers: u32,
    /// Key/value heads per layer.
    pub num_kv_heads: u32,
    /// Elements per head.
    pub head_dim: u32,
    /// SHA-256 of the tokenizer's vocabulary, in hex. Left out of JSON when empty, as the peers do.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_empty"))]
    pub tokenizer_hash: S,
}

#[cfg(feature = "serde")]
fn is_empty<S: AsRef<str>>(text: &S) -> bool {
    text.as_ref().is_empty()
}

/// An identity that owns its text.
///
/// Only available when `alloc` is enabled.
#[cfg(feature = "alloc")]
pub type OwnedModelIdentity = ModelIdentity<alloc::string::String>;

#[cfg(feature = "alloc")]
impl OwnedModelIdentity {
    /// The identity of the model with this `config.json`, without a tokenizer hash.
    ///
    /// GPT-2's names (`n_embd`, `n_layer`, `n_head`) serve where the usual ones are absent or 0. Without
    /// `num_key_value_heads` there are as many as attention heads; without `head_dim` it is the hidden width shared
    /// among them.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use avp_core::OwnedModelIdentity;
    /// let identity = OwnedModelIdentity::from_config(r#"{"n_embd": 768, "n_layer": 12, "n_head": 12}"#).unwrap();
    /// assert_eq!((identity.hidden_dim, identity.num_kv_heads, identity.head_dim), (768, 12, 64));
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError`](crate::json::ReadError) where the text is no JSON object, or a field of it no text or integer.
    pub fn from_config(config: &str) -> Result<Self, crate::json::ReadError> {
        let config = crate::json::Json::parse_object(config, "config")?;
        let either = |name, gpt2_name| match config.u32_field(name)? {
            0 => config.u32_field(gpt2_name),
            number => Ok(number),
        };
        let hidden_dim = either("hidden_size", "n_embd")?;
        let num_heads = either("num_attention_heads", "n_head")?;
        Ok(Self {
            model_family: config.text_field("model_type", "")?,
            model_id: config.text_field("_name_or_path", "")?,
            model_hash: crate::hash::model_hash_of(&config),
            hidden_dim,
            num_layers: either("num_hidden_layers", "n_layer")?,
            num_kv_heads: match config.field("num_key_value_heads") {
                Some(_) => config.u32_field("num_key_value_heads")?,
                None => num_heads,
            },
            head_dim: match config.u32_field("head_dim")? {
                0 => hidden_dim.checked_div(num_heads).unwrap_or(0),
                head_dim => head_dim,
            },
            tokenizer_hash: Default::default(),
        })
    }
}

impl<S: AsRef<str>> ModelIdentity<S> {
    /// The same identity with borrowed text.
    #[must_use]
    pub fn as_ref(&self) -> ModelIdentity<&str> {
        ModelIdentity {
            model_family: self.model_family.as_ref(),
            model_id: self.model_id.as_ref(),
            model_hash: self.model_hash.as_ref(),
            hidden_dim: self.hidden_dim,
            num_layers: self.num_layers,
            num_kv_heads: self.num_kv_heads,
            head_dim: self.head_dim,
            tokenizer_hash: self.tokenizer_hash.as_ref(),
        }
    }

    /// The same identity with text of its own.
    ///
    /// Only available when `alloc` is enabled.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn to_owned(&self) -> OwnedModelIdentity {
        let ModelIdentity {
            model_family,
            model_id,
            model_hash,
            hidden_dim,
            num_layers,
            num_kv_heads,
            head_dim,
            tokenizer_hash,
        } = self.as_ref();
        ModelIdentity {
            model_family: model_family.into(),
            model_id: model_id.into(),
            model_hash: model_hash.into(),
            hidden_dim,
            num_layers,
            num_kv_heads,
            head_dim,
            tokenizer_hash: tokenizer_hash.into(),
        }
    }

    /// Every field in which the two identities differ, in the order of the fields.
    pub fn differences<'a, T: AsRef<str>>(
        &'a self,
        other: &'a ModelIdentity<T>,
    ) -> impl Iterator<Item = Difference<'a>> {
        let (local, remote) = (self.as_ref(), other.as_ref());
        let text = |field, local, remote| Difference {
            field,
            local: FieldValue::Text(local),
            remote: FieldValue::Text(remote),
        };
        let number = |field, local, remote| Difference {
            field,
            local: FieldValue::Number(local),
            remote: FieldValue::Number(remote),
        };
        [
            text("model_family", local.model_family, remote.model_family),
            text("model_id", local.model_id, remote.model_id),
            text("model_hash", local.model_hash, remote.model_hash),
            number("hidden_dim", local.hidden_dim, remote.hidden_dim),
            number("num_layers", local.num_layers, remote.num_layers),
            number("num_kv_heads", local.num_kv_heads, remote.num_kv_heads),
            number("head_dim", local.head_dim, remote.head_dim),
            text("tokenizer_hash", local.tokenizer_hash, remote.tokenizer_hash),
        ]
        .into_iter()
        .filter(|difference| difference.local != difference.remote)
    }
}

/// A field in which two identities differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The field's name.
    pub field: &'static str,
    /// Its value in the one.
    pub local: FieldValue<'a>,
    /// Its value in the other.
    pub remote: FieldValue<'a>,
}

/// The value of an identity's field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(untagged))]
pub enum FieldValue<'a> {
    /// A text field.
    Text(&'a str),
    /// A number.
    Number(u32),
}

impl core::fmt::Display for FieldValue<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl core::fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {} here, {} there", self.field, self.local, self.remote)
    }
}
