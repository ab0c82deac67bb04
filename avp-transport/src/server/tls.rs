//! The TLS configuration of a server.

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

/// Why a TLS configuration is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The PEM text lacks an item, or it is damaged.
    #[error("cannot read the {what}: {fault}")]
    Pem {
        /// The expected item.
        what: &'static str,
        /// The error of reading it.
        fault: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not match, or a certificate is invalid.
    #[error("invalid certificates: {0}")]
    Invalid(String),
}

/// The TLS configuration of a server. Clones are one configuration: when it is [replaced](Self::replace), all have the new one.
#[derive(Clone)]
pub struct ServerTls(Arc<RwLock<Current>>);

#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    requires_client_cert: bool,
}

impl ServerTls {
    /// A server with this `rustls` configuration. `requires_client_cert` must say whether it demands client certificates: then
    /// plain HTTP is refused.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>, requires_client_cert: bool) -> Self {
        Self(Arc::new(RwLock::new(Current { config, requires_client_cert })))
    }

    /// The configuration of `rustls`.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current().config
    }

    /// Whether clients must present a certificate.
    #[must_use]
    pub fn requires_client_cert(&self) -> bool {
        self.current().requires_client_cert
    }

    /// Uses the configuration of `new` from the next connection on. Open connections go on.
    pub fn replace(&self, new: &Self) {
        let new = new.current();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn current(&self) -> Current {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("requires_client_cert", &self.requires_client_cert())
            .finish_non_exhaustive()
    }
}

/// TLS 1.3 and 1.2, with HTTP/2 and HTTP/1.1 by ALPN.
///
/// `certificates` and `key` are PEM. With `client_authorities`, also PEM, clients must present a certificate that one of
/// them has signed; plain HTTP is then refused, from this machine too.
///
/// # Errors
/// [`TlsError`].
pub fn tls_config(
    certificates: &[u8],
    key: &[u8],
    client_authorities: Option<&[u8]>,
) -> Result<ServerTls, TlsError> {
    let pem = |what| move |fault| TlsError::Pem { what, fault };
    let invalid = |error: &dyn fmt::Display| TlsError::Invalid(error.to_string());
    let chain = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("private key"))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| invalid(&error))?;
    let builder = match client_authorities {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities) {
                let authority = authority.map_err(pem("certificate of a client authority"))?;
                roots.add(authority).map_err(|error| invalid(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| invalid(&error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| invalid(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(ServerTls::new(Arc::new(config), client_authorities.is_some()))
}

/// As [`tls_config`], from files.
///
/// # Errors
/// The error of reading a file, or [`TlsError`] as an [`io::Error`].
pub fn tls_config_of_files(
    certificates: &std::path::Path,
    key: &std::path::Path,
    client_authorities: Option<&std::path::Path>,
) -> io::Result<ServerTls> {
    let authorities = client_authorities.map(std::fs::read).transpose()?;
    tls_config(&std::fs::read(certificates)?, &std::fs::read(key)?, authorities.as_deref())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
