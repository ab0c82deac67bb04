//! Signed frames: signatures that name their signer, receiver and time.
//!
//! ```
//! use avp_core::{FrameEncoder, Metadata, sign::{Policy, SignOptions, SigningKey, sign_frame, verify_frame}};
//!
//! let key = SigningKey::from_seed(&[7; 32]); // of your own, from a random generator
//! let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor")?;
//! let options = SignOptions { audience: "reader", signed_at: 1_764_320_000, valid_for: 600, nonce: [1; 16] };
//! let signed = sign_frame(&frame, &key, &options)?;
//! let trusted = [key.public_key()];
//! let policy = Policy { audience: Some("reader"), ..Policy::new(&trusted, 1_764_320_060) };
//! assert_eq!(verify_frame(&signed, &policy)?.signer, key.public_key());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A signature is Ed25519 (RFC 8032) over [`DOMAIN`], the SHA-256 of the head and the SHA-256 of the body, both as they are on the wire. It and
//! what it states are entries of [`Metadata::extra`](crate::Metadata::extra), so receivers that know nothing of signatures read the frame
//! as before:
//!
//! | entry | value |
//! |---|---|
//! | `signed_by` | the public key, 64 hexadecimal digits |
//! | `signed_for` | the name of the receiver; left out where anybody may be it |
//! | `signed_at`, `signed_until` | seconds since 1970, in at most 15 decimal digits |
//! | `signed_nonce` | 32 random hexadecimal digits, by which a receiver recognises a repetition |
//! | `signature` | 128 hexadecimal digits; in the head that is signed they are `0` |
//!
//! Hexadecimal digits are lower case. No entry is repeated. A signature says who made a frame; the content can be harmful all the same.
//!
//! Only available when `sign` is enabled.

mod entries;
mod error;
mod key;
mod read;
#[cfg(feature = "alloc")]
mod write;

pub use {
    error::{InvalidKey, SignatureError},
    key::{PublicKey, SigningKey},
    read::{Policy, Signature, SignatureVerifier, verify_frame},
};

#[cfg(feature = "alloc")]
pub use write::{SignError, SignOptions, sign_frame, sign_head};

/// The first bytes of what is signed, which no other protocol's signatures have.
pub const DOMAIN: &[u8] = b"AVP signed frame v1\0";

/// How far the clocks of signer and receiver may differ, in seconds.
pub const CLOCK_SKEW: u64 = 60;

const SIGNATURE_LEN: usize = 64;

/// What Ed25519 signs: [`DOMAIN`] and two SHA-256.
const MESSAGE_LEN: usize = DOMAIN.len() + 64;

fn message(head: &[u8; 32], body: &[u8; 32]) -> [u8; MESSAGE_LEN] {
    let mut message = [0; MESSAGE_LEN];
    let (domain, digests) = message.split_at_mut(DOMAIN.len());
    domain.copy_from_slice(DOMAIN);
    digests[..32].copy_from_slice(head);
    digests[32..].copy_from_slice(body);
    message
}
