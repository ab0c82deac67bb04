//! Addresses, certificates and tokens of the server.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use avp_transport::server::{AllowedHosts, ListenOptions, Principal, Scopes, Tokens, tls_config_of_files};

use super::AccessArgs;
use crate::user_token::UserToken;

/// The addresses of the server and the TLS settings of its connections.
pub(super) struct Endpoint {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) options: ListenOptions,
    /// Whether clients need a certificate.
    pub(super) requires_certificates: bool,
}

impl Endpoint {
    /// Resolves the addresses of `listen` and reads the certificates.
    ///
    /// # Errors
    /// Also if other machines can connect without TLS.
    pub(super) fn find(listen: &str, access: &AccessArgs) -> Result<Self> {
        let addresses: Vec<_> =
            listen.to_socket_addrs().with_context(|| format!("cannot listen on {listen:?}"))?.collect();
        let plain_from_anywhere = access.plain_from_anywhere;
        ensure!(
            access.tls_client_ca.is_none() || !plain_from_anywhere,
            "--tls-client-ca requires TLS and excludes --plain-from-anywhere"
        );
        let tls = match (&access.tls_cert, &access.tls_key) {
            (Some(certificates), Some(key)) => {
                let config = tls_config_of_files(certificates, key, access.tls_client_ca.as_deref());
                Some(config.with_context(|| {
                    format!("cannot use the certificate {} with its key", certificates.display())
                })?)
            }
            (None, None) => {
                ensure!(access.tls_client_ca.is_none(), "--tls-client-ca needs --tls-cert and --tls-key");
                None
            }
            _ => bail!("--tls-cert requires --tls-key, and --tls-key requires --tls-cert"),
        };
        if tls.is_none() && !plain_from_anywhere {
            let exposed = addresses.iter().find(|address| !is_local(address));
            ensure!(
                exposed.is_none(),
                "{listen} is reachable from other machines, and without TLS the network can read tokens and contexts; set \
                 --tls-cert and --tls-key, or --plain-from-anywhere on a trusted network"
            );
        }
        let requires_certificates = access.tls_client_ca.is_some();
        Ok(Self { addresses, options: ListenOptions { tls, plain_from_anywhere }, requires_certificates })
    }
}

pub(super) fn is_local(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The accepted tokens: those of a file, else the user's own, which is returned too. None with `--no-token`, and by default where clients
/// need certificates.
///
/// # Errors
/// When a file of tokens cannot be read or written.
pub(super) fn tokens(access: &AccessArgs) -> Result<(Tokens, Option<UserToken>)> {
    ensure!(access.token_file.is_none() || !access.no_token, "--no-token excludes --token-file");
    match &access.token_file {
        Some(path) => Ok((read_tokens(path)?, None)),
        None if access.no_token || access.tls_client_ca.is_some() => Ok((Tokens::default(), None)),
        None => {
            let own = UserToken::find_or_make()
                .context("cannot keep a token for clients of this server; set --token-file or --no-token")?;
            Ok((Tokens::new([&own.token]), Some(own)))
        }
    }
}

/// The names of the server: those of `--allowed-host`, and the one that it listens on.
///
/// # Errors
/// When one is not a host name.
pub(super) fn hosts(listen: &str, access: &AccessArgs) -> Result<AllowedHosts> {
    let own = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    // Every server has its addresses as names.
    let own = Some(own).filter(|own| own.trim_matches(['[', ']']).parse::<IpAddr>().is_err());
    AllowedHosts::new(access.allowed_host.iter().map(String::as_str).chain(own)).context("--allowed-host")
}

/// The tokens in a file.
///
/// # Errors
/// When the file cannot be read or contains no token: an empty file must not disable authentication.
fn read_tokens(path: &Path) -> Result<Tokens> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = token_lines(&text).map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
    Ok(lines.into_iter().fold(Tokens::default(), |tokens, line| match line.principal {
        Some(principal) => tokens.with(line.token, principal),
        None => tokens.and(line.token),
    }))
}

/// The tokens in the text of a token file.
///
/// # Errors
/// As [`token_lines`].
pub(crate) fn tokens_in(text: &str) -> Result<Vec<&str>, String> {
    Ok(token_lines(text)?.into_iter().map(|line| line.token).collect())
}

/// A line of a token file.
#[derive(Debug, PartialEq, Eq)]
struct TokenLine<'a> {
    token: &'a str,
    /// `None` for a token of a principal of its own.
    principal: Option<Principal>,
}

/// One token on each line, then optionally the name of its principal, then optionally the scopes; blank lines and those that start with
/// `#` are ignored.
///
/// # Errors
/// When a line is something else, or there is none. The line itself is a secret.
fn token_lines(text: &str) -> Result<Vec<TokenLine<'_>>, String> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parse = || {
            let mut parts = line.split_ascii_whitespace();
            let token = parts.next().filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))?;
            let name = parts.next();
            let scopes = parts.next().map(str::parse).transpose().ok()?.unwrap_or_default();
            // A name like `metrics` would be a token for everything, meant as one for the metrics.
            let is_name = |name: &str| {
                let is_plain =
                    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
                is_plain && name.parse::<Scopes>().is_err()
            };
            let is_sound = parts.next().is_none() && name.is_none_or(is_name);
            let principal = name.map(|name| Principal { name: name.to_owned(), scopes });
            is_sound.then_some(TokenLine { token, principal })
        };
        let line: TokenLine<'_> = parse().ok_or_else(|| {
            format!(
                "line {number} is not a token: expected printable ASCII without spaces, then perhaps a name of letters, digits, `.`, \
                 `_`, `-`, `@`, then perhaps scopes, such as `send,fetch`"
            )
        })?;
        if lines.iter().any(|other: &TokenLine<'_>| other.token == line.token) {
            return Err(format!("line {number} repeats a token"));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err("the file contains no token".to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_one_a_line_between_comments() {
        let error = tokens_in("# friends\n\n alpha\r\nbeta # no\n").unwrap_err();
        assert!(error.starts_with("line 4 is not a token"), "{error}");
        assert_eq!(tokens_in("# friends\n\n alpha\r\nbeta\n"), Ok(vec!["alpha", "beta"]));
    }

    #[test]
    fn a_name_and_scopes_follow_a_token() {
        let lines = token_lines("alpha\nbeta alice\ngamma ops@here  metrics,admin\n").unwrap();
        let principal = |name: &str, scopes: &str| {
            Some(Principal { name: name.to_owned(), scopes: scopes.parse().unwrap() })
        };
        let found: Vec<_> = lines.into_iter().map(|line| (line.token, line.principal)).collect();
        let own = Some(Principal { name: "alice".to_owned(), scopes: Scopes::OWN });
        assert_eq!(
            found,
            [("alpha", None), ("beta", own), ("gamma", principal("ops@here", "metrics,admin"))]
        );
        for wrong in [
            "a metrics",
            "a send,fetch",
            "a b\na c",
            "a b send fetch",
            "a b c",
            "a b,c",
            "a b send,",
            "a \u{e9}",
        ] {
            assert!(token_lines(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_without_a_token_opens_nothing() {
        for text in ["", "\n\n", "# alpha\n", "   \n#\n"] {
            assert!(tokens_in(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_line_is_not_shown() {
        assert!(!tokens_in("s3cret and words").unwrap_err().contains("s3cret"));
    }
}
