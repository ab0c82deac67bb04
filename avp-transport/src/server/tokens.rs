//! Bearer tokens.

use std::fmt;

use http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq as _;

/// The accepted bearer tokens. Without any, every request is accepted.
///
/// ```
/// use avp_transport::server::Tokens;
///
/// let tokens = Tokens::new(["s3cret"]);
/// let request = http::Request::get("/").header("authorization", "Bearer s3cret").body(())?;
/// assert!(tokens.admit(request.headers()));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    /// Accepts these tokens. Blank ones are ignored.
    pub fn new<S: AsRef<str>>(tokens: impl IntoIterator<Item = S>) -> Self {
        let mut kept = Vec::new();
        for token in tokens {
            let token = token.as_ref().trim().as_bytes();
            if !token.is_empty() {
                kept.push(token.into());
            }
        }
        Self(kept)
    }

    /// Whether there are no tokens, so that every request is accepted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request with these headers is accepted. Tokens are compared in constant time for their length.
    #[must_use]
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        if self.is_open() {
            return true;
        }
        let Some(given) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else {
            return false;
        };
        // Every token is compared, so that the time does not reveal which one matched.
        self.0.iter().fold(subtle::Choice::from(0), |found, token| found | token.ct_eq(given)).into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
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
        tokens.admit(&HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]))
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
    fn debug_output_does_not_contain_tokens() {
        assert_eq!(format!("{:?}", Tokens::new(["s3cret"])), "Tokens(1)");
    }
}
