//! KV-cache bodies: a 17-byte header, then each layer's keys and values.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | `num_layers`, u32 little-endian |
//! | 4..8 | `num_kv_heads` |
//! | 8..12 | `head_dim` |
//! | 12..16 | `seq_len` in tokens |
//! | 16 | dtype: 0 float32, 1 float16, 2 bfloat16 |
//! | 17.. | `K0 V0 K1 V1 …`, each `[num_kv_heads, seq_len, head_dim]`, row-major, little-endian |

use core::fmt;

#[cfg(feature = "alloc")]
pub use self::select::concat;
pub use self::{
    element::KvElement,
    error::KvError,
    paged::{BlockShape, BlockTable},
    select::{KvSelection, concat_header, concat_into},
};
use crate::{DType, DecodeError, EncodeError, parallel::copy};

mod element;
mod error;
mod paged;
mod select;

/// The maximum number of layers in a cache without tokens: far above any model's.
const MAX_EMPTY_LAYERS: u32 = 65_536;

/// The number format of a KV-cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum KvDType {
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of binary32.
    BFloat16,
}

impl KvDType {
    const fn from_wire(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Float32),
            1 => Some(Self::Float16),
            2 => Some(Self::BFloat16),
            _ => None,
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Float32 => 0,
            Self::Float16 => 1,
            Self::BFloat16 => 2,
        }
    }

    /// Bytes per element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 | Self::BFloat16 => 2,
        }
    }

    /// `"float32"`, `"float16"` or `"bfloat16"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::BFloat16 => "bfloat16",
        }
    }
}

impl fmt::Display for KvDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<KvDType> for DType {
    fn from(dtype: KvDType) -> Self {
        match dtype {
            KvDType::Float32 => Self::Float32,
            KvDType::Float16 => Self::Float16,
            KvDType::BFloat16 => Self::BFloat16,
        }
    }
}

/// The shape of a KV-cache.
///
/// # Examples
///
/// ```
/// use avp_core::{KvDType, KvHeader};
///
/// let header = KvHeader { num_layers: 24, num_kv_heads: 2, head_dim: 64, seq_len: 100, dtype: KvDType::Float16 };
/// assert_eq!(header.bytes_per_token(), Some(24 * 2 * 2 * 64 * 2));
/// assert_eq!(header.body_len(), Some(17 + 100 * 24 * 2 * 2 * 64 * 2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KvHeader {
    /// Transformer layers.
    pub num_layers: u32,
    /// Key/value heads per layer.
    pub num_kv_heads: u32,
    /// Elements per head.
    pub head_dim: u32,
    /// Tokens in the cache.
    pub seq_len: u32,
    /// Number format of every element.
    pub dtype: KvDType,
}

impl KvHeader {
    /// Length of the header in bytes.
    pub const LEN: usize = 17;

    /// Reads a header from the start of `body`, which may be longer.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`], or [`DecodeError::UnknownEnum`] for the dtype.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let Some(bytes) = body.first_chunk::<{ Self::LEN }>() else {
            return Err(DecodeError::Truncated {
                what: "KV-cache header",
                offset: body.len(),
                needed: Self::LEN,
            });
        };
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let dtype = KvDType::from_wire(bytes[16]).ok_or(DecodeError::UnknownEnum {
            field: "KV-cache dtype",
            value: bytes[16].into(),
            offset: 16,
        })?;
        Ok(Self { num_layers: word(0), num_kv_heads: word(4), head_dim: word(8), seq_len: word(12), dtype })
    }

    /// The 17 bytes of this header.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let words = [self.num_layers, self.num_kv_heads, self.head_dim, self.seq_len];
        for (target, word) in bytes.chunks_exact_mut(4).zip(words) {
            target.copy_from_slice(&word.to_le_bytes());
        }
        bytes[16] = self.dtype.to_wire();
        bytes
    }

    /// Bytes of one key or value tensor, `num_kv_heads * seq_len * head_dim * dtype.size()`; `None` on
    /// overflow.
    #[must_use]
    pub fn tensor_len(&self) -> Option<usize> {
        product(&[self.num_kv_heads, self.seq_len, self.head_dim])?.checked_mul(self.dtype.size())
    }

    /// Bytes of all tensors, without the header; `None` on overflow.
    #[must_use]
    pub fn tensors_len(&self) -> Option<usize> {
        self.tensor_len()?.checked_mul(2)?.checked_mul(usize::try_from(self.num_layers).ok()?)
    }

    /// Bytes of the whole body: header and tensors; `None` on overflow.
    #[must_use]
    pub fn body_len(&self) -> Option<usize> {
        self.tensors_len()?.checked_add(Self::LEN)
    }

    /// Bytes of one token in all tensors; `None` on overflow.
    #[must_use]
    pub fn bytes_per_token(&self) -> Option<usize> {
        Self { seq_len: 1, ..*self }.tensors_len()
    }
}

