//! Model identities: the facts about a model that two agents compare.

/// The identity of a model, as agents exchange it in a handshake.
///
/// `S` is the type of text: `&str` borrows, `String` owns. Absent text is `""`, absent numbers are 0.
///
/// # Examples
///
/// ```
/// use avp_core::ModelIdentity;
///
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
    /// Width of the hidden states, in elements.
    pub hidden_dim: u32,
    /// Number of layers.
    pub num_layers: u32,
    /// Key/value heads per layer.
    pub num_kv_heads: u32,
    /// Elements per head.
    pub head_dim: u32,
    /// SHA-256 of the tokenizer's vocabulary, in hex. Omitted from JSON if empty, as by the Python package.
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
    /// Reads each field by its name in JSON, with the given functions.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// use avp_core::OwnedModelIdentity;
    ///
    /// let identity = OwnedModelIdentity::from_fields(|name| Ok::<_, ()>(name.to_string()), |_| Ok(8))?;
    /// assert_eq!((identity.model_id.as_str(), identity.head_dim), ("model_id", 8));
    /// # Ok::<(), ()>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the functions.
    pub fn from_fields<E>(
        mut text: impl FnMut(&'static str) -> Result<alloc::string::String, E>,
        mut number: impl FnMut(&'static str) -> Result<u32, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            model_family: text("model_family")?,
            model_id: text("model_id")?,
            model_hash: text("model_hash")?,
            hidden_dim: number("hidden_dim")?,
            num_layers: number("num_layers")?,
            num_kv_heads: number("num_kv_heads")?,
            head_dim: number("head_dim")?,
            tokenizer_hash: text("tokenizer_hash")?,
        })
    }

    /// The identity of the model with this `config.json`, without a tokenizer hash.
    ///
    /// GPT-2's names (`n_embd`, `n_layer`, `n_head`) apply where the usual ones are absent or 0. The default of
    /// `num_key_value_heads` is the number of attention heads; that of `head_dim` is the hidden width divided by it.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// use avp_core::OwnedModelIdentity;
    ///
    /// let identity = OwnedModelIdentity::from_config(r#"{"n_embd": 768, "n_layer": 12, "n_head": 12}"#)?;
    /// assert_eq!((identity.hidden_dim, identity.num_kv_heads, identity.head_dim), (768, 12, 64));
    /// # Ok::<(), avp_core::json::ReadError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError`](crate::json::ReadError) if the text is not a JSON object or a field has the wrong type.
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
        self.map(S::as_ref)
    }

    /// The same identity with owned text.
    ///
    /// Only available when `alloc` is enabled.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn to_owned(&self) -> OwnedModelIdentity {
        self.map(|text| text.as_ref().into())
    }

    /// Every field with its name in JSON, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, FieldValue<'_>)> {
        let identity = self.as_ref();
        [
            ("model_family", FieldValue::Text(identity.model_family)),
            ("model_id", FieldValue::Text(identity.model_id)),
            ("model_hash", FieldValue::Text(identity.model_hash)),
            ("hidden_dim", FieldValue::Number(identity.hidden_dim)),
            ("num_layers", FieldValue::Number(identity.num_layers)),
            ("num_kv_heads", FieldValue::Number(identity.num_kv_heads)),
            ("head_dim", FieldValue::Number(identity.head_dim)),
            ("tokenizer_hash", FieldValue::Text(identity.tokenizer_hash)),
        ]
        .into_iter()
    }

    /// The fields in which the two identities differ, in order.
    pub fn differences<'a, T: AsRef<str>>(
        &'a self,
        other: &'a ModelIdentity<T>,
    ) -> impl Iterator<Item = Difference<'a>> {
        let pairs = self.fields().zip(other.fields());
        pairs
            .map(|((field, local), (_, remote))| Difference { field, local, remote })
            .filter(|difference| difference.local != difference.remote)
    }
}

impl<S> ModelIdentity<S> {
    fn map<'a, T>(&'a self, text: impl Fn(&'a S) -> T) -> ModelIdentity<T> {
        ModelIdentity {
            model_family: text(&self.model_family),
            model_id: text(&self.model_id),
            model_hash: text(&self.model_hash),
            hidden_dim: self.hidden_dim,
            num_layers: self.num_layers,
            num_kv_heads: self.num_kv_heads,
            head_dim: self.head_dim,
            tokenizer_hash: text(&self.tokenizer_hash),
        }
    }
}

/// A field in which two identities differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The field's name.
    pub field: &'static str,
    /// Its value in the first identity.
    pub local: FieldValue<'a>,
    /// Its value in the second.
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
