//! Large frames over a link with high latency: the cost of flow control.

use std::{fs, path::Path};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::{
    LARGE, Served, Server, client_arguments,
    link::{FAR, Link},
    send::How,
    serve::SERVE,
};
use crate::{
    runtime_partner::Partner,
    table::{Table, percent, size, time},
    timing::median,
};

const ROUND_TRIP_MS: u32 = 100;
const ROUNDS: usize = 3;

/// A client at the near end and its server at the far one.
struct Pair {
    name: &'static str,
    client: Partner,
    _server: Served,
    seconds: Vec<f64>,
}

pub(super) fn table() -> Result<Table> {
    let link = Link::make(ROUND_TRIP_MS)?;
    let folder = tempfile::tempdir()?;
    certify(folder.path())?;
    let pair = |name, tls: Option<&str>, how| -> Result<Pair> {
        let mut command = link.far()?;
        command.args([SERVE, Server::Passing.argument(), &format!("{FAR}:0")]);
        if tls.is_some() {
            command.args(["server.pem", "key.pem"].map(|file| folder.path().join(file))).args(tls);
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = Served::start(name, &mut command, &format!("{scheme}://{FAR}"))?;
        let mut command = link.near()?;
        let authority = folder.path().join("authority.pem");
        let authority = tls.map(|_| &*authority);
        client_arguments(&mut command, &server.url, LARGE, how, authority);
        let client = Partner::start(format!("{name}, client"), &mut command)?;
        Ok(Pair { name, client, _server: server, seconds: Vec::new() })
    };
    let mut pairs = [
        pair("HTTP/1.1 over TLS", Some("http/1.1"), How::Http1)?,
        pair("HTTP/2 over TLS", Some("h2"), How::Http1)?,
        pair("HTTP/1.1", None, How::Http1)?,
        pair("HTTP/2", None, How::Http2)?,
    ];
    for round in 0..=ROUNDS {
        for pair in &mut pairs {
            let seconds = pair.client.ask("frame")?.number("seconds")?;
            // The first opens the connection, and finds out how much the way takes.
            if round > 0 {
                pair.seconds.push(seconds);
            }
        }
    }
    let mut table = Table::new(
        format!("Frames of {} over a way of {ROUND_TRIP_MS} ms there and back", size(LARGE)),
        &["HTTP", "a frame takes", "speed", "of HTTP/1.1's speed"],
    );
    let medians = pairs.each_ref().map(|pair| median(pair.seconds.clone()));
    for (index, (pair, seconds)) in pairs.iter().zip(medians).enumerate() {
        // Each beside the HTTP/1.1 that is or is not over TLS as it is.
        let http1 = medians[index & !1];
        let rate = format!("{:.1} MB/s", LARGE as f64 / seconds / 1e6);
        table.row([pair.name.to_owned(), time(seconds), rate, percent(http1 / seconds)]);
    }
    Ok(table)
}

/// Writes a certificate for the far end, its key, and the authority that has signed it.
fn certify(folder: &Path) -> Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "benchmark authority");
    let authority_key = KeyPair::generate()?;
    fs::write(folder.join("authority.pem"), authority.self_signed(&authority_key)?.pem())?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new([FAR.to_owned()])?;
    let certificate = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
    fs::write(folder.join("server.pem"), certificate.pem())?;
    fs::write(folder.join("key.pem"), key.serialize_pem())?;
    Ok(())
}