/// A KV-cache body, borrowed: every tensor is a slice of the input.
///
/// # Examples
///
/// ```
/// use avp_core::KvView;
///
/// let cache = KvView::decode(b"\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01kkvv")?;
/// assert_eq!(cache.header().num_layers, 1);
/// assert_eq!((cache.layer(0).key(), cache.layer(0).value()), (&b"kk"[..], &b"vv"[..]));
/// # Ok::<(), avp_core::DecodeError>(())
/// ```
///
/// Invariant: `tensors.len() == 2 * num_layers * tensor_len`, so no accessor can leave the input.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    header: KvHeader,
    tensor_len: usize,
    tensors: &'a [u8],
}

impl<'a> KvView<'a> {
    /// Reads `body` as exactly one KV-cache.
    ///
    /// # Errors
    ///
    /// Those of [`KvHeader::decode`], and [`DecodeError::KvShape`] if the header does not match the length of `body`.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let header = KvHeader::decode(body)?;
        let expected = header.body_len();
        match header.tensor_len() {
            // Empty tensors take no bytes, so only this bounds the time of walking over the layers.
            Some(0) if header.num_layers > MAX_EMPTY_LAYERS => {
                Err(DecodeError::KvShape { expected: None, got: body.len() })
            }
            Some(tensor_len) if expected == Some(body.len()) => {
                Ok(Self { header, tensor_len, tensors: &body[KvHeader::LEN..] })
            }
            _ => Err(DecodeError::KvShape { expected, got: body.len() }),
        }
    }

    /// The cache's shape and number format.
    #[must_use]
    pub const fn header(&self) -> &KvHeader {
        &self.header
    }

    /// All tensors, `K0 V0 K1 V1 …`, without the header.
    #[must_use]
    pub const fn tensors(&self) -> &'a [u8] {
        self.tensors
    }

    /// Layer `index`.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    #[must_use]
    pub fn layer(&self, index: usize) -> KvLayer<'a> {
        match self.get(index) {
            Some(layer) => layer,
            None => panic!("layer {index} of a KV-cache with {} layers", self.header.num_layers),
        }
    }

    /// Layer `index`, or `None` if there is no such layer.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<KvLayer<'a>> {
        if index >= usize::try_from(self.header.num_layers).ok()? {
            return None;
        }
        let start = index * 2 * self.tensor_len;
        let (key, value) = self.tensors.get(start..start + 2 * self.tensor_len)?.split_at(self.tensor_len);
        Some(KvLayer { dtype: self.header.dtype, key, value })
    }

    /// Every layer, first to last.
    #[must_use]
    pub fn layers(&self) -> impl ExactSizeIterator<Item = KvLayer<'a>> + use<'a> {
        let view = *self;
        // A cache without tokens has as many layers as its header says; `usize` holds them, see `body_len`.
        (0..view.header.num_layers as usize).map(move |index| view.layer(index))
    }
}

/// One layer's keys and values, each `[num_kv_heads, seq_len, head_dim]`, row-major, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayer<'a> {
    dtype: KvDType,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> KvLayer<'a> {
    /// The keys.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The values.
    #[must_use]
    pub const fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The keys as numbers, without a copy; `None` if `T` is not their format, they are not aligned for it, or the
    /// machine is big-endian. [`key_values`](Self::key_values) works in every case.
    #[must_use]
    pub fn key_as<T: KvElement>(&self) -> Option<&'a [T]> {
        element::cast(self.dtype, self.key)
    }

    /// The values as numbers, without a copy: see [`key_as`](Self::key_as).
    #[must_use]
    pub fn value_as<T: KvElement>(&self) -> Option<&'a [T]> {
        element::cast(self.dtype, self.value)
    }

    /// The keys, widened to `f32`.
    #[must_use]
    pub fn key_values(&self) -> impl ExactSizeIterator<Item = f32> + use<'a> {
        element::values(self.dtype, self.key)
    }

    /// The values, widened to `f32`.
    #[must_use]
    pub fn value_values(&self) -> impl ExactSizeIterator<Item = f32> + use<'a> {
        element::values(self.dtype, self.value)
    }
}

