//! The caller of a request, for limits that are shared among callers.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// The caller of a request, for limits that are shared among callers: the principal of the token, or without a valid token the network
/// address. The agent id is not used, because the client chooses it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Caller {
    /// The holder of a token.
    Principal(String),
    /// A client without a valid token. `None` behind a server other than [`serve`](super::serve).
    Address(Option<IpAddr>),
    /// The server itself.
    Server,
}

impl Caller {
    /// The caller without a token at this address. An IPv6 network of 64 bits is one caller, because a host may use all of its
    /// addresses (RFC 4291, 2.5.4).
    #[must_use]
    pub fn at(address: Option<IpAddr>) -> Self {
        Self::Address(address.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address @ IpAddr::V4(_) => address,
        }))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(name) => write!(f, "principal {name}"),
            Self::Address(Some(address)) => write!(f, "address {address}"),
            Self::Address(None) => write!(f, "unknown address"),
            Self::Server => write!(f, "server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_caller_and_each_ipv4_address_is_another() {
        let at = |address: &str| Caller::at(Some(address.parse().unwrap()));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }
}
