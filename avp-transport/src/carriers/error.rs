//! Why a message of another protocol gives no frame and no reference.

use avp_core::DecodeError;

/// Why something in a message is not what it should be. Holds no data of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarrierError {
    /// A field is missing, of another type, or says something that it must not.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        got: &'static str,
    },
    /// A field holds more than the receiver takes.
    #[error("{field}: {got} is more than the limit of {limit}")]
    TooLarge {
        /// The field's name.
        field: &'static str,
        /// The limit, in bytes; for lists, in entries.
        limit: u64,
        /// What there is, likewise.
        got: u64,
    },
    /// A text is not base64.
    #[error("{field}: expected base64, got something else at character {offset}")]
    Base64 {
        /// The field's name.
        field: &'static str,
        /// Where the first wrong character is.
        offset: usize,
    },
    /// Bytes are not a frame, or not one to take.
    #[error("{field}: {error}")]
    Frame {
        /// The name of the field that held the bytes.
        field: &'static str,
        /// What is wrong with them.
        #[source]
        error: DecodeError,
    },
    /// A `multipart/related` body is not put together as it should be.
    #[error("multipart body, byte {offset}: expected {expected}, got {got}")]
    Multipart {
        /// What should be there.
        expected: &'static str,
        /// What is there.
        got: &'static str,
        /// Where, in bytes from the start of the body.
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
