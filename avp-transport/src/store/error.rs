//! Why a frame was not stored.

use std::io;

use avp_core::DecodeError;

use crate::files::kind_of;

/// Why a frame was not stored. Nothing of it is kept then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The bytes are not a valid frame.
    #[error(transparent)]
    Frame(#[from] DecodeError),
    /// The frame is larger than the whole store, or than all that its owner may keep.
    #[error("frame of {needed} bytes exceeds the quota of {quota} bytes")]
    Quota {
        /// Length of the frame, in bytes.
        needed: u64,
        /// The quota, in bytes.
        quota: u64,
    },
    /// The file could not be written.
    #[error("the frame could not be written: {0}")]
    Io(io::ErrorKind),
}

impl StoreError {
    /// A stable name for programs to match on, such as `"quota"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.kind(),
            Self::Quota { .. } => "quota",
            Self::Io(_) => "storage",
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(kind_of(&error))
    }
}
