//! Certificates that will do, and those that will not.

use std::sync::Arc;

use avp_transport::{
    client::{Client, ClientError, ClientOptions, FrameBody, Roots, TlsIdentity, TlsOptions},
    wire::Reply,
};
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::server::{Server, frame, noise, options};

/// An authority of a test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> Roots {
        Roots::from_pem(self.0.pem().as_bytes()).unwrap()
    }

    /// Certificate and key for a name, in PEM.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn client_identity(&self) -> TlsIdentity {
        let (certificate, key) = self.issue("agent-a", ExtendedKeyUsagePurpose::ClientAuth);
        TlsIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// A server called `name`, which asks for certificates of `clients` where that is an authority.
    async fn server(
        &self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Self>,
    ) -> Server {
        serve(self.issue(name, ExtendedKeyUsagePurpose::ServerAuth), versions, clients).await
    }
}

/// A server with this certificate and key.
async fn serve(
    (certificate, key): (String, String),
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<&Authority>,
) -> Server {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Server::start_with(Some(config), async |call| call.reply(200, Reply::new()).await).await
}

fn client_of(server: &Server, tls: TlsOptions) -> Client {
    Client::new(&format!("https://{}", server.address), ClientOptions { tls, ..options() }).unwrap()
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

#[tokio::test]
async fn over_tls_a_frame_goes_by_http_2() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1", BOTH, None).await;
    let client = client_of(&server, TlsOptions { roots: authority.roots(), ..Default::default() });
    let frame = frame(&noise(20 << 20));
    for _ in 0..2 {
        client.transmit(FrameBody::bytes(frame.clone())).await.unwrap();
    }
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.version == Version::HTTP_2 && seen.body == frame));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_nothing_and_is_not_tried_again() {
    let (authority, other) = (Authority::new(), Authority::new());
    let named_otherwise = authority.server("agent-b.example", BOTH, None).await;
    let server = authority.server("127.0.0.1", BOTH, None).await;
    for (server, roots) in
        [(&server, other.roots()), (&server, Roots::default()), (&named_otherwise, authority.roots())]
    {
        let client = client_of(server, TlsOptions { roots, ..Default::default() });
        let error = client.health().await.unwrap_err();
        assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
        assert_eq!((error.is_retryable(), server.seen().len()), (false, 0));
    }
    assert_eq!((server.connections(), named_otherwise.connections()), (2, 1));
}

#[tokio::test]
async fn a_certificate_of_an_authority_in_place_of_a_servers_is_named() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    let roots = Roots::from_pem(certificate.as_bytes()).unwrap();
    let server = serve((certificate, key.serialize_pem()), BOTH, None).await;
    let error = client_of(&server, TlsOptions { roots, ..Default::default() }).health().await.unwrap_err();
    assert!(error.to_string().contains("CA:FALSE"), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_who_is_there_is_told() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1", BOTH, Some(&clients)).await;
    let roots = authority.roots();
    let identity = Some(clients.client_identity());
    let known = client_of(&server, TlsOptions { roots: roots.clone(), identity, ..Default::default() });
    known.health().await.unwrap();
    let strangers = Some(authority.client_identity());
    for identity in [None, strangers] {
        let client = client_of(&server, TlsOptions { roots: roots.clone(), identity, ..Default::default() });
        assert!(client.health().await.is_err());
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn tls_1_2_is_spoken_unless_only_1_3_will_do() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1", &[&TLS12], None).await;
    let roots = authority.roots();
    client_of(&server, TlsOptions { roots: roots.clone(), ..Default::default() }).health().await.unwrap();
    let strict = client_of(&server, TlsOptions { roots, only_1_3: true, ..Default::default() });
    assert_eq!(strict.health().await.unwrap_err().kind(), "tls");
}

#[test]
fn a_key_is_not_shown() {
    let identity = Some(Authority::new().client_identity());
    let shown = format!("{:?}", TlsOptions { identity, ..Default::default() });
    assert_eq!(
        shown,
        "TlsOptions { roots: Roots(system), identity: Some(TlsIdentity(..)), only_1_3: false }"
    );
}
