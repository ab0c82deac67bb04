//! Principals: the named holders of tokens, and their scopes.

use std::{fmt, num::NonZeroU32, str::FromStr};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Handshakes, and frames to store.
    Send,
    /// Reading the principal's contexts.
    Fetch,
    /// Removing the principal's contexts.
    Delete,
    /// Text messages and the handler's own paths, such as chat completions.
    Complete,
    /// Reading the metrics.
    Metrics,
    /// All of these, with the contexts of every principal.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] =
        [Self::Send, Self::Fetch, Self::Delete, Self::Complete, Self::Metrics, Self::Admin];

    /// The name, such as `send`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Fetch => "fetch",
            Self::Delete => "delete",
            Self::Complete => "complete",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of [`Scope`]s, written as names between commas.
///
/// ```
/// use avp_transport::server::{Scope, Scopes};
///
/// let scopes: Scopes = "send,fetch".parse()?;
/// assert!(scopes.contains(Scope::Fetch) && !scopes.contains(Scope::Delete));
/// # Ok::<(), avp_transport::server::UnknownScope>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope but [`Scope::Admin`].
    pub const OWN: Self = Self(Scope::Admin.bit() - 1);

    /// Whether requests of this kind are allowed.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

impl Default for Scopes {
    fn default() -> Self {
        Self::OWN
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split(',').try_fold(Self(0), |scopes, name| {
            let scope = Scope::ALL.into_iter().find(|scope| scope.as_str() == name).ok_or(UnknownScope)?;
            Ok(Self(scopes.0 | scope.bit()))
        })
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0);
        f.debug_set().entries(held.map(Scope::as_str)).finish()
    }
}

/// A name without a [`Scope`]. The error does not show it, because it may be a misplaced token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected scopes between commas, out of send, fetch, delete, complete, metrics, admin")]
pub struct UnknownScope;

/// The named holder of one or more tokens.
///
/// ```
/// use avp_transport::server::{Principal, PrincipalLimits};
///
/// let limits = PrincipalLimits { quota: Some(1 << 30), ..Default::default() };
/// let alice = Principal { name: "alice".into(), limits, ..Default::default() };
/// # let _ = alice;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The name, in logs and as owner of contexts.
    pub name: String,
    /// What it may do. Default: [`Scopes::OWN`].
    pub scopes: Scopes,
    /// How much it may use. Default: what the limits of the server leave.
    pub limits: PrincipalLimits,
}

/// Limits of one principal, beside those of the server. Default: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrincipalLimits {
    /// The maximum number of bytes that its contexts together occupy: see [`Owner::quota`](crate::store::Owner::quota).
    pub quota: Option<usize>,
    /// The maximum number of requests per second, in place of [`Limits::requests_per_second`](super::Limits::requests_per_second).
    pub requests_per_second: Option<NonZeroU32>,
    /// The maximum number of requests at a time to a model that the handler runs: see [`FairShares::take_at_most`].
    ///
    /// [`FairShares::take_at_most`]: super::FairShares::take_at_most
    pub places: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_those_that_are_named_and_admin_is_all_of_them() {
        let scopes = |text: &str| text.parse::<Scopes>();
        assert_eq!(format!("{:?}", scopes("delete,send").unwrap()), r#"{"send", "delete"}"#);
        for scope in Scope::ALL {
            assert!(scopes("admin").unwrap().contains(scope));
            assert_eq!(Scopes::OWN.contains(scope), scope != Scope::Admin);
            assert_eq!(scopes("metrics").unwrap().contains(scope), scope == Scope::Metrics);
            assert!(scopes(scope.as_str()).unwrap().contains(scope));
        }
        for wrong in ["", "send,", "all", "Send", "send fetch"] {
            assert_eq!(scopes(wrong), Err(UnknownScope), "{wrong}");
        }
    }
}
