//! Places in a packet's text.

use core::ops::Range;

/// A half-open range of byte offsets into the parsed text.
///
/// Both ends of a span from this crate are character boundaries of that text, so slicing with it does not panic.
///
/// ```
/// let span = aacp::Span::new(6, 8);
/// assert_eq!(&"FETCH|HR|return:A"[span.range()], "HR");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Span {
    /// Offset of the first byte, in bytes.
    pub start: usize,
    /// Offset one past the last byte, in bytes; `start <= end`.
    pub end: usize,
}

impl Span {
    /// A span from `start` to `end`, in bytes.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The span as a range, for slicing.
    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// Length in bytes.
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether the span covers no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

impl core::fmt::Display for Span {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}
