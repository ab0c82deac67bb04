//! A certificate for this machine, of an authority that exists for one test.

use avp_transport::server::{ServerTls, tls_config};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

pub(crate) struct Certified {
    /// The authority's certificate, in PEM.
    pub(crate) authority: String,
    pub(crate) server: ServerTls,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let mut authority = CertificateParams::new([]).unwrap();
        // Otherwise both have one name, and the server's would look signed by itself.
        authority.distinguished_name.push(DnType::CommonName, "test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let mut server = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        // Python asks for it from 3.13 on.
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let certificate = server.signed_by(&key, &issuer).unwrap().pem();
        let server = tls_config(certificate.as_bytes(), key.serialize_pem().as_bytes(), None).unwrap();
        Self { authority: authority_pem, server }
    }
}
