//! Why KV-caches cannot be cut, joined, converted or paged as asked.

use core::fmt;

/// Why an operation on KV-caches is not possible. Nothing was written then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvError {
    /// A range is not within its axis.
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
    /// Two caches, or a cache and its blocks, differ where they must agree.
    Mismatch {
        /// The field that differs.
        field: &'static str,
        /// Its value in the first.
        expected: usize,
        /// Its value in the other.
        got: usize,
    },
    /// The caller's buffer does not have the length that is needed.
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
        /// How many blocks there are.
        num_blocks: usize,
    },
    /// A block table names a block twice.
    BlockTwice {
        /// Index in the table of the second mention.
        index: usize,
        /// The block that it names.
        block: u32,
    },
    /// The result would be larger than memory, or its axes than 32 bits.
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
                write!(f, "{axis} {start}..{end} are not within the {len} {axis} of the KV-cache")
            }
            Self::Mismatch { field, expected, got } => write!(f, "expected {field} {expected}, got {got}"),
            Self::Buffer { needed, got } => write!(f, "the buffer needs {needed} bytes, got {got}"),
            Self::BlockRange { index, block, num_blocks } => {
                write!(f, "entry {index} of the block table names block {block} of {num_blocks}")
            }
            Self::BlockTwice { index, block } => {
                write!(f, "entry {index} of the block table names block {block} a second time")
            }
            Self::Overflow => f.write_str("the KV-cache would be larger than memory"),
        }
    }
}

impl core::error::Error for KvError {}
