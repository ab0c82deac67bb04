//! Errors: [`DecodeError`] for bytes that are read, [`EncodeError`] for values that are written.
//!
//! Both are `Copy`, need no allocator, and name what was expected, what was found and where. They never hold payload
//! data, which is private.

use core::fmt;

use crate::Dialect;

/// An error of reading.
///
/// # Examples
///
/// ```
/// use avp_core::Frame;
///
/// let error = Frame::decode(b"PK\x03\x04........").unwrap_err();
/// assert_eq!(error.kind(), "bad_magic");
/// assert_eq!(error.offset(), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends before the structure does. Reading may succeed with more bytes.
    Truncated {
        /// The structure that was being read.
        what: &'static str,
        /// Length of the input, in bytes.
        offset: usize,
        /// The least length the input must have, in bytes; more than `offset`.
        needed: usize,
    },
    /// The frame does not start with `"AV"`.
    BadMagic {
        /// The first two bytes found.
        got: [u8; 2],
    },
    /// The header version is not 1.
    UnsupportedVersion {
        /// The version byte found.
        got: u8,
    },
    /// The metadata would be longer than the payload that contains it.
    MetadataLength {
        /// Metadata length from the header, in bytes.
        metadata_len: u32,
        /// Payload length from the header, in bytes.
        payload_len: u32,
    },
    /// The frame is longer than this machine can address.
    FrameLength {
        /// Payload length from the header, in bytes.
        payload_len: u32,
    },
    /// The metadata is longer than the receiver's limit.
    MetadataTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Metadata length from the header, in bytes.
        got: u32,
    },
    /// The frame is longer than the receiver's limit.
    FrameTooLarge {
        /// The limit, in bytes.
        limit: u64,
        /// Length of the frame from the header, in bytes.
        got: u64,
    },
    /// There are bytes after the end of the structure.
    TrailingBytes {
        /// The structure that ended.
        what: &'static str,
        /// Offset of its end.
        offset: usize,
        /// Number of bytes that follow.
        extra: usize,
    },
    /// The flags do not match the metadata in any dialect.
    ContradictoryFlags {
        /// The flags byte found.
        flags: u8,
        /// The flags of this metadata in dialect 0.2, or `None` if 0.2 cannot express it.
        dialect_0_2: Option<u8>,
        /// The flags of this metadata in dialect 0.3, or `None` if 0.3 cannot express it.
        dialect_0_3: Option<u8>,
    },
    /// An enum field holds a number that the protocol does not define.
    UnknownEnum {
        /// The field's name in the schema.
        field: &'static str,
        /// The number found.
        value: i32,
        /// Offset of the number.
        offset: usize,
    },
    /// The metadata names a compression other than `zstd`.
    UnknownCompression {
        /// Offset of the name.
        offset: usize,
    },
    /// A text field is not UTF-8.
    BadUtf8 {
        /// The field's name in the schema.
        field: &'static str,
        /// Offset of the first invalid byte.
        offset: usize,
    },
    /// The bytes are not a protobuf message.
    Protobuf {
        /// The fault.
        fault: ProtobufFault,
        /// Its offset.
        offset: usize,
    },
    /// The body's CRC-32 is not the one in the metadata.
    ChecksumMismatch {
        /// CRC-32 from the metadata.
        expected: u32,
        /// CRC-32 of the body.
        actual: u32,
        /// Offset of the body.
        offset: usize,
    },
    /// The body is compressed, and the uncompressed one was asked for.
    Compressed {
        /// Offset of the body.
        offset: usize,
    },
    /// The compressed body is corrupt.
    Decompress {
        /// Offset of the body.
        offset: usize,
    },
    /// The decompressed body, or the window that it needs, exceeds the limit.
    DecompressedTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Offset of the body.
        offset: usize,
    },
    /// The body is not of the kind that was asked for.
    WrongBody {
        /// The kind asked for.
        expected: &'static str,
        /// The kind found.
        got: &'static str,
    },
    /// The KV-cache header does not match the length of its body, or its length overflows.
    KvShape {
        /// Length of header and tensors by the header, in bytes; `None` on overflow.
        expected: Option<usize>,
        /// Length found, in bytes.
        got: usize,
    },
}

/// A fault in a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtobufFault {
    /// A varint runs past the end or past 64 bits.
    Varint,
    /// A field key is zero or longer than 32 bits.
    Key,
    /// Wire type 6 or 7, or one that does not match the field.
    WireType,
    /// A length runs past the end of the message.
    Length,
    /// A group without an end, or an end without a group.
    Group,
    /// Groups nested deeper than 100.
    Depth,
}

