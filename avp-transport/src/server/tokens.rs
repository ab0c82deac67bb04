//! Bearer tokens: who may ask.

use std::fmt;

use http::{HeaderMap, header::AUTHORIZATION};
use subtle::ConstantTimeEq as _;

/// The tokens that open a server; without any, everybody may ask.
///
/// ```
/// # use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
/// # use avp_transport::server::Tokens;
/// let tokens = Tokens::new(["s3cret"]);
/// let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"))]);
/// assert!(tokens.admit(&headers) && !tokens.admit(&HeaderMap::new()));
/// ```
#[derive(Clone, Default)]
pub struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    /// These tokens. Empty ones open nothing and are left out.
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

    /// Whether there are none, so that everybody may ask.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request with these headers may ask. How long the comparison takes tells the length of a token, and
    /// nothing of what is in it.
    #[must_use]
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        if self.is_open() {
            return true;
        }
        let Some(given) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else {
            return false;
        };
        // Every token is looked at, so that time does not tell which one it was.
        self.0.iter().fold(subtle::Choice::from(0), |found, token| found | token.ct_eq(given)).into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} of them)", self.0.len())
    }
}

/// The token of `Bearer TOKEN` (RFC 6750); the scheme's name has no case.
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
    fn only_a_whole_token_opens() {
        let tokens = Tokens::new(["alpha", "beta"]);
        assert!(admits(&tokens, "Bearer alpha") && admits(&tokens, "bearer  beta"));
        for value in ["", "Bearer", "Bearer ", "alpha", "Basic alpha", "Bearer alph", "Bearer alphabeta"] {
            assert!(!admits(&tokens, value), "{value:?}");
        }
    }

    #[test]
    fn a_token_file_of_blank_lines_is_no_open_door() {
        assert!(Tokens::new(["", "  "]).is_open(), "callers that asked for tokens must look at this");
        assert!(!admits(&Tokens::new(["", "x"]), "Bearer "));
    }

    #[test]
    fn tokens_do_not_show() {
        assert_eq!(format!("{:?}", Tokens::new(["s3cret"])), "Tokens(1 of them)");
    }
}
