//! The error of reading a message of another protocol.

use avp_core::DecodeError;

/// Why a message is invalid. Contains no data of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarrierError {
    /// A field is missing, has another type, or has an invalid value.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// The expected value.
        expected: &'static str,
        /// The actual value.
        got: &'static str,
    },
    /// A field exceeds a limit.
    #[error("{field}: {got} exceeds the limit of {limit}")]
    TooLarge {
        /// The field's name.
        field: &'static str,
        /// The limit, in bytes; for lists, in entries.
        limit: u64,
        /// The actual size, in the same unit.
        got: u64,
    },
    /// A string is not base64.
    #[error("{field}: invalid base64 at character {offset}")]
    Base64 {
        /// The field's name.
        field: &'static str,
        /// Offset of the first invalid character.
        offset: usize,
    },
    /// Bytes are not a valid frame, or exceed its limits.
    #[error("{field}: {error}")]
    Frame {
        /// The name of the field with the bytes.
        field: &'static str,
        /// The error of decoding them.
        #[source]
        error: DecodeError,
    },
    /// A `multipart/related` body is malformed.
    #[error("multipart body, byte {offset}: expected {expected}, got {got}")]
    Multipart {
        /// The expected part of the syntax.
        expected: &'static str,
        /// The actual one.
        got: &'static str,
        /// Offset in the body, in bytes.
        offset: usize,
    },
}

impl CarrierError {
    /// A stable name for programs to match on, such as `"bad_base64"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Field { .. } => "bad_field",
            Self::TooLarge { .. } => "too_large",
            Self::Base64 { .. } => "bad_base64",
            Self::Frame { error, .. } => error.kind(),
            Self::Multipart { .. } => "bad_multipart",
        }
    }
}