/// Writes a KV-cache body, layer by layer, into a caller's buffer.
///
/// # Examples
///
/// ```
/// use avp_core::{KvDType, KvHeader, KvWriter};
///
/// let header = KvHeader { num_layers: 1, num_kv_heads: 1, head_dim: 1, seq_len: 1, dtype: KvDType::Float16 };
/// let mut body = [0; 21];
/// let mut writer = KvWriter::new(header, &mut body)?;
/// writer.layer(b"kk", b"vv")?;
/// assert_eq!(writer.finish()?, 21);
/// # Ok::<(), avp_core::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct KvWriter<'b> {
    header: KvHeader,
    tensor_len: usize,
    body_len: usize,
    layers: usize,
    rest: &'b mut [u8],
}

impl<'b> KvWriter<'b> {
    /// Writes the header to the start of `out`, in front of the layers.
    ///
    /// # Errors
    ///
    /// [`EncodeError::KvOverflow`], or [`EncodeError::BufferTooSmall`] for a body of [`KvHeader::body_len`] bytes.
    pub fn new(header: KvHeader, out: &'b mut [u8]) -> Result<Self, EncodeError> {
        let (Some(tensor_len), Some(body_len)) = (header.tensor_len(), header.body_len()) else {
            return Err(EncodeError::KvOverflow);
        };
        let got = out.len();
        let Some((head, rest)) =
            out.get_mut(..body_len).and_then(|out| out.split_at_mut_checked(KvHeader::LEN))
        else {
            return Err(EncodeError::BufferTooSmall { needed: body_len, got });
        };
        head.copy_from_slice(&header.encode());
        Ok(Self { header, tensor_len, body_len, layers: 0, rest })
    }

    /// Appends one layer: keys and values, each `[num_kv_heads, seq_len, head_dim]` in the header's dtype.
    ///
    /// # Errors
    ///
    /// [`EncodeError::KvTensor`] if a tensor has the wrong length, [`EncodeError::KvLayers`] if all layers have been
    /// written. Nothing is written then.
    pub fn layer(&mut self, key: &[u8], value: &[u8]) -> Result<(), EncodeError> {
        let expected = self.header.num_layers as usize;
        if self.layers == expected {
            return Err(EncodeError::KvLayers { expected, got: self.layers + 1 });
        }
        for (tensor, bytes) in [("key", key), ("value", value)] {
            if bytes.len() != self.tensor_len {
                let layer = self.layers;
                return Err(EncodeError::KvTensor {
                    layer,
                    tensor,
                    expected: self.tensor_len,
                    got: bytes.len(),
                });
            }
        }
        let (target, rest) = core::mem::take(&mut self.rest).split_at_mut(2 * self.tensor_len);
        copy(key, &mut target[..self.tensor_len]);
        copy(value, &mut target[self.tensor_len..]);
        self.rest = rest;
        self.layers += 1;
        Ok(())
    }

    /// The length of the complete body, in bytes.
    ///
    /// # Errors
    ///
    /// [`EncodeError::KvLayers`] if layers are missing.
    pub fn finish(self) -> Result<usize, EncodeError> {
        let expected = self.header.num_layers as usize;
        if self.layers < expected {
            return Err(EncodeError::KvLayers { expected, got: self.layers });
        }
        Ok(self.body_len)
    }
}

/// A KV-cache body of these layers: keys and values, each `[num_kv_heads, seq_len, head_dim]` in the header's dtype.
///
/// Only available when `alloc` is enabled.
///
/// # Errors
///
/// Those of [`KvWriter`].
#[cfg(feature = "alloc")]
pub fn encode<K, V>(
    header: KvHeader,
    layers: impl IntoIterator<Item = (K, V)>,
) -> Result<alloc::vec::Vec<u8>, EncodeError>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut body = alloc::vec![0; header.body_len().ok_or(EncodeError::KvOverflow)?];
    let mut writer = KvWriter::new(header, &mut body)?;
    for (key, value) in layers {
        writer.layer(key.as_ref(), value.as_ref())?;
    }
    writer.finish()?;
    Ok(body)
}

