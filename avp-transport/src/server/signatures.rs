//! Whose frames a server accepts, and that it accepts each signature once.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use avp_core::{
    OwnedHead,
    sign::{CLOCK_SKEW, Policy, PublicKey, Signature, SignatureError, SignatureVerifier},
};
use http::StatusCode;

use super::{Caller, ErrorResponse, FairShares, Share};
use crate::store::{Digest, sha256};

/// The longest time between signing and expiry, in seconds: for so long a signature is remembered.
pub const MAX_SIGNATURE_LIFETIME: u64 = 3600;

/// The number of signatures that are remembered, in [`FairShares`] of the signers.
pub(super) const MAX_SIGNATURES: u64 = 20_000;

/// The signers whose frames a server accepts. Each signature is accepted once.
///
/// ```
/// use avp_core::sign::SigningKey;
/// use avp_transport::{server::{ContextHandler, RequiredSigners}, store::ContextStore};
///
/// let alice = SigningKey::from_seed(&[7; 32]).public_key(); // from her
/// let handler = ContextHandler::new("relay", ContextStore::in_memory(Default::default()))
///     .required_signers(RequiredSigners::new(vec![alice], "relay.example"));
/// # let _ = handler;
/// ```
///
/// A signature must name this server as its audience, so that who receives a frame elsewhere cannot pass it on to this server. It is
/// remembered until it expires, at most [`MAX_SIGNATURE_LIFETIME`] after it was made. One that is not newer than this value is refused:
/// an earlier process may have accepted it.
pub struct RequiredSigners {
    trusted: RwLock<Vec<PublicKey>>,
    audience: String,
    /// Seconds since 1970.
    started: u64,
    accepted: Arc<Accepted>,
}

impl RequiredSigners {
    /// Accepts frames that one of these keys has signed for `audience`, the name of this server.
    #[must_use]
    pub fn new(trusted: Vec<PublicKey>, audience: &str) -> Self {
        let accepted = Accepted { places: FairShares::new(MAX_SIGNATURES), table: Mutex::default() };
        let trusted = RwLock::new(trusted);
        Self { trusted, audience: audience.to_owned(), started: now(), accepted: Arc::new(accepted) }
    }

    /// Accepts these keys from now on, in place of the others. Signatures that were accepted stay so.
    pub(super) fn replace(&self, trusted: Vec<PublicKey>) {
        *self.trusted.write().unwrap_or_else(PoisonError::into_inner) = trusted;
    }

    /// Checks what the head of a frame shows of its signature, which is to be verified with the body.
    ///
    /// # Errors
    /// Those in the table of `docs/transport.md`.
    pub(super) fn check(&self, head: &OwnedHead) -> Result<(SignatureVerifier, Claim), ErrorResponse> {
        self.check_at(head, now())
    }

    fn check_at(&self, head: &OwnedHead, now: u64) -> Result<(SignatureVerifier, Claim), ErrorResponse> {
        let trusted = self.trusted.read().unwrap_or_else(PoisonError::into_inner);
        let policy = Policy {
            audience: Some(&self.audience),
            max_lifetime: Some(MAX_SIGNATURE_LIFETIME),
            ..Policy::new(&trusted, now)
        };
        let signature = Signature::read(head.bytes())?;
        signature.check(&policy)?;
        if signature.signed_at <= self.started {
            let message = "this server has started since the frame was signed, and does not know whether it was accepted before; sign again";
            return Err(ErrorResponse::new(StatusCode::FORBIDDEN, "signature_expired", message));
        }
        self.accepted.remove_expired(now);
        Ok((signature.verifier(), self.accepted.claim(&signature)?))
    }

    /// Forgets signatures that have expired.
    pub(super) fn remove_expired(&self) {
        self.accepted.remove_expired(now());
    }
}

impl fmt::Debug for RequiredSigners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequiredSigners")
            .field("trusted", &self.trusted)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// The signatures that were accepted.
struct Accepted {
    places: FairShares,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    known: HashSet<Digest>,
    /// Their places, by the time of expiry.
    by_expiry: BTreeMap<(u64, Digest), Share>,
}

impl Accepted {
    /// What a head states, which is nobody's before the signature is verified: it only takes a place.
    fn claim(self: &Arc<Self>, signature: &Signature<'_>) -> Result<Claim, ErrorResponse> {
        let signer = signature.signer.to_bytes();
        let id = sha256(&[&signer[..], &signature.nonce].concat());
        if self.table().known.contains(&id) {
            return Err(replayed());
        }
        let caller = Caller::Principal(signature.signer.to_string());
        let place = self.places.take(&caller, 1).map_err(|_| {
            ErrorResponse::busy(
                "too_many_signatures",
                "this signer has reached its part of the signatures that are remembered; those that expire sooner leave room sooner",
            )
        })?;
        Ok(Claim { accepted: self.clone(), id, until: signature.signed_until, place })
    }

