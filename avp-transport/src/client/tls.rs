//! TLS of the client: 1.2 or 1.3, HTTP/2 preferred, roots of the system or of the caller.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::Verifier;

use super::ClientError;

/// Options of TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// The trusted root certificates.
    pub roots: Roots,
    /// The client certificate.
    pub identity: Option<TlsIdentity>,
    /// Whether to refuse TLS 1.2. Default: `false`.
    pub only_1_3: bool,
}

/// The trusted root certificates. Default: those of the operating system.
#[derive(Clone, Default)]
pub struct Roots(
    /// `None` for the system's.
    Option<Vec<CertificateDer<'static>>>,
);

impl Roots {
    /// Only the certificates in this PEM text.
    ///
    /// # Errors
    /// [`ClientError::Tls`] where it contains none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ClientError> {
        certificates(pem, "the root certificates").map(|certificates| Self(Some(certificates)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Roots(system)"),
            Some(certificates) => write!(f, "Roots({})", certificates.len()),
        }
    }
}

/// A client certificate with its key. `Debug` prints neither.
#[derive(Clone)]
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl TlsIdentity {
    /// From PEM text: the certificate chain and the private key.
    ///
    /// # Errors
    /// [`ClientError::Tls`] where one of them is missing.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, ClientError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| ClientError::Tls {
            reason: "the client's key is not a PEM private key".to_owned(),
        })?;
        Ok(Self { chain: certificates(chain, "the client's certificate")?, key: Arc::new(key) })
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity(..)")
    }
}

/// The configuration of `rustls`.
pub(super) fn config(options: &TlsOptions) -> Result<ClientConfig, ClientError> {
    // Named here, so that it neither depends on nor changes the default of the process.
    let provider = Arc::new(ring::default_provider());
    let builder = builder(&provider, options.only_1_3)?;
    let builder = match &options.roots.0 {
        None => {
            let verifier = Verifier::new(provider).map_err(refused)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate.clone()).map_err(refused)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let mut config = match &options.identity {
        Some(TlsIdentity { chain, key }) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(refused)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A configuration for a client without TLS, which reads no certificates.
pub(super) fn unused() -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    Ok(builder(&provider, true)?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder(
    provider: &Arc<CryptoProvider>,
    only_1_3: bool,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, ClientError> {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let versions = if only_1_3 { &BOTH[..1] } else { BOTH };
    ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(refused)
}

fn certificates(pem: &[u8], whose: &str) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ClientError::Tls { reason: format!("{whose}: no PEM certificates") }),
    }
}

fn refused(error: rustls::Error) -> ClientError {
    ClientError::Tls { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_pem_is_refused_and_not_repeated() {
        let error = Roots::from_pem(b"s3cret").unwrap_err();
        assert_eq!(error.to_string(), "TLS: the root certificates: no PEM certificates");
        let error = TlsIdentity::from_pem(b"", b"s3cret").unwrap_err();
        assert_eq!(error.to_string(), "TLS: the client's key is not a PEM private key");
    }
}
