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
#[derive(Clone, Copy)]
pub struct TensorShape<'a>(Axes<'a>);

#[derive(Clone, Copy)]
enum Axes<'a> {
    Given(&'a [u32]),
    /// Metadata that was read to its end without fault, from its first list on.
    Checked(&'a [u8]),
}

impl<'a> TensorShape<'a> {
    /// The shape in metadata whose fields were all read without fault.
    pub(super) const fn of_checked(fields: &'a [u8]) -> Self {
        Self(Axes::Checked(fields))
    }

    /// The axes one by one.
    #[must_use]
    pub fn iter(&self) -> TensorShapeIter<'a> {
        TensorShapeIter(match self.0 {
            Axes::Given(axes) => State::Given(axes.iter()),
            Axes::Checked(fields) => {
                State::Checked { fields: Reader::new(fields, 0), current: Uint32s::One(None) }
            }
        })
    }
}

impl<'a> From<&'a [u32]> for TensorShape<'a> {
    fn from(axes: &'a [u32]) -> Self {
        Self(Axes::Given(axes))
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for TensorShape<'a> {
    fn from(axes: &'a [u32; N]) -> Self {
        Self(Axes::Given(axes))
    }
}

impl Default for TensorShape<'_> {
    fn default() -> Self {
        Self(Axes::Given(&[]))
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
pub struct TensorShapeIter<'a>(State<'a>);

#[derive(Debug, Clone)]
enum State<'a> {
    Given(core::slice::Iter<'a, u32>),
    Checked { fields: Reader<'a>, current: Uint32s<'a> },
}

impl Iterator for TensorShapeIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (fields, current) = match &mut self.0 {
            State::Given(axes) => return axes.next().copied(),
            State::Checked { fields, current } => (fields, current),
        };
        // Protobuf may spread one list over several fields.
        loop {
            if let Some(Ok(value)) = current.next() {
                return Some(value);
            }
            let field = fields.field_again()?;
            if field.number == field::TENSOR_SHAPE {
                *current = field.repeated_uint32().ok()?;
            }
        }
    }
}
