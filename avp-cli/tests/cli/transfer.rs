//! `avp send`, `avp fetch` and `avp ping`, against a server in a process of its own.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use crate::{
    common::{avp, avp_with_input, failure, program, stdout, text},
    server::{Server, frame},
};

fn send(server: &Server, path: &str) -> String {
    text(stdout(&avp(["send", path, &server.url]))).trim().to_owned()
}

#[test]
fn what_is_sent_is_fetched_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let store = path("store");
    for arguments in [&[][..], &["--store", &store]] {
        let server = Server::start(arguments);
        for len in [0, 5, 3 << 20] {
            let frame = frame(len);
            fs::write(path("frame.avp"), &frame).unwrap();
            let id = send(&server, &path("frame.avp"));
            let url = format!("{}/{id}", server.url);
            assert!(stdout(&avp(["fetch", &url, "-o", &path("fetched.avp")])).is_empty());
            assert_eq!(fs::read(path("fetched.avp")).unwrap(), frame);
            let whole_path = format!("{}/avp/v2/contexts/{id}", server.url);
            assert_eq!(stdout(&avp(["fetch", &whole_path, "-o", "-"])), frame);
            let piped = avp_with_input(["send", "-", &server.url, "--json"], &frame);
            let reply: Value = serde_json::from_slice(stdout(&piped)).unwrap();
            assert_eq!((&reply["bytes"], &reply["success"]), (&frame.len().into(), &true.into()));
            assert_ne!(reply["context_id"], id.as_str());
        }
    }
}

#[test]
fn a_shared_context_is_fetched_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("frame.avp"), frame(1000)).unwrap();
    fs::write(path("tokens"), "s3cret alice").unwrap();
    let server = Server::start(&["--token-file", &path("tokens")]);
    let sent = avp(["send", &path("frame.avp"), &server.url, "--token", "s3cret"]);
    let url = format!("{}/{}", server.url, text(stdout(&sent)).trim());
    assert!(failure(&avp(["fetch", &url, "-o", &path("fetched.avp"), "--token", "other"])).contains("401"));
    let shared = avp(["share", &url, "--for", "1m", "--token", "s3cret"]);
    assert!(shared.stderr.is_empty());
    let link = text(stdout(&shared));
    let shortened = avp(["share", &url, "--for", "7d", "--token", "s3cret"]);
    assert!(text(&shortened.stderr).contains("valid for 5m, not 7days"), "{}", text(&shortened.stderr));
    assert!(stdout(&avp(["fetch", link.trim(), "-o", &path("fetched.avp"), "--token", "other"])).is_empty());
    assert_eq!(fs::read(path("fetched.avp")).unwrap(), frame(1000));
    assert!(failure(&avp(["share", link.trim(), "--token", "s3cret"])).contains("404"));
    assert!(failure(&avp(["share", &server.url, "--token", "s3cret"])).contains("URL/ID"));
}

#[test]
fn a_sealed_store_is_read_by_a_server_with_its_keys_from_a_file_or_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let frame = frame(3 << 20);
    fs::write(path("frame.avp"), &frame).unwrap();
    fs::write(path("keys"), format!("# the only one\n{}\n", "1f".repeat(32))).unwrap();
    let store = path("store");
    let server = Server::start(&["--store", &store, "--seal-keys", &path("keys")]);
    let id = send(&server, &path("frame.avp"));
    drop(server);
    let command = format!("cat {}", path("keys"));
    let server = Server::start(&["--store", &store, "--seal-keys-command", &command]);
    assert_eq!(stdout(&avp(["fetch", &format!("{}/{id}", server.url), "-o", "-"])), frame);
    drop(server);
    let serve = |arguments: &[&str]| {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--no-token"].iter().chain(arguments);
        failure(&avp(arguments.copied())).to_owned()
    };
    assert!(serve(&["--store", &store]).contains("it is sealed, and no keys are given"));
    assert!(
        serve(&["--store", &store, "--seal-keys-command", "exit 3"]).contains("--seal-keys-command failed")
    );
    assert!(serve(&["--store", &store, "--seal-keys", &path("frame.avp")]).contains("frame.avp"));
    let mut by_variable = program();
    by_variable.args(["serve", "--listen", "127.0.0.1:0", "--no-token", "--store", &store]);
    let empty = by_variable.env("AVP_SEAL_KEYS", "").output().unwrap();
    assert!(failure(&empty).contains("AVP_SEAL_KEYS: expected at least one key"));
    by_variable.env("AVP_SEAL_KEYS", "1f".repeat(32));
    let server = Server::spawn(by_variable);
    assert_eq!(stdout(&avp(["fetch", &format!("{}/{id}", server.url), "-o", "-"])), frame);
    drop(server);
    fs::write(path("keys"), "1f1f").unwrap();
    let error = serve(&["--store", &store, "--seal-keys", &path("keys")]);
    assert!(error.contains("keys: line 1 is not a key") && !error.contains("1f1f"), "{error}");
}

#[test]
fn a_context_that_was_removed_is_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frame.avp").display().to_string();
    fs::write(&path, frame(1000)).unwrap();
    let server = Server::start(&[]);
    let url = format!("{}/{}", server.url, send(&server, &path));
    let fetched = avp(["fetch", &url, "-o", &path, "--remove", "--json"]);
    let record: Value = serde_json::from_slice(stdout(&fetched)).unwrap();
    assert_eq!(record["bytes"], fs::read(&path).unwrap().len());
    assert!(failure(&avp(["fetch", &url, "-o", &path])).contains("404"));
}

