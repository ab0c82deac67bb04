//! One port: TLS or not, HTTP/1.1 or HTTP/2.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use avp_transport::{
    server::{Limits, ListenOptions, ServerOptions, ServerTls, Service, tls_config},
    wire,
};
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::common::{Running, frame, stock, until};

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

fn tls(authority: &Authority, client_authority: Option<&Authority>) -> ServerTls {
    let (certificate, key) = authority.sign("127.0.0.1");
    let clients = client_authority.map(Authority::pem);
    tls_config(certificate.as_bytes(), key.as_bytes(), clients.as_deref().map(str::as_bytes)).unwrap()
}

async fn tls_server(authority: &Authority, client_authority: Option<&Authority>) -> Running {
    let listen = ListenOptions { tls: Some(tls(authority, client_authority)), ..Default::default() };
    Running::start(Service::new(stock(), ServerOptions::default()), listen).await
}

fn client(authority: &Authority) -> reqwest::ClientBuilder {
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    crate::common::client_builder().tls_certs_only([root])
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
async fn a_replaced_certificate_is_that_of_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let own = tls(&old, None);
    let listen = ListenOptions { tls: Some(own.clone()), ..Default::default() };
    let server = Running::start(Service::new(stock(), ServerOptions::default()), listen).await;
    let health = format!("https://{}{}", server.address, wire::HEALTH);
    let kept = client(&old).build().unwrap();
    assert!(kept.get(&health).send().await.unwrap().text().await.is_ok());
    own.replace(&tls(&new, None));
    assert!(kept.get(&health).send().await.unwrap().status().is_success(), "its connection is open");
    assert!(client(&old).build().unwrap().get(&health).send().await.is_err());
    assert!(client(&new).build().unwrap().get(&health).send().await.unwrap().status().is_success());
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
async fn where_clients_must_show_certificates_nothing_is_taken_without_tls() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for plain_from_anywhere in [false, true] {
        let tls = Some(tls(&authority, Some(&clients)));
        let service = Service::new(stock(), ServerOptions::default());
        let listen = ListenOptions { tls, plain_from_anywhere };
        let server = Running::start(service.clone(), listen).await;
        for path in [wire::HEALTH, wire::METRICS] {
            let refused = server.get(path).await;
            assert_eq!(refused.status(), 403, "{path}");
            assert!(refused.text().await.unwrap().contains("tls_required"));
        }
        let http2 = crate::common::client_builder().http2_prior_knowledge().build().unwrap();
        assert!(http2.get(server.url(wire::HEALTH)).send().await.is_err());
        let text = service.metrics().text();
        assert!(text.contains("avp_refusals_total{reason=\"tls_required\"} 3\n"), "{text}");
    }
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent for it.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[tokio::test]
async fn other_machines_are_told_to_come_by_tls() {
    let Some(address) = outer_address() else { return };
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&address.to_string());
    let tls = || tls_config(certificate.as_bytes(), key.as_bytes(), None).unwrap();
    for (tls, plain_from_anywhere) in [(None, false), (Some(tls()), false), (Some(tls()), true)] {
        let has_tls = tls.is_some();
        let service = Service::new(stock(), ServerOptions::default());
        let listen = ListenOptions { tls, plain_from_anywhere };
        let server = Running::start_on("0.0.0.0:0", service, listen).await;
        let there = SocketAddr::new(address, server.address.port());
        let asked = server.http.get(format!("http://{there}{}", wire::HEALTH)).send().await.unwrap();
        assert_eq!(asked.status(), if plain_from_anywhere { 200 } else { 403 });
        assert_eq!(asked.text().await.unwrap().contains("tls_required"), !plain_from_anywhere);
        let by_tls = client(&authority).build().unwrap().get(format!("https://{there}{}", wire::HEALTH));
        assert_eq!(by_tls.send().await.is_ok_and(|answer| answer.status() == 200), has_tls);
        let here = format!("http://127.0.0.1:{}{}", there.port(), wire::HEALTH);
        assert_eq!(server.http.get(here).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn connections_that_carry_no_request_are_counted_by_what_was_wrong() {
    let authority = Authority::new();
    let limits = Limits { head_timeout: Duration::from_millis(200), ..Default::default() };
    let options = ServerOptions { limits, ..Default::default() };
    let without = Service::new(stock(), options.clone());
    let plain = Running::start(without.clone(), ListenOptions::default()).await;
    let with = Service::new(stock(), options);
    let listen = ListenOptions { tls: Some(tls(&authority, None)), ..Default::default() };
    let by_tls = Running::start(with.clone(), listen).await;
    // More than is read of a head that does not end.
    let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    for (server, service, start, reason) in [
        (&plain, &without, &b"\x16\x03\x01"[..], "no_tls"),
        (&plain, &without, b"", "head_too_slow"),
        (&plain, &without, b"GET /hea", "head_too_slow"),
        (&plain, &without, b"\x01\x02 \x03\r\n\r\n", "bad_http"),
        (&plain, &without, &endless, "headers_too_large"),
        (&by_tls, &with, b"\x16\x03\x01\0\x05\xff\xff\xff\xff\xff", "tls_handshake"),
        (&by_tls, &with, b"\x16\x03", "head_too_slow"),
    ] {
        let counted = || {
            let line = format!("avp_refusals_total{{reason=\"{reason}\"}} ");
            let text = service.metrics().text();
            text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0_u64)
        };
        let before = counted();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Who is refused early is not read to the end.
        let _ = stream.write_all(start).await;
        // Until the server has closed it.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        until(|| counted() > before).await;
    }
}

#[tokio::test]
async fn first_byte_tls_and_first_head_have_one_time_together() {
    let authority = Authority::new();
    let time = Duration::from_millis(900);
    let limits = Limits { head_timeout: time, ..Default::default() };
    let service = Service::new(stock(), ServerOptions { limits, ..Default::default() });
    let listen = ListenOptions { tls: Some(tls(&authority, None)), ..Default::default() };
    let server = Running::start(service, listen).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(time * 2 / 3).await;
    let name = "127.0.0.1".try_into().unwrap();
    let asked = async {
        // On a machine that is slow enough, the time is over here already.
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        tokio::time::sleep(time * 2 / 3).await;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        stream.read(&mut [0; 100]).await
    };
    assert!(!matches!(asked.await, Ok(1..)), "its time was over");
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
        ("", key.as_str(), "invalid certificates"),
        (certificate.as_str(), "", "private key"),
        (certificate.as_str(), certificate.as_str(), "private key"),
        (certificate.as_str(), other_key.as_str(), "invalid certificates"),
    ] {
        let error = check(certificate, key).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}
