//! Addresses, certificates and tokens of the server.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result, bail, ensure};
use avp_transport::server::{AllowedHosts, ListenOptions, ServerTls, Tokens, tls_config_of_files};

use super::AccessArgs;
use crate::{token_file, user_token::UserToken};

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
        let tls = tls(access)?;
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

/// The certificates of the options, if there are some.
fn tls(access: &AccessArgs) -> Result<Option<ServerTls>> {
    match (&access.tls_cert, &access.tls_key) {
        (Some(certificates), Some(key)) => {
            let config = tls_config_of_files(certificates, key, access.tls_client_ca.as_deref());
            let config = config.with_context(|| {
                format!("cannot use the certificate {} with its key", certificates.display())
            })?;
            Ok(Some(config))
        }
        (None, None) => {
            ensure!(access.tls_client_ca.is_none(), "--tls-client-ca needs --tls-cert and --tls-key");
            Ok(None)
        }
        _ => bail!("--tls-cert requires --tls-key, and --tls-key requires --tls-cert"),
    }
}

/// Reads tokens and certificates again, and returns the tokens. `current` gets the certificates; if anything cannot be read, it
/// stays as it is.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn reload(access: &AccessArgs, current: Option<&ServerTls>) -> Result<Tokens> {
    let (tokens, _) = tokens(access)?;
    if let (Some(current), Some(new)) = (current, tls(access)?) {
        current.replace(&new);
    }
    Ok(tokens)
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
        Some(path) => Ok((token_file::principals(path)?, None)),
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
