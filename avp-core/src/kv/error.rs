//! The error of slicing, joining, converting and paging KV-caches.

use core::fmt;

/// An error of an operation on KV-caches. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvError {
    /// A range exceeds its axis.
    Range {
        /// `"layers"`, `"heads"` or `"tokens"`.
        axis: &'static str,
        /// Start of the range.
        start: usize,
        /// End of the range, exclusive.
        end: usize,
        /// Length of the axis.
        len: usize,
    },
    /// Two caches, or a cache and its blocks, have different shapes.
    Mismatch {
        /// The field that differs.
        field: &'static str,
        /// Its value in the first.
        expected: usize,
        /// Its value in the second.
        got: usize,
    },
    /// The caller's buffer is too small.
    Buffer {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        got: usize,
    },
    /// A block table names a block that does not exist.
    BlockRange {
        /// Index in the table.
        index: usize,
        /// The block that it names.
        block: u32,
        /// The number of blocks.
        num_blocks: usize,
    },
    /// A block table names a block twice.
    BlockTwice {
        /// Index in the table of the second mention.
        index: usize,
        /// The block that it names.
        block: u32,
    },
    /// The length of the result overflows, or one of its axes exceeds 32 bits.
    Overflow,
}

impl KvError {
    /// A stable name for programs to match on, such as `"kv_range"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Range { .. } => "kv_range",
            Self::Mismatch { .. } => "kv_mismatch",
            Self::Buffer { .. } => "kv_buffer",
            Self::BlockRange { .. } => "block_range",
            Self::BlockTwice { .. } => "block_twice",
            Self::Overflow => "kv_overflow",
        }
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Range { axis, start, end, len } => {
                write!(f, "{axis} {start}..{end} exceed the {len} {axis} of the KV-cache")
            }
            Self::Mismatch { field, expected, got } => write!(f, "expected {field} {expected}, got {got}"),
            Self::Buffer { needed, got } => write!(f, "the buffer needs {needed} bytes, got {got}"),
            Self::BlockRange { index, block, num_blocks } => {
                write!(f, "entry {index} of the block table names block {block} of {num_blocks}")
            }
            Self::BlockTwice { index, block } => {
                write!(f, "entry {index} of the block table names block {block} a second time")
            }
            Self::Overflow => f.write_str("the size of the KV-cache overflows"),
        }
    }
}

impl core::error::Error for KvError {}
