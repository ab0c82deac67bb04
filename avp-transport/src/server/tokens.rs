//! Bearer tokens and their principals.

use std::{fmt, sync::Arc};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::Principal;

/// The accepted bearer tokens. Without any, every request is accepted, and has no principal.
///
/// ```
/// use avp_transport::server::{Principal, Tokens};
///
/// let alice = Principal { name: "alice".into(), scopes: "send,fetch".parse()?, ..Default::default() };
/// let tokens = Tokens::default().with("s3cret", alice);
/// let request = http::Request::get("/").header("authorization", "Bearer s3cret").body(())?;
/// assert_eq!(tokens.principal(request.headers()).unwrap().name, "alice");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Tokens(Vec<(Box<[u8]>, Arc<Principal>)>);

impl Tokens {
    /// Accepts these tokens, as [`and`](Self::and) does.
    pub fn new<S: AsRef<str>>(tokens: impl IntoIterator<Item = S>) -> Self {
        tokens.into_iter().fold(Self::default(), |tokens, token| tokens.and(token.as_ref()))
    }

    /// Accepts another token, of a principal of its own with [`Scopes::OWN`](super::Scopes::OWN), named after the token's SHA-256. A blank one is
    /// ignored.
    #[must_use]
    pub fn and(self, token: &str) -> Self {
        let digest = Sha256::digest(token.trim());
        let name = format!("token-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
        self.with(token, Principal { name, ..Default::default() })
    }

    /// Accepts another token, of this principal. A blank one is ignored.
    #[must_use]
    pub fn with(mut self, token: &str, principal: Principal) -> Self {
        let token = token.trim().as_bytes();
        if !token.is_empty() {
            self.0.push((token.into(), Arc::new(principal)));
        }
        self
    }

    /// Whether there are no tokens, so that every request is accepted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// The principal whose token is in these headers. Tokens are compared in constant time for their length.
    #[must_use]
    pub fn principal(&self, headers: &HeaderMap) -> Option<&Arc<Principal>> {
        let given = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()))?;
        // Every token is compared and no branch is taken, so that the time does not reveal which one matched.
        let mut found = self.0.len() as u64;
        for (index, (token, _)) in (0..).zip(&self.0) {
            found.conditional_assign(&index, token.ct_eq(given));
        }
        self.0.get(found as usize).map(|(_, principal)| principal)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, principal)| principal)).finish()
    }
}

/// The token of `Bearer TOKEN` (RFC 6750). The scheme is case-insensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn admits(tokens: &Tokens, value: &'static str) -> bool {
        tokens.principal(&HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])).is_some()
    }

    #[test]
    fn only_a_complete_token_is_accepted() {
        let tokens = Tokens::new(["alpha", "beta"]);
        assert!(admits(&tokens, "Bearer alpha") && admits(&tokens, "bearer  beta"));
        for value in ["", "Bearer", "Bearer ", "alpha", "Basic alpha", "Bearer alph", "Bearer alphabeta"] {
            assert!(!admits(&tokens, value), "{value:?}");
        }
    }

    #[test]
    fn blank_tokens_are_ignored() {
        assert!(Tokens::new(["", "  "]).is_open(), "callers that require tokens must check this");
        assert!(!admits(&Tokens::new(["", "x"]), "Bearer "));
    }

    #[test]
    fn tokens_without_a_name_are_of_different_principals_and_are_not_shown() {
        let tokens = Tokens::new(["s3cret", "other"]);
        let [(_, first), (_, second)] = &tokens.0[..] else { panic!() };
        assert_ne!(first.name, second.name);
        assert!(first.name.starts_with("token-") && first.name.len() == 14);
        assert!(!format!("{tokens:?}").contains("s3cret"));
    }
}
