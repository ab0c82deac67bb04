//! [`Metadata::tensor_shape`](crate::Metadata::tensor_shape).

use core::fmt;

use super::field;
use crate::protobuf::{Reader, Uint32s};

/// The axes of a tensor, outermost first.
///
/// # Examples
///
/// ```
/// use avp_core::{Metadata, TensorShape};
///
/// let metadata = Metadata { tensor_shape: TensorShape::from(&[1, 896]), ..Metadata::default() };
/// assert!(metadata.tensor_shape.iter().eq([1, 896]));
/// ```
#[derive(Clone, Copy, Default)]
pub struct TensorShape<'a> {
    given: &'a [u32],
    /// Metadata that was read to its end without fault, from its first list on.
    checked: &'a [u8],
}

impl<'a> TensorShape<'a> {
    /// The shape in metadata whose fields were all read without fault.
    pub(super) const fn of_checked(fields: &'a [u8]) -> Self {
        Self { given: &[], checked: fields }
    }

    /// The axes one by one.
    #[must_use]
    pub fn iter(&self) -> TensorShapeIter<'a> {
        TensorShapeIter {
            given: self.given.iter(),
            checked: Reader::new(self.checked, 0),
            current: Uint32s::One(None),
        }
    }
}

impl<'a> From<&'a [u32]> for TensorShape<'a> {
    fn from(given: &'a [u32]) -> Self {
        Self { given, checked: &[] }
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for TensorShape<'a> {
    fn from(given: &'a [u32; N]) -> Self {
        Self::from(given.as_slice())
    }
}

impl PartialEq for TensorShape<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for TensorShape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for TensorShape<'a> {
    type Item = u32;
    type IntoIter = TensorShapeIter<'a>;

    fn into_iter(self) -> TensorShapeIter<'a> {
        self.iter()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for TensorShape<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Iterator over a [`TensorShape`].
#[derive(Debug, Clone)]
pub struct TensorShapeIter<'a> {
    given: core::slice::Iter<'a, u32>,
    checked: Reader<'a>,
    /// The rest of the field that was read last.
    current: Uint32s<'a>,
}

impl Iterator for TensorShapeIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if let Some(axis) = self.given.next() {
            return Some(*axis);
        }
        // Protobuf may spread one list over several fields.
        loop {
            if let Some(Ok(value)) = self.current.next() {
                return Some(value);
            }
            let field = self.checked.field_again()?;
            if field.number == field::TENSOR_SHAPE {
                self.current = field.repeated_uint32().ok()?;
            }
        }
    }
}