impl DecodeError {
    /// A stable name for programs to match on, such as `"truncated"` or `"bad_magic"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::BadMagic { .. } => "bad_magic",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::MetadataLength { .. } => "metadata_length",
            Self::FrameLength { .. } => "frame_length",
            Self::MetadataTooLarge { .. } => "metadata_too_large",
            Self::FrameTooLarge { .. } => "frame_too_large",
            Self::TrailingBytes { .. } => "trailing_bytes",
            Self::ContradictoryFlags { .. } => "contradictory_flags",
            Self::UnknownEnum { .. } => "unknown_enum",
            Self::UnknownCompression { .. } => "unknown_compression",
            Self::BadUtf8 { .. } => "bad_utf8",
            Self::Protobuf { .. } => "bad_protobuf",
            Self::ChecksumMismatch { .. } => "checksum_mismatch",
            Self::Compressed { .. } => "compressed",
            Self::Decompress { .. } => "bad_compression",
            Self::DecompressedTooLarge { .. } => "decompressed_too_large",
            Self::WrongBody { .. } => "wrong_body",
            Self::KvShape { .. } => "kv_shape",
        }
    }

    /// The least number of further bytes that are needed to continue; `None` for errors that more bytes do not resolve.
    #[must_use]
    pub const fn missing(&self) -> Option<usize> {
        match *self {
            Self::Truncated { offset, needed, .. } => Some(needed.saturating_sub(offset)),
            _ => None,
        }
    }

    /// The byte offset of the error, from the start of the frame for [`Frame`](crate::Frame) and of the payload for
    /// [`KvView`](crate::KvView) and [`Hybrid`](crate::Hybrid).
    #[must_use]
    pub const fn offset(&self) -> usize {
        match *self {
            Self::BadMagic { .. } | Self::KvShape { .. } => 0,
            Self::UnsupportedVersion { .. } => 2,
            Self::ContradictoryFlags { .. } | Self::WrongBody { .. } => 3,
            Self::FrameLength { .. } | Self::FrameTooLarge { .. } => 4,
            Self::MetadataLength { .. } | Self::MetadataTooLarge { .. } => 8,
            Self::Truncated { offset, .. }
            | Self::TrailingBytes { offset, .. }
            | Self::UnknownEnum { offset, .. }
            | Self::UnknownCompression { offset }
            | Self::BadUtf8 { offset, .. }
            | Self::Protobuf { offset, .. }
            | Self::ChecksumMismatch { offset, .. }
            | Self::Compressed { offset }
            | Self::Decompress { offset }
            | Self::DecompressedTooLarge { offset, .. } => offset,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { what, offset, needed } => {
                write!(f, "{what} needs at least {needed} bytes, got {offset}")
            }
            Self::BadMagic { got: [a, b] } => {
                write!(f, "expected a frame to start with 41 56 (\"AV\"), got {a:02x} {b:02x}")
            }
            Self::UnsupportedVersion { got } => write!(f, "expected header version 1, got {got}"),
            Self::MetadataLength { metadata_len, payload_len } => {
                write!(f, "metadata of {metadata_len} bytes exceeds the payload of {payload_len}")
            }
            Self::FrameLength { payload_len } => {
                write!(f, "payload of {payload_len} bytes exceeds the address space of this machine")
            }
            Self::MetadataTooLarge { limit, got } => {
                write!(f, "metadata of {got} bytes is more than the limit of {limit}")
            }
            Self::FrameTooLarge { limit, got } => {
                write!(f, "a frame of {got} bytes is more than the limit of {limit}")
            }
            Self::TrailingBytes { what, offset, extra } => {
                write!(f, "{what} ends at byte {offset}, but {extra} more bytes follow")
            }
            Self::ContradictoryFlags { flags, dialect_0_2, dialect_0_3 } => {
                write!(f, "flags {flags:#04x} do not match the metadata in any dialect")?;
                match (dialect_0_2, dialect_0_3) {
                    (Some(a), Some(b)) => write!(f, ": expected {a:#04x} in 0.2 or {b:#04x} in 0.3"),
                    (Some(a), None) => write!(f, ": expected {a:#04x} in 0.2"),
                    (None, Some(b)) => write!(f, ": expected {b:#04x} in 0.3"),
                    (None, None) => Ok(()),
                }
            }
            Self::UnknownEnum { field, value, offset } => {
                write!(f, "unknown value {value} of {field} at byte {offset}")
            }
            Self::UnknownCompression { offset } => {
                write!(f, "unknown compression at byte {offset}, expected \"zstd\"")
            }
            Self::BadUtf8 { field, offset } => write!(f, "{field} is not UTF-8 at byte {offset}"),
            Self::Protobuf { fault, offset } => write!(f, "{fault} at byte {offset}"),
            Self::ChecksumMismatch { expected, actual, .. } => {
                write!(f, "checksum mismatch: expected {expected:#010x}, got {actual:#010x}")
            }
            Self::Compressed { .. } => f.write_str("the body is compressed; decompress it first"),
            Self::Decompress { .. } => f.write_str("the compressed body is corrupt"),
            Self::DecompressedTooLarge { limit, .. } => {
                write!(f, "the body unpacks to more than the limit of {limit} bytes")
            }
            Self::WrongBody { expected, got } => write!(f, "expected a {expected} body, got {got}"),
            Self::KvShape { expected: Some(expected), got } => {
                write!(f, "expected {expected} bytes by the KV-cache header, got {got}")
            }
            Self::KvShape { expected: None, got } => {
                write!(f, "the length by the KV-cache header overflows, got {got} bytes")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

impl fmt::Display for ProtobufFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "bad protobuf varint",
            Self::Key => "bad protobuf field key",
            Self::WireType => "unexpected protobuf wire type",
            Self::Length => "protobuf length past the end of its message",
            Self::Group => "unbalanced protobuf group",
            Self::Depth => "protobuf groups nested deeper than 100",
        })
    }
}