    /// Forgets signatures that have expired, also by a clock that was set back a little.
    fn remove_expired(&self, now: u64) {
        let mut table = self.table();
        while let Some(first) = table.by_expiry.first_entry()
            && first.key().0.saturating_add(CLOCK_SKEW) <= now
        {
            let ((_, id), _place) = first.remove_entry();
            table.known.remove(&id);
        }
    }

    /// No operation panics halfway through a change, so the table behind a poisoned lock is consistent.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signature of a frame that is being received.
pub(super) struct Claim {
    accepted: Arc<Accepted>,
    id: Digest,
    until: u64,
    place: Share,
}

impl Claim {
    /// Remembers the signature, which was verified, until it expires.
    ///
    /// # Errors
    /// 409, `replayed`, where it was accepted meanwhile.
    pub(super) fn accept(self) -> Result<(), ErrorResponse> {
        let mut table = self.accepted.table();
        if !table.known.insert(self.id) {
            return Err(replayed());
        }
        table.by_expiry.insert((self.until, self.id), self.place);
        Ok(())
    }
}

fn replayed() -> ErrorResponse {
    let message = "a frame with this signature was accepted before: sign again to send it again";
    ErrorResponse::new(StatusCode::CONFLICT, "replayed", message)
}

impl From<SignatureError> for ErrorResponse {
    fn from(error: SignatureError) -> Self {
        let status = match error {
            SignatureError::Frame(error) => return error.into(),
            SignatureError::Malformed { .. } | SignatureError::Wrong => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.kind(), error.to_string())
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use avp_core::{
        FrameEncoder, Metadata,
        sign::{SignOptions, SigningKey, sign_frame},
    };

    use super::*;

    fn head(signed_at: u64, number: u64) -> OwnedHead {
        let frame = FrameEncoder::new(Metadata::default()).encode(b"tensor").unwrap();
        let nonce = u128::from(number).to_be_bytes();
        let options = SignOptions { audience: "here", signed_at, valid_for: 60, nonce };
        let signed = sign_frame(&frame, &SigningKey::from_seed(&[7; 32]), &options).unwrap();
        OwnedHead::decode(&signed).unwrap()
    }

    #[test]
    fn a_signature_is_accepted_once_until_it_expires_and_again_after_a_failure() {
        let signers = RequiredSigners::new(vec![SigningKey::from_seed(&[7; 32]).public_key()], "here");
        let start = signers.started + 1;
        let code = |head: &OwnedHead, now| match signers.check_at(head, now) {
            Ok((_, claim)) => Ok(claim),
            Err(error) => Err(error.code().to_owned()),
        };
        let first = head(start, 1);
        drop(code(&first, start).unwrap());
        let (claim, faster) = (code(&first, start).unwrap(), code(&first, start).unwrap());
        assert_eq!(faster.accept(), Ok(()));
        assert_eq!(claim.accept().unwrap_err().code(), "replayed");
        assert_eq!(code(&first, start + 59).err().unwrap(), "replayed");
        assert_eq!(code(&first, start + 60).err().unwrap(), "signature_expired");
        assert_eq!(signers.accepted.table().known.len(), 1, "the clock may be set back");
        assert!(code(&head(start + 120, 2), start + 120).is_ok());
        assert_eq!((signers.accepted.table().known.len(), signers.accepted.places.taken()), (0, 0));
        assert_eq!(
            code(&head(start - 1, 3), start).err().unwrap(),
            "signature_expired",
            "of an earlier process"
        );
    }

    #[test]
    fn replaced_signers_count_from_the_next_frame_on_and_accepted_signatures_stay_so() {
        let keys = [7, 8].map(|seed| SigningKey::from_seed(&[seed; 32]).public_key());
        let signers = RequiredSigners::new(vec![keys[0]], "here");
        let start = signers.started + 1;
        let head = head(start, 1);
        signers.check_at(&head, start).ok().unwrap().1.accept().unwrap();
        signers.replace(vec![keys[1]]);
        assert_eq!(signers.check_at(&head, start).err().unwrap().code(), "untrusted_signer");
        signers.replace(keys.to_vec());
        assert_eq!(signers.check_at(&head, start).err().unwrap().code(), "replayed");
    }

    #[test]
    fn a_signer_cannot_take_all_places() {
        let signers = RequiredSigners::new(vec![SigningKey::from_seed(&[7; 32]).public_key()], "here");
        let head = head(signers.started, 0);
        let mut signature = Signature::read(head.bytes()).unwrap();
        let most = signers.accepted.places.most();
        for number in 0..most {
            signature.nonce = u128::from(number).to_be_bytes();
            signers.accepted.claim(&signature).unwrap().accept().unwrap();
        }
        signature.nonce = [255; 16];
        let refused = signers.accepted.claim(&signature);
        assert_eq!(refused.err().unwrap().code(), "too_many_signatures");
        assert!(most < MAX_SIGNATURES);
    }
}