fn product(factors: &[u32]) -> Option<usize> {
    factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(usize::try_from(factor).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: KvHeader =
        KvHeader { num_layers: 2, num_kv_heads: 2, head_dim: 3, seq_len: 1, dtype: KvDType::BFloat16 };

    #[test]
    fn written_layers_read_back_as_slices_of_the_body() {
        let tensors: [[u8; 12]; 4] = core::array::from_fn(|i| [i as u8; 12]);
        let mut body = [0xff; 70];
        let mut writer = KvWriter::new(HEADER, &mut body).unwrap();
        writer.layer(&tensors[0], &tensors[1]).unwrap();
        writer.layer(&tensors[2], &tensors[3]).unwrap();
        let len = writer.finish().unwrap();
        assert_eq!(len, 17 + 48);

        let view = KvView::decode(&body[..len]).unwrap();
        assert_eq!(view.header(), &HEADER);
        assert!(view.layers().map(|layer| layer.key()).eq([&tensors[0][..], &tensors[2]]));
        assert!(view.layers().map(|layer| layer.value()).eq([&tensors[1][..], &tensors[3]]));
        assert!(core::ptr::eq(view.layer(1).value(), &body[53..65]));
        assert!(view.get(2).is_none());
    }

    #[test]
    fn a_body_of_any_other_length_is_refused() {
        let mut body = [0; 70];
        body[..17].copy_from_slice(&HEADER.encode());
        for len in 0..70 {
            match KvView::decode(&body[..len]) {
                Ok(_) => assert_eq!(len, 65),
                Err(error) if len < 17 => assert_eq!((error.kind(), error.offset()), ("truncated", len)),
                Err(error) => {
                    assert_eq!(error, DecodeError::KvShape { expected: Some(65), got: len });
                }
            }
        }
    }

    #[test]
    fn shapes_past_memory_are_refused_without_overflow() {
        let huge = KvHeader { num_layers: u32::MAX, num_kv_heads: u32::MAX, seq_len: u32::MAX, ..HEADER };
        assert_eq!(huge.body_len(), None);
        assert_eq!(
            KvView::decode(&huge.encode()).unwrap_err(),
            DecodeError::KvShape { expected: None, got: 17 }
        );
        assert_eq!(KvWriter::new(huge, &mut []).unwrap_err(), EncodeError::KvOverflow);
    }

    #[test]
    fn a_dtype_outside_the_protocol_is_refused() {
        let mut bytes = HEADER.encode();
        bytes[16] = 3;
        assert_eq!(
            KvHeader::decode(&bytes).unwrap_err(),
            DecodeError::UnknownEnum { field: "KV-cache dtype", value: 3, offset: 16 }
        );
    }

    #[test]
    fn an_empty_cache_keeps_its_layers() {
        let empty = KvHeader { seq_len: 0, ..HEADER };
        let view_bytes = empty.encode();
        let view = KvView::decode(&view_bytes).unwrap();
        assert_eq!(view.layers().len(), 2);
        assert!(view.layers().all(|layer| layer.key().is_empty() && layer.value().is_empty()));
        let endless = KvHeader { num_layers: u32::MAX, ..empty };
        assert_eq!(KvView::decode(&endless.encode()).unwrap_err().kind(), "kv_shape");
    }

    #[test]
    fn tensors_and_layers_that_do_not_fit_the_header_are_named() {
        let mut body = [0; 65];
        let mut writer = KvWriter::new(HEADER, &mut body).unwrap();
        writer.layer(&[0; 12], &[0; 12]).unwrap();
        assert_eq!(
            writer.layer(&[0; 12], &[0; 11]),
            Err(EncodeError::KvTensor { layer: 1, tensor: "value", expected: 12, got: 11 })
        );
        assert_eq!(writer.finish(), Err(EncodeError::KvLayers { expected: 2, got: 1 }));
        assert_eq!(
            KvWriter::new(HEADER, &mut [0; 64]).unwrap_err(),
            EncodeError::BufferTooSmall { needed: 65, got: 64 }
        );
    }
}
