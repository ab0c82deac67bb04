//! The idempotency key of a frame, by which a repetition is recognised.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// An idempotency key and the head of the frame that came with it, by their SHA-256: a CRC-32 could be forged. Bodies are compared byte
/// by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transmission {
    /// That of the principal and its key.
    pub(crate) key: Digest,
    pub(crate) head: Digest,
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