/// An error of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The dialect has no such field or value.
    NotInDialect {
        /// The field or value, by its name in the schema.
        what: &'static str,
        /// The requested dialect.
        dialect: Dialect,
    },
    /// The caller's buffer is too small.
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        got: usize,
    },
    /// The length does not fit a length field of 32 bits.
    TooLarge {
        /// The structure that is too large.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The source of a payload did not give the announced number of bytes.
    SourceLength {
        /// Bytes announced.
        expected: u64,
        /// Bytes given.
        got: u64,
    },
    /// The alignment is not a power of two up to 4096.
    Alignment {
        /// The requested alignment, in bytes.
        got: usize,
    },
    /// A tensor's length does not match the KV-cache header.
    KvTensor {
        /// The layer.
        layer: usize,
        /// `"key"` or `"value"`.
        tensor: &'static str,
        /// Bytes by the header.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The number of layers does not match the KV-cache header.
    KvLayers {
        /// Layers in the header.
        expected: usize,
        /// Layers given.
        got: usize,
    },
    /// The length by the KV-cache header overflows.
    KvOverflow,
}

impl EncodeError {
    /// A stable name for programs to match on, such as `"not_in_dialect"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NotInDialect { .. } => "not_in_dialect",
            Self::BufferTooSmall { .. } => "buffer_too_small",
            Self::TooLarge { .. } => "too_large",
            Self::SourceLength { .. } => "source_length",
            Self::Alignment { .. } => "bad_alignment",
            Self::KvTensor { .. } => "kv_tensor",
            Self::KvLayers { .. } => "kv_layers",
            Self::KvOverflow => "kv_overflow",
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotInDialect { what, dialect } => write!(f, "dialect {dialect} has no {what}"),
            Self::BufferTooSmall { needed, got } => {
                write!(f, "the buffer needs {needed} bytes, got {got}")
            }
            Self::TooLarge { what, len } => {
                write!(f, "{what} of {len} bytes exceeds the frame limit of 4294967295")
            }
            Self::SourceLength { expected, got } => {
                write!(f, "expected a payload of {expected} bytes, got {got}")
            }
            Self::Alignment { got } => {
                write!(f, "expected a power of two up to 4096 as alignment, got {got}")
            }
            Self::KvTensor { layer, tensor, expected, got } => {
                write!(f, "the {tensor} tensor of layer {layer} needs {expected} bytes, got {got}")
            }
            Self::KvLayers { expected, got } => {
                write!(f, "expected {expected} layers by the KV-cache header, got {got}")
            }
            Self::KvOverflow => f.write_str("the length by the KV-cache header overflows"),
        }
    }
}

impl core::error::Error for EncodeError {}
