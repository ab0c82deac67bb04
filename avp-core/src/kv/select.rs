//! Slicing, joining and converting KV-caches: a [`KvSelection`] describes the result, which is written in one pass.

use core::ops::Range;

use super::{KvDType, KvError, KvHeader, KvView, element::convert};

/// A part of a KV-cache, in any number format, before it is written.
///
/// # Examples
///
/// ```
/// use avp_core::KvView;
///
/// let cache = KvView::decode(b"\x01\0\0\0\x01\0\0\0\x01\0\0\0\x03\0\0\0\x01AABBCCaabbcc")?;
/// let mut out = [0; 64];
/// let len = cache.select().tokens(1..3)?.write_into(&mut out)?;
/// assert_eq!(KvView::decode(&out[..len])?.layer(0).key(), b"BBCC");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Keys contain the positions at which they were computed: to a model with rotary embeddings, tokens from the middle of
/// a cache keep their positions.
///
/// Invariant: every range lies within the view.
#[derive(Debug, Clone)]
pub struct KvSelection<'a> {
    view: KvView<'a>,
    layers: Range<usize>,
    heads: Range<usize>,
    tokens: Range<usize>,
    dtype: KvDType,
}

impl<'a> KvView<'a> {
    /// A selection of the whole cache.
    #[must_use]
    pub fn select(&self) -> KvSelection<'a> {
        let header = self.header();
        // The axes fit `usize` on every machine of 32 bits and more.
        KvSelection {
            view: *self,
            layers: 0..header.num_layers as usize,
            heads: 0..header.num_kv_heads as usize,
            tokens: 0..header.seq_len as usize,
            dtype: header.dtype,
        }
    }
}

impl KvSelection<'_> {
    /// Restricts the selection to these of its layers.
    ///
    /// # Errors
    ///
    /// [`KvError::Range`].
    pub fn layers(self, range: Range<usize>) -> Result<Self, KvError> {
        Ok(Self { layers: within("layers", &self.layers, range)?, ..self })
    }

    /// Restricts the selection to these of its key/value heads.
    ///
    /// # Errors
    ///
    /// [`KvError::Range`].
    pub fn heads(self, range: Range<usize>) -> Result<Self, KvError> {
        Ok(Self { heads: within("heads", &self.heads, range)?, ..self })
    }

    /// Restricts the selection to these of its tokens.
    ///
    /// # Errors
    ///
    /// [`KvError::Range`].
    pub fn tokens(self, range: Range<usize>) -> Result<Self, KvError> {
        Ok(Self { tokens: within("tokens", &self.tokens, range)?, ..self })
    }

    /// Sets the number format, with rounding to nearest, ties to even.
    #[must_use]
    pub fn dtype(self, dtype: KvDType) -> Self {
        Self { dtype, ..self }
    }

    /// The header of the selection as a cache.
    #[must_use]
    pub fn header(&self) -> KvHeader {
        // Each range lies within an axis of 32 bits.
        let len = |range: &Range<usize>| range.len() as u32;
        KvHeader {
            num_layers: len(&self.layers),
            num_kv_heads: len(&self.heads),
            seq_len: len(&self.tokens),
            head_dim: self.view.header().head_dim,
            dtype: self.dtype,
        }
    }

    /// Writes the selection as a KV-cache body to the start of `out` and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`KvError::Buffer`], or [`KvError::Overflow`] if the size overflows in a wider format.
    pub fn write_into(&self, out: &mut [u8]) -> Result<usize, KvError> {
        concat_into(core::slice::from_ref(self), out)
    }

    /// The selection as a KV-cache body.
    ///
    /// Only available when `alloc` is enabled.
    ///
    /// # Errors
    ///
    /// [`KvError::Overflow`] if the size overflows in a wider format.
    #[cfg(feature = "alloc")]
    pub fn to_vec(&self) -> Result<alloc::vec::Vec<u8>, KvError> {
        concat(core::slice::from_ref(self))
    }

    /// The selected rows of one head: `[tokens, head_dim]`, in the view's format.
    fn rows(&self, layer: usize, is_value: bool, head: usize) -> &[u8] {
        let header = self.view.header();
        let row = header.head_dim as usize * header.dtype.size();
        let layer = self.view.layer(self.layers.start + layer);
        let tensor = if is_value { layer.value() } else { layer.key() };
        let start = (self.heads.start + head) * header.seq_len as usize * row;
        &tensor[start + self.tokens.start * row..start + self.tokens.end * row]
    }
}

