//! `curl` against our server: each version of HTTP that it speaks, with TLS and without.

use std::{path::Path, process::Command};

use avp_transport::{
    server::{ListenOptions, ServerOptions, Service},
    wire,
};
use serde_json::Value;

use crate::{
    common::{Running, frame, stock},
    tls::Certified,
};

/// Whether there is a `curl` that speaks HTTP/2; says so where there is none.
fn speaks_http2() -> bool {
    let version = Command::new("curl").arg("--version").output();
    let speaks = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2"));
    if !speaks {
        eprintln!("there is no curl that speaks HTTP/2: nothing to ask");
    }
    speaks
}

/// Status, HTTP version and body of an answer.
type Answered = (u16, String, Vec<u8>);

async fn curl<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Answered {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--no-progress-meter", "--noproxy", "*", "--max-time", "120"]);
    command.args(["--write-out", "%{stderr}%{http_code} %{http_version}"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {told}", output.status);
    let (status, version) = told.trim().split_once(' ').unwrap();
    (status.parse().unwrap(), version.to_owned(), output.stdout)
}

/// Brings a frame, fetches it whole and in part, lets it go; everything over `version`.
async fn exchange(base: &str, how: &[&str], version: &str, file: &Path) {
    let sent = std::fs::read(file).unwrap();
    let ask = |arguments: Vec<String>| async move {
        let (status, spoken, body) =
            curl(how.iter().copied().chain(arguments.iter().map(String::as_str))).await;
        assert_eq!(spoken, version, "{how:?} {arguments:?}");
        (status, body)
    };
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let health = ask(words(&[&format!("{base}{}", wire::HEALTH)])).await;
    assert_eq!(health, (200, br#"{"status":"ok"}"#.to_vec()));
    let data = format!("@{}", file.display());
    let kind = format!("content-type: {}", wire::FRAME);
    let url = format!("{base}{}", wire::TRANSMIT);
    let (status, body) = ask(words(&["--data-binary", &data, "--header", &kind, &url])).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &reply["bytes"]), (200, &sent.len().into()), "{reply}");
    let url = format!("{base}{}{}", wire::CONTEXTS, reply["context_id"].as_str().unwrap());
    let (status, body) = ask(words(&[&url])).await;
    assert!(status == 200 && body == sent, "{status}, {} bytes of {}", body.len(), sent.len());
    assert_eq!(ask(words(&["--range", "100-199", &url])).await, (206, sent[100..200].to_vec()));
    let known = format!("if-none-match: {}", reply["etag"].as_str().unwrap());
    assert_eq!(ask(words(&["--header", &known, &url])).await, (304, Vec::new()));
    assert_eq!(ask(words(&["--request", "DELETE", &url])).await.0, 200);
    assert_eq!(ask(words(&[&url])).await.0, 404);
    let unframed =
        ask(words(&["--data-binary", "nonsense", "--header", &kind, &format!("{base}{}", wire::TRANSMIT)]))
            .await;
    assert_eq!(unframed.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_exchanges_contexts_over_each_version_of_http() {
    if !speaks_http2() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frame.avp");
    // Longer than a window, and long enough for `Expect: 100-continue`.
    std::fs::write(&file, frame(20 << 20)).unwrap();
    let server = Running::stock(ServerOptions::default()).await;
    let base = server.url("");
    exchange(&base, &["--http1.1"], "1.1", &file).await;
    exchange(&base, &["--http2-prior-knowledge"], "2", &file).await;
    // An offer to go on in HTTP/2 may be passed over (RFC 9110, 7.8), and is: RFC 9113 took it back.
    exchange(&base, &["--http2"], "1.1", &file).await;

    let certified = Certified::new();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, &certified.authority).unwrap();
    let listen = ListenOptions { tls: Some(certified.server), ..Default::default() };
    let server = Running::start(Service::new(stock(), ServerOptions::default()), listen).await;
    let base = format!("https://{}", server.address);
    let trust = ["--cacert", authority.to_str().unwrap()];
    exchange(&base, &[&trust[..], &["--http2"]].concat(), "2", &file).await;
    exchange(&base, &[&trust[..], &["--http1.1"]].concat(), "1.1", &file).await;
    exchange(&base, &[&trust[..], &["--tls-max", "1.2"]].concat(), "2", &file).await;
    // The same port speaks without TLS to this machine.
    exchange(&format!("http://{}", server.address), &["--http2-prior-knowledge"], "2", &file).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_tls_1_2_is_not_spoken() {
    if !speaks_http2() {
        return;
    }
    let certified = Certified::new();
    let listen = ListenOptions { tls: Some(certified.server), ..Default::default() };
    let server = Running::start(Service::new(stock(), ServerOptions::default()), listen).await;
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--noproxy", "*", "--tlsv1.0", "--tls-max", "1.1"]);
    // Systems that speak nothing older themselves are told to.
    command.args(["--ciphers", "DEFAULT@SECLEVEL=0"]).arg(format!("https://{}/health", server.address));
    let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(35), "curl's code for a TLS handshake that failed");
}
