//! The protocol's small enums, with their names in text and JSON.

use core::fmt;

/// The content of a frame's tensor bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum PayloadType {
    /// Hidden states, shaped by `tensor_shape`.
    #[default]
    HiddenState,
    /// A KV-cache: see [`KvView`](crate::KvView).
    KvCache,
    /// An embedding. The Python package refuses it from 0.5 on.
    Embedding,
    /// Left to the receiver, wire value -1. The Python package writes it in 0.5 only, and refuses it from 0.6 on.
    Auto,
}

impl PayloadType {
    pub(crate) const fn from_wire(value: i32) -> Option<Self> {
        match value {
            0 => Some(Self::HiddenState),
            1 => Some(Self::KvCache),
            2 => Some(Self::Embedding),
            -1 => Some(Self::Auto),
            _ => None,
        }
    }

    pub(crate) const fn to_wire(self) -> i32 {
        match self {
            Self::HiddenState => 0,
            Self::KvCache => 1,
            Self::Embedding => 2,
            Self::Auto => -1,
        }
    }

    /// `"hidden_state"`, `"kv_cache"`, `"embedding"` or `"auto"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HiddenState => "hidden_state",
            Self::KvCache => "kv_cache",
            Self::Embedding => "embedding",
            Self::Auto => "auto",
        }
    }

    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::HiddenState, Self::KvCache, Self::Embedding, Self::Auto]
            .into_iter()
            .find(|v| v.as_str() == name)
    }
}

/// The number format of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum DType {
    /// IEEE 754 binary32.
    #[default]
    Float32,
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of binary32.
    BFloat16,
    /// Signed 8-bit integer.
    Int8,
}

impl DType {
    pub(crate) const fn from_wire(value: i32) -> Option<Self> {
        match value {
            0 => Some(Self::Float32),
            1 => Some(Self::Float16),
            2 => Some(Self::BFloat16),
            3 => Some(Self::Int8),
            _ => None,
        }
    }

    pub(crate) const fn to_wire(self) -> i32 {
        match self {
            Self::Float32 => 0,
            Self::Float16 => 1,
            Self::BFloat16 => 2,
            Self::Int8 => 3,
        }
    }

    /// Bytes per element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 | Self::BFloat16 => 2,
            Self::Int8 => 1,
        }
    }

    /// `"float32"`, `"float16"`, `"bfloat16"` or `"int8"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::BFloat16 => "bfloat16",
            Self::Int8 => "int8",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Float32, Self::Float16, Self::BFloat16, Self::Int8].into_iter().find(|v| v.as_str() == name)
    }
}

/// The communication mode: tensors, tensors with text, or JSON.
///
/// On the wire, JSON is 2 in dialect 0.2 and 1 in 0.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Mode {
    /// Tensors only.
    #[default]
    Latent,
    /// Latent and text chunks; in dialect 0.2 only.
    Hybrid,
    /// JSON text, the fallback for any pair of models.
    Json,
}

impl Mode {
    /// `"latent"`, `"hybrid"` or `"json"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Latent => "latent",
            Self::Hybrid => "hybrid",
            Self::Json => "json",
        }
    }

    /// The mode with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Latent, Self::Hybrid, Self::Json].into_iter().find(|v| v.as_str() == name)
    }
}

/// The compression of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// zstd level 1.
    Fast,
    /// zstd level 3.
    Balanced,
    /// zstd level 19.
    Max,
}

impl Compression {
    /// The zstd level: 1, 3 or 19; `None` for no compression.
    #[must_use]
    pub const fn level(self) -> Option<i32> {
        match self {
            Self::None => None,
            Self::Fast => Some(1),
            Self::Balanced => Some(3),
            Self::Max => Some(19),
        }
    }

    /// The setting with this zstd level: 1, 3 or 19.
    #[must_use]
    pub const fn from_level(level: i32) -> Option<Self> {
        match level {
            1 => Some(Self::Fast),
            3 => Some(Self::Balanced),
            19 => Some(Self::Max),
            _ => None,
        }
    }
}

macro_rules! display_as_str {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    )*};
}

display_as_str!(PayloadType, DType, Mode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_wire_numbers_round_trip() {
        for value in -1..=2 {
            let payload = PayloadType::from_wire(value).unwrap();
            assert_eq!(payload.to_wire(), value);
            assert_eq!(PayloadType::from_name(payload.as_str()), Some(payload));
        }
        for value in 0..=3 {
            let dtype = DType::from_wire(value).unwrap();
            assert_eq!(dtype.to_wire(), value);
            assert_eq!(DType::from_name(dtype.as_str()), Some(dtype));
        }
        for level in [1, 3, 19] {
            assert_eq!(Compression::from_level(level).unwrap().level(), Some(level));
        }
    }

    #[test]
    fn numbers_outside_the_protocol_have_no_name() {
        assert_eq!(PayloadType::from_wire(3), None);
        assert_eq!(PayloadType::from_wire(-2), None);
        assert_eq!(DType::from_wire(4), None);
        assert_eq!(DType::from_wire(-1), None);
        assert_eq!(Compression::from_level(2), None);
    }
}