#[test]
fn what_goes_wrong_is_told_in_one_sentence_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("frame.avp"), frame(1000)).unwrap();
    fs::write(path("text"), "no frame").unwrap();
    let server = Server::start(&["--max-body", "500"]);
    let unknown = format!("{}/unknown", server.url);
    let closed = "http://127.0.0.1:1";
    for (arguments, names) in [
        (&["send", &path("frame.avp"), &server.url][..], "frame_too_large"),
        (&["send", &path("text"), &server.url], "AV"),
        (&["send", &path("nothing"), &server.url], "nothing"),
        (&["send", &path("frame.avp"), "http://198.51.100.1:8790"], "plain HTTP"),
        (&["send", &path("frame.avp"), "nonsense"], "https://host:port"),
        (&["fetch", &unknown, "-o", &path("out.avp")], "404"),
        (&["fetch", &server.url, "-o", &path("out.avp")], "id"),
        (&["fetch", &unknown, "-o", "/no/such/folder/out.avp"], "/no/such/folder"),
        (&["ping", closed, "--timeout", "0.3"], "avp: "),
    ] {
        let output = avp(arguments);
        assert!(failure(&output).contains(names), "{arguments:?}: {}", failure(&output));
        assert!(output.stdout.is_empty());
    }
    assert!(!folder.path().join("out.avp").exists());
}

#[test]
fn a_token_comes_from_an_option_a_file_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens").display().to_string();
    fs::write(&tokens, "# ours\ns3cret\n").unwrap();
    let server = Server::start(&["--token-file", &tokens]);
    let ping = |extra: &[&str], variable: Option<&str>| {
        let mut command = program();
        command.args(["ping", &server.url, "--count", "1"]).args(extra);
        command.envs(variable.map(|token| ("AVP_TOKEN", token)));
        command.output().unwrap()
    };
    stdout(&ping(&["--token", "s3cret"], None));
    stdout(&ping(&["--token-file", &tokens], None));
    stdout(&ping(&[], Some("s3cret")));
    stdout(&ping(&["--token", "s3cret"], Some("wrong")));
    for refused in [ping(&[], None), ping(&["--token", "wr0ng"], None)] {
        let message = failure(&refused);
        assert!(message.contains("401") && !message.contains("wr0ng"), "{message}");
    }
}

#[test]
fn the_token_of_the_environment_goes_to_no_machine_that_it_is_not_for() {
    let ping = |host: &str| {
        let mut command = program();
        command
            .args(["ping", "https://nobody.invalid:1"])
            .env("AVP_TOKEN", "s3cret")
            .env("AVP_TOKEN_HOST", host);
        text(&command.output().unwrap().stderr).to_owned()
    };
    let withheld = "AVP_TOKEN is not sent to nobody.invalid: set AVP_TOKEN_HOST=nobody.invalid";
    assert!(ping("").contains(withheld) && ping("invalid").contains(withheld));
    assert!(!ping("Nobody.invalid").contains("not sent"));
}

#[test]
fn certificates_of_an_authority_of_ones_own_work_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: String| {
        let path = folder.path().join(name).display().to_string();
        fs::write(&path, pem).unwrap();
        path
    };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let certificate = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        (write(&format!("{name}.pem"), certificate.pem()), write(&format!("{name}.key"), key.serialize_pem()))
    };
    let ca = write("ca.pem", authority.pem());
    let ((server_cert, server_key), (cert, key)) = (certificate("server"), certificate("client"));
    let server =
        Server::start(&["--tls-cert", &server_cert, "--tls-key", &server_key, "--tls-client-ca", &ca]);
    assert!(server.url.starts_with("https://"));
    let ping = ["ping", &server.url, "--count", "1"];
    let known = [&ping[..], &["--ca", &ca, "--tls-cert", &cert, "--tls-key", &key]].concat();
    assert!(text(stdout(&avp(known))).contains("round trip"));
    failure(&avp([&ping[..], &["--ca", &ca, "--timeout", "5"]].concat()));
    failure(&avp([&ping[..], &["--tls-cert", &cert, "--tls-key", &key, "--timeout", "5"]].concat()));
    let without_tls = server.url.replace("https://", "http://");
    let refused = avp(["ping", &without_tls, "--count", "1"]);
    assert!(failure(&refused).contains("tls_required"), "{}", failure(&refused));
}

#[test]
fn a_server_that_names_no_context_is_an_error_because_its_frame_cannot_be_fetched() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // As the Python package's servers answer.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(&frame(10)) {
            let mut chunk = [0; 1024];
            let read = std::io::Read::read(&mut stream, &mut chunk).unwrap();
            request.extend_from_slice(&chunk[..read]);
        }
        let body = br#"{"success":true}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        std::io::Write::write_all(&mut stream, &[head.as_bytes(), body].concat()).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frame.avp").display().to_string();
    fs::write(&file, frame(10)).unwrap();
    let sent = avp(["send", &file, &url]);
    server.join().unwrap();
    assert!(failure(&sent).contains("without a context id") && sent.stdout.is_empty());
}
