//! One port: TLS or not, HTTP/1.1 or HTTP/2.

use avp_transport::{
    server::{ListenOptions, ServerOptions, Service, tls_config},
    wire,
};
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::common::{Running, frame, stock};

/// An authority, and what it signs for a server or a client.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key, in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

async fn tls_server(authority: &Authority, client_authority: Option<&Authority>) -> Running {
    let (certificate, key) = authority.sign("127.0.0.1");
    let clients = client_authority.map(Authority::pem);
    let tls =
        tls_config(certificate.as_bytes(), key.as_bytes(), clients.as_deref().map(str::as_bytes)).unwrap();
    let listen = ListenOptions { tls: Some(tls), ..Default::default() };
    Running::start(Service::new(stock(), ServerOptions::default()), listen).await
}

fn client(authority: &Authority) -> reqwest::ClientBuilder {
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([root])
}

#[tokio::test]
async fn one_port_speaks_every_http() {
    let authority = Authority::new();
    let server = tls_server(&authority, None).await;
    let frame = frame(3 << 20);
    let (tls, plain) = (format!("https://{}", server.address), server.url(""));
    for (client, base, version) in [
        (client(&authority), &tls, Version::HTTP_2),
        (client(&authority).http1_only(), &tls, Version::HTTP_11),
        (client(&authority).http2_prior_knowledge(), &plain, Version::HTTP_2),
        (client(&authority), &plain, Version::HTTP_11),
    ] {
        let client = client.build().unwrap();
        let sent = client.post(format!("{base}{}", wire::TRANSMIT)).body(frame.clone()).send().await.unwrap();
        assert_eq!((sent.status().as_u16(), sent.version()), (200, version));
        let reply: serde_json::Value = serde_json::from_slice(&sent.bytes().await.unwrap()).unwrap();
        let id = reply["context_id"].as_str().unwrap();
        let fetched = client.get(format!("{base}{}{id}", wire::CONTEXTS)).send().await.unwrap();
        assert_eq!(fetched.bytes().await.unwrap(), frame);
    }
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_serves_who_shows_one() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let server = tls_server(&authority, Some(&clients)).await;
    let health = format!("https://{}{}", server.address, wire::HEALTH);
    let with = |signer: &Authority| {
        let (certificate, key) = signer.sign("client");
        let identity = reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
        client(&authority).identity(identity).build().unwrap()
    };
    assert!(with(&clients).get(&health).send().await.unwrap().status().is_success());
    assert!(with(&others).get(&health).send().await.is_err());
    assert!(client(&authority).build().unwrap().get(&health).send().await.is_err());
}

#[tokio::test]
async fn a_client_of_tls_is_not_served_without_a_certificate() {
    let server = Running::stock(ServerOptions::default()).await;
    let client = client(&Authority::new()).build().unwrap();
    assert!(client.get(format!("https://{}{}", server.address, wire::HEALTH)).send().await.is_err());
    assert!(server.get(wire::HEALTH).await.status().is_success());
}

#[test]
fn certificates_that_cannot_serve_are_refused_before_anybody_asks() {
    let authority = Authority::new();
    let ((certificate, key), (_, other_key)) = (authority.sign("a"), authority.sign("b"));
    let check =
        |certificate: &str, key: &str| tls_config(certificate.as_bytes(), key.as_bytes(), None).map(drop);
    assert!(check(&certificate, &key).is_ok());
    for (certificate, key, words) in [
        ("", key.as_str(), "cannot be used"),
        (certificate.as_str(), "", "private key"),
        (certificate.as_str(), certificate.as_str(), "private key"),
        (certificate.as_str(), other_key.as_str(), "cannot be used"),
    ] {
        let error = check(certificate, key).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}
