//! Why a signature is refused.

use core::fmt;

use crate::DecodeError;

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// The bytes are not a frame.
    Frame(DecodeError),
    /// The frame has no signature.
    Unsigned,
    /// An entry of the signature is missing, repeated or not written as it should be.
    Malformed {
        /// The entry, such as `signed_by`.
        entry: &'static str,
    },
    /// The signer is not among the trusted ones.
    UntrustedSigner,
    /// The signature is for another audience.
    OtherAudience,
    /// The clock of the signer is ahead.
    NotYetValid {
        /// When it was signed, in seconds since 1970.
        signed_at: u64,
        /// The receiver's time.
        now: u64,
    },
    /// Its time is over.
    Expired {
        /// When it was, in seconds since 1970.
        signed_until: u64,
        /// The receiver's time.
        now: u64,
    },
    /// It is valid for longer than the receiver allows.
    TooLong {
        /// The most seconds that the receiver allows.
        limit: u64,
    },
    /// The frame is not what was signed.
    Wrong,
}

impl SignatureError {
    /// A stable name for programs to match on, such as `"untrusted_signer"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.kind(),
            Self::Unsigned => "not_signed",
            Self::Malformed { .. } | Self::Wrong => "bad_signature",
            Self::UntrustedSigner => "untrusted_signer",
            Self::OtherAudience => "other_audience",
            Self::NotYetValid { .. } => "signature_not_yet_valid",
            Self::Expired { .. } => "signature_expired",
            Self::TooLong { .. } => "signature_too_long",
        }
    }
}

impl From<DecodeError> for SignatureError {
    fn from(error: DecodeError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Unsigned => f.write_str("the frame has no signature"),
            Self::Malformed { entry } => {
                write!(f, "the entry `{entry}` of the signature is missing, repeated or not well written")
            }
            Self::UntrustedSigner => f.write_str("the frame is signed with a key that is not trusted here"),
            Self::OtherAudience => f.write_str("the frame is signed for another audience"),
            Self::NotYetValid { signed_at, now } => write!(
                f,
                "the frame was signed at {signed_at} and it is {now} here, in seconds since 1970: one of the two clocks is wrong"
            ),
            Self::Expired { signed_until, now } => {
                write!(f, "the signature was valid until {signed_until} and it is {now} here, in seconds since 1970; sign again")
            }
            Self::TooLong { limit } => {
                write!(f, "the signature is valid for longer than the {limit} s that are allowed here")
            }
            Self::Wrong => f.write_str("the frame is not the one that was signed: it was changed, or the signature is of another one"),
        }
    }
}

impl core::error::Error for SignatureError {}

/// The bytes or the text are not a key. The error does not show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an Ed25519 key of 64 hexadecimal digits in lower case")
    }
}

impl core::error::Error for InvalidKey {}
