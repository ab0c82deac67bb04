//! TLS as the client speaks it: 1.2 or newer, HTTP/2 preferred, certificates of the system or of the caller's own.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::Verifier;

use super::ClientError;

/// Whom the client trusts, and how it shows who it is.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// Whose word is taken for a server's name.
    pub roots: Roots,
    /// What the client shows a server that asks for a certificate.
    pub identity: Option<TlsIdentity>,
    /// Whether TLS 1.2 is refused; `false` unless said otherwise. 1.3 is preferred in any case.
    pub only_1_3: bool,
}

/// The authorities that a server's certificate must come from: those that the operating system trusts, unless others are
/// named.
#[derive(Clone, Default)]
pub struct Roots(
    /// `None` for the system's.
    Option<Vec<CertificateDer<'static>>>,
);

impl Roots {
    /// Only the authorities in this PEM text.
    ///
    /// # Errors
    /// [`ClientError::Tls`] where it holds none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ClientError> {
        certificates(pem, "the authorities").map(|certificates| Self(Some(certificates)))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Roots(the system's)"),
            Some(certificates) => write!(f, "Roots({})", certificates.len()),
        }
    }
}

/// A certificate of this agent's own, with its key; its `Debug` shows neither.
#[derive(Clone)]
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl TlsIdentity {
    /// From PEM text: the certificate, followed by those between it and its authority, and the private key.
    ///
    /// # Errors
    /// [`ClientError::Tls`] where one of them is missing.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, ClientError> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| ClientError::Tls { reason: "the client's key is no PEM private key".to_owned() })?;
        Ok(Self { chain: certificates(chain, "the client's certificate")?, key: Arc::new(key) })
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity(..)")
    }
}

/// The configuration that these options are.
pub(super) fn config(options: &TlsOptions) -> Result<ClientConfig, ClientError> {
    // Named here, so that another library's choice for the whole process is not ours and ours not theirs.
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

/// A configuration for connections that are never TLS: nobody is trusted, no certificate is read.
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
    fn what_is_no_certificate_is_refused_without_being_shown() {
        let error = Roots::from_pem(b"s3cret").unwrap_err();
        assert_eq!(error.to_string(), "TLS: the authorities: no PEM certificates");
        let error = TlsIdentity::from_pem(b"", b"s3cret").unwrap_err();
        assert_eq!(error.to_string(), "TLS: the client's key is no PEM private key");
    }
}
