//! Certificates: what a server shows, and whom it asks to show one.

use std::{fmt, io, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The PEM text does not hold what it should.
    #[error("no {what} could be read: {fault}")]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// What was found.
        fault: rustls::pki_types::pem::Error,
    },
    /// Certificate and key, or the certificates of clients' authorities, are of no use.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

/// How a server speaks TLS, and whether it serves only who shows a certificate.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    asks_clients: bool,
}

impl ServerTls {
    /// TLS by a configuration that was made elsewhere. `asks_clients` says whether it demands certificates of clients, which
    /// it does not show by itself: then nothing is taken without TLS.
    #[must_use]
    pub const fn new(config: Arc<ServerConfig>, asks_clients: bool) -> Self {
        Self { config, asks_clients }
    }

    /// What `rustls` is told.
    #[must_use]
    pub const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether only clients with a certificate are served.
    #[must_use]
    pub const fn asks_clients(&self) -> bool {
        self.asks_clients
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("asks_clients", &self.asks_clients).finish_non_exhaustive()
    }
}

/// The TLS of a server: TLS 1.3, or 1.2 where the client has no better, with HTTP/2 and HTTP/1.1 inside.
///
/// `certificates` and `key` are PEM. With `client_authorities`, also PEM, only clients whose certificate one of them has
/// signed are served: HTTP without TLS, which shows none, is then refused from this machine too.
///
/// # Errors
/// [`TlsError`].
pub fn tls_config(
    certificates: &[u8],
    key: &[u8],
    client_authorities: Option<&[u8]>,
) -> Result<ServerTls, TlsError> {
    let pem = |what| move |fault| TlsError::Pem { what, fault };
    let unusable = |error: &dyn fmt::Display| TlsError::Unusable(error.to_string());
    let chain = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("private key"))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| unusable(&error))?;
    let builder = match client_authorities {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities) {
                let authority = authority.map_err(pem("certificate of clients' authority"))?;
                roots.add(authority).map_err(|error| unusable(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(&error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(ServerTls { config: Arc::new(config), asks_clients: client_authorities.is_some() })
}

/// As [`tls_config`], from files.
///
/// # Errors
/// [`TlsError`] as an [`io::Error`], or why a file cannot be read.
pub fn tls_config_of_files(
    certificates: &std::path::Path,
    key: &std::path::Path,
    client_authorities: Option<&std::path::Path>,
) -> io::Result<ServerTls> {
    let authorities = client_authorities.map(std::fs::read).transpose()?;
    tls_config(&std::fs::read(certificates)?, &std::fs::read(key)?, authorities.as_deref())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
