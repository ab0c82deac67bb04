//! The idempotency key and the digests by which a repeated frame is recognised.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// An idempotency key and the frame that came with it, all by their SHA-256: a CRC-32 could be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transmission {
    /// That of the principal and its key.
    pub(crate) key: Digest,
    pub(crate) head: Digest,
    /// That of the body on the wire.
    pub(crate) body: Digest,
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
