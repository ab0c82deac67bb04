//! Reading and verifying signatures.

use sha2::{Digest as _, Sha256};

use super::{
    CLOCK_SKEW, PublicKey, SIGNATURE_LEN, SignatureError,
    entries::{
        MetadataField, NAMES, SIGNATURE, SIGNED_AT, SIGNED_BY, SIGNED_FOR, SIGNED_NONCE, SIGNED_UNTIL,
        metadata_of, next_field,
    },
    message,
};
use crate::{Frame, FrameHead, hex};

/// What a receiver demands of a signature.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The keys of the signers whose frames are accepted.
    pub trusted: &'a [PublicKey],
    /// The audience that the signature must name. Default: `None`, and it may name any.
    pub audience: Option<&'a str>,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// The most seconds between signing and expiry. Default: `None`, and there is no limit.
    pub max_lifetime: Option<u64>,
}

impl<'a> Policy<'a> {
    /// Accepts what these keys have signed, if it is valid at the time `now`, in seconds since 1970.
    #[must_use]
    pub const fn new(trusted: &'a [PublicKey], now: u64) -> Self {
        Self { trusted, audience: None, now, max_lifetime: None }
    }
}

/// What a signature states. Nothing of it is true before [`SignatureVerifier::finish`] has found it to agree with the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The key of the signer.
    pub signer: PublicKey,
    /// The name of the receiver; `""` where anybody may be it.
    pub audience: &'a str,
    /// When it was signed, in seconds since 1970.
    pub signed_at: u64,
    /// When it expires, in seconds since 1970.
    pub signed_until: u64,
    /// A number that no other frame of this signer has.
    pub nonce: [u8; 16],
    signature: [u8; SIGNATURE_LEN],
    /// The SHA-256 of the head without the digits of the signature.
    head_digest: [u8; 32],
}

impl<'a> Signature<'a> {
    /// Reads the signature in the head of a frame. Bytes behind the head are not looked at.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Frame`], [`SignatureError::Unsigned`] or [`SignatureError::Malformed`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let decoded = FrameHead::decode(bytes)?;
        // The head was found in these bytes.
        let head = bytes.get(..decoded.body_offset()).unwrap_or(bytes);
        let mut values = [None; NAMES.len()];
        let mut signature_range = 0..0;
        let mut metadata = metadata_of(head);
        while let Some(MetadataField { entry, .. }) = next_field(&mut metadata, head.len())? {
            let Some(entry) = entry else { continue };
            if let Some(entry) = entry.ambiguous {
                return Err(SignatureError::Malformed { entry });
            }
            let Some(place) = NAMES.iter().position(|name| *name == entry.name) else { continue };
            if values[place].replace(entry.value).is_some() {
                return Err(SignatureError::Malformed { entry: NAMES[place] });
            }
            if entry.name == SIGNATURE {
                signature_range = entry.value_range;
            }
        }
        if values.iter().all(Option::is_none) {
            return Err(SignatureError::Unsigned);
        }
        let [by, audience, at, until, nonce, signature] = values;
        let malformed = |entry| move || SignatureError::Malformed { entry };
        let signature = signature.and_then(hex::decode).ok_or_else(malformed(SIGNATURE))?;
        if audience == Some("") {
            return Err(malformed(SIGNED_FOR)());
        }
        let mut digest = Sha256::new();
        digest.update(&head[..signature_range.start]);
        digest.update([b'0'; 2 * SIGNATURE_LEN]);
        digest.update(&head[signature_range.end..]);
        Ok(Self {
            signer: by.and_then(|key| key.parse().ok()).ok_or_else(malformed(SIGNED_BY))?,
            audience: audience.unwrap_or_default(),
            signed_at: at.and_then(seconds).ok_or_else(malformed(SIGNED_AT))?,
            signed_until: until.and_then(seconds).ok_or_else(malformed(SIGNED_UNTIL))?,
            nonce: nonce.and_then(hex::decode).ok_or_else(malformed(SIGNED_NONCE))?,
            signature,
            head_digest: digest.finalize().into(),
        })
    }

    /// Checks what the signature states: signer, audience, time. So a receiver can refuse a frame before its body arrives.
    ///
    /// # Errors
    ///
    /// [`SignatureError::UntrustedSigner`], [`SignatureError::OtherAudience`], [`SignatureError::NotYetValid`],
    /// [`SignatureError::Expired`] or [`SignatureError::TooLong`].
    pub fn check(&self, policy: &Policy<'_>) -> Result<(), SignatureError> {
        let Self { signed_at, signed_until, .. } = *self;
        let Policy { now, .. } = *policy;
        if !policy.trusted.contains(&self.signer) {
            return Err(SignatureError::UntrustedSigner);
        }
        if policy.audience.is_some_and(|audience| audience != self.audience) {
            return Err(SignatureError::OtherAudience);
        }
        if signed_at > now.saturating_add(CLOCK_SKEW) {
            return Err(SignatureError::NotYetValid { signed_at, now });
        }
        if signed_until <= now {
            return Err(SignatureError::Expired { signed_until, now });
        }
        match policy.max_lifetime {
            Some(limit) if signed_until.saturating_sub(signed_at) > limit => {
                Err(SignatureError::TooLong { limit })
            }
            _ => Ok(()),
        }
    }

    /// Verifies the signature over the body that is now read.
    #[must_use]
    pub fn verifier(&self) -> SignatureVerifier {
        SignatureVerifier {
            signer: self.signer,
            signature: self.signature,
            head_digest: self.head_digest,
            body: Sha256::new(),
        }
    }
}

/// Compares a signature with a body that arrives in pieces.
#[derive(Debug, Clone)]
pub struct SignatureVerifier {
    signer: PublicKey,
    signature: [u8; SIGNATURE_LEN],
    head_digest: [u8; 32],
    body: Sha256,
}

impl SignatureVerifier {
    /// Takes the next bytes of the body, as they are on the wire.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.body.update(bytes);
    }

    /// Verifies the signature over the head and all bytes that were fed.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Wrong`].
    pub fn finish(self) -> Result<(), SignatureError> {
        let message = message(&self.head_digest, &self.body.finalize().into());
        if self.signer.agrees(&message, &self.signature) { Ok(()) } else { Err(SignatureError::Wrong) }
    }
}

/// Verifies a whole frame, and returns what its signature states.
///
/// # Errors
///
/// [`SignatureError`].
pub fn verify_frame<'a>(frame: &'a [u8], policy: &Policy<'_>) -> Result<Signature<'a>, SignatureError> {
    let body = Frame::decode(frame).map(|frame| frame.body())?;
    let signature = Signature::read(frame)?;
    signature.check(policy)?;
    let mut verifier = signature.verifier();
    verifier.feed(body);
    verifier.finish()?;
    Ok(signature)
}

/// A number of seconds in at most 15 decimal digits, which every language counts exactly, without zeros in front.
fn seconds(text: &str) -> Option<u64> {
    let is_plain = text.len() <= 15
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}