/// The header of `parts` joined along the tokens, in the format of the first.
///
/// # Errors
///
/// [`KvError::Mismatch`] if the parts differ in layers, heads or width; [`KvError::Overflow`] if the number of tokens
/// exceeds 32 bits.
pub fn concat_header(parts: &[KvSelection<'_>]) -> Result<KvHeader, KvError> {
    let Some((first, others)) = parts.split_first() else {
        return Err(KvError::Mismatch { field: "number of parts", expected: 1, got: 0 });
    };
    let mut joined = first.header();
    for other in others.iter().map(KvSelection::header) {
        for (field, expected, got) in [
            ("num_layers", joined.num_layers, other.num_layers),
            ("num_kv_heads", joined.num_kv_heads, other.num_kv_heads),
            ("head_dim", joined.head_dim, other.head_dim),
        ] {
            if expected != got {
                return Err(KvError::Mismatch { field, expected: expected as usize, got: got as usize });
            }
        }
        joined.seq_len = joined.seq_len.checked_add(other.seq_len).ok_or(KvError::Overflow)?;
    }
    Ok(joined)
}

/// Joins `parts` along the tokens, in the format of the first. Writes to the start of `out` and returns the length in
/// bytes.
///
/// # Errors
///
/// Those of [`concat_header`], and [`KvError::Buffer`]. Nothing is written then.
pub fn concat_into(parts: &[KvSelection<'_>], out: &mut [u8]) -> Result<usize, KvError> {
    let header = concat_header(parts)?;
    let body_len = header.body_len().ok_or(KvError::Overflow)?;
    let got = out.len();
    let body = out.get_mut(..body_len).ok_or(KvError::Buffer { needed: body_len, got })?;
    let (head, mut rest) = body.split_at_mut(KvHeader::LEN);
    head.copy_from_slice(&header.encode());
    if rest.is_empty() {
        // Without bytes there may still be billions of empty heads to walk over.
        return Ok(body_len);
    }
    for layer in 0..header.num_layers as usize {
        for is_value in [false, true] {
            for head in 0..header.num_kv_heads as usize {
                for part in parts {
                    let source = part.rows(layer, is_value, head);
                    let from = part.view.header().dtype;
                    let (target, after) = rest.split_at_mut(source.len() / from.size() * header.dtype.size());
                    convert(from, source, header.dtype, target);
                    rest = after;
                }
            }
        }
    }
    Ok(body_len)
}

/// Joins `parts` along the tokens: see [`concat_into`].
///
/// Only available when `alloc` is enabled.
///
/// # Errors
///
/// Those of [`concat_header`].
#[cfg(feature = "alloc")]
pub fn concat(parts: &[KvSelection<'_>]) -> Result<alloc::vec::Vec<u8>, KvError> {
    let header = concat_header(parts)?;
    let mut body = alloc::vec![0; header.body_len().ok_or(KvError::Overflow)?];
    concat_into(parts, &mut body)?;
    Ok(body)
}

/// `range`, counted from the start of `outer`, if it lies within.
fn within(axis: &'static str, outer: &Range<usize>, range: Range<usize>) -> Result<Range<usize>, KvError> {
    if range.start > range.end || range.end > outer.len() {
        return Err(KvError::Range { axis, start: range.start, end: range.end, len: outer.len() });
    }
    Ok(outer.start + range.start..outer.start + range.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KvWriter;

    const HEADER: KvHeader =
        KvHeader { num_layers: 3, num_kv_heads: 2, head_dim: 2, seq_len: 4, dtype: KvDType::Float32 };
    const BODY_LEN: usize = 17 + 3 * 2 * 2 * 4 * 2 * 4;

    /// An element says where it is: layer, key or value, head, token, dim as decimal digits.
    fn element(layer: usize, is_value: bool, head: usize, token: usize, dim: usize) -> f32 {
        (((((layer * 10 + usize::from(is_value)) * 10) + head) * 10 + token) * 10 + dim) as f32
    }

    fn body() -> [u8; BODY_LEN] {
        let mut body = [0; BODY_LEN];
        let mut writer = KvWriter::new(HEADER, &mut body).unwrap();
        for layer in 0..3 {
            let tensor = |is_value| {
                let mut tensor = [0; 2 * 4 * 2 * 4];
                for (index, bytes) in tensor.as_chunks_mut().0.iter_mut().enumerate() {
                    *bytes = element(layer, is_value, index / 8, index / 2 % 4, index % 2).to_le_bytes();
                }
                tensor
            };
            writer.layer(&tensor(false), &tensor(true)).unwrap();
        }
        writer.finish().unwrap();
        body
    }

    #[test]
    fn a_selection_has_exactly_the_elements_of_its_ranges() {
        let body = body();
        let view = KvView::decode(&body).unwrap();
        let selection = view
            .select()
            .layers(1..3)
            .unwrap()
            .heads(1..2)
            .unwrap()
            .tokens(1..4)
            .unwrap()
            .tokens(1..3)
            .unwrap();
        let mut out = [0; 256];
        let len = selection.write_into(&mut out).unwrap();
        let cut = KvView::decode(&out[..len]).unwrap();
        assert_eq!(*cut.header(), KvHeader { num_layers: 2, num_kv_heads: 1, seq_len: 2, ..HEADER });
        for layer in 0..2 {
            let expected =
                |is_value| (0..4).map(move |index| element(layer + 1, is_value, 1, 2 + index / 2, index % 2));
            assert!(cut.layer(layer).key_values().eq(expected(false)));
            assert!(cut.layer(layer).value_values().eq(expected(true)));
        }
    }

    #[test]
    fn a_cache_cut_in_two_joins_to_itself() {
        let body = body();
        let view = KvView::decode(&body).unwrap();
        for cut in 0..=4 {
            let parts = [view.select().tokens(0..cut).unwrap(), view.select().tokens(cut..4).unwrap()];
            let mut out = [0; BODY_LEN];
            assert_eq!(concat_into(&parts, &mut out), Ok(BODY_LEN));
            assert_eq!(out, body, "{cut}");
        }
    }

    #[test]
    fn small_integers_survive_every_format() {
        let body = body();
        let view = KvView::decode(&body).unwrap();
        // Float16 holds integers to 2048 and bfloat16 to 256, so layer 0 it is.
        let selection = view.select().layers(0..1).unwrap().heads(0..1).unwrap();
        for dtype in [KvDType::Float32, KvDType::Float16, KvDType::BFloat16] {
            let (mut narrow, mut wide) = ([0; BODY_LEN], [0; BODY_LEN]);
            let len = selection.clone().dtype(dtype).write_into(&mut narrow).unwrap();
            let converted = KvView::decode(&narrow[..len]).unwrap();
            assert_eq!(converted.header().dtype, dtype);
            let back = converted.select().dtype(KvDType::Float32);
            let len = back.write_into(&mut wide).unwrap();
            let back = KvView::decode(&wide[..len]).unwrap();
            assert!(back.layer(0).key_values().eq((0..8).map(|i| element(0, false, 0, i / 2, i % 2))));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let body = body();
        let view = KvView::decode(&body).unwrap();
        assert_eq!(
            view.select().tokens(3..5).unwrap_err(),
            KvError::Range { axis: "tokens", start: 3, end: 5, len: 4 }
        );
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = view.select().layers(2..1).unwrap_err();
        assert_eq!(reversed.kind(), "kv_range");
        let parts = [view.select(), view.select().heads(0..1).unwrap()];
        assert_eq!(
            concat_header(&parts).unwrap_err(),
            KvError::Mismatch { field: "num_kv_heads", expected: 2, got: 1 }
        );
        assert_eq!(concat_header(&[]).unwrap_err().kind(), "kv_mismatch");
        assert_eq!(
            view.select().write_into(&mut [0; BODY_LEN - 1]),
            Err(KvError::Buffer { needed: BODY_LEN, got: BODY_LEN - 1 })
        );
    }
}
