//! `avp keygen`, `avp sign`, `avp verify`, and a server that requires signatures.

use std::fs;

use serde_json::Value;

use crate::{
    common::{avp, avp_with_input, failure, stdout, text},
    server::{Server, frame},
};

/// A folder with the keys `alice` and `mallory` and the frame `frame.avp`.
struct Workshop {
    folder: tempfile::TempDir,
    alice: String,
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("frame.avp"), frame(1000)).unwrap();
        let alice = text(stdout(&avp(["keygen", "-o", &path("alice")]))).trim().to_owned();
        avp(["keygen", "-o", &path("mallory")]);
        Self { folder, alice }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The frame, signed.
    fn signed(&self, key: &str, more: &[&str]) -> Vec<u8> {
        let (frame, key) = (self.path("frame.avp"), self.path(key));
        let arguments = ["sign", &frame, "--key", &key, "-o", "-"].into_iter().chain(more.iter().copied());
        stdout(&avp(arguments)).to_vec()
    }
}

#[test]
fn a_signed_frame_is_verified_by_its_public_key_alone() {
    let shop = Workshop::new();
    let signed = shop.signed("alice", &["--for", "reader"]);
    let verified = avp_with_input(["verify", "-", "--by", &shop.alice, "--for", "reader", "--json"], &signed);
    let told: Value = serde_json::from_slice(stdout(&verified)).unwrap();
    assert_eq!((&told["signed_by"], &told["signed_for"]), (&shop.alice.as_str().into(), &"reader".into()));
    let lifetime = told["signed_until"].as_u64().unwrap() - told["signed_at"].as_u64().unwrap();
    assert_eq!(lifetime, 600);
    fs::write(shop.path("trusted"), format!("# friends\n{}\n", shop.alice)).unwrap();
    let by_file = avp_with_input(["verify", "-", "--by", &shop.path("trusted")], &signed);
    assert!(text(stdout(&by_file)).starts_with(&format!("signed by {} for reader", shop.alice)));

    let refused = |frame: &[u8], arguments: &[&str], why: &str| {
        let arguments = ["verify", "-"].iter().chain(arguments).copied();
        let error = avp_with_input(arguments, frame);
        assert!(failure(&error).contains(why), "{}", failure(&error));
    };
    let mut changed = signed.clone();
    *changed.last_mut().unwrap() ^= 1;
    refused(&changed, &["--by", &shop.alice], "it was changed");
    refused(&signed, &["--by", &shop.alice, "--for", "writer"], "another audience");
    refused(&frame(10), &["--by", &shop.alice], "no signature");
    refused(&shop.signed("mallory", &[]), &["--by", &shop.alice], "not trusted");
    refused(&shop.signed("alice", &["--lifetime", "0"]), &["--by", &shop.alice], "sign again");
    refused(&signed, &["--by", "nobody"], "neither a public key");
    refused(&signed, &["--by", &shop.path("frame.avp")], "neither a public key");
}

#[test]
fn a_private_key_is_of_its_user_alone_and_never_replaced() {
    let shop = Workshop::new();
    assert!(failure(&avp(["keygen", "-o", &shop.path("alice")])).contains("cannot write"));
    let key = fs::read_to_string(shop.path("alice")).unwrap();
    assert!(key.contains(&shop.alice) && key.lines().count() == 3);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(shop.path("alice")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let frame = shop.path("frame.avp");
    let error = avp(["sign", &frame, "--key", &frame, "-o", "-"]);
    assert!(failure(&error).contains("frame.avp"));
    fs::write(shop.path("short"), "0011").unwrap();
    let error = avp(["sign", &frame, "--key", &shop.path("short"), "-o", "-"]);
    assert!(failure(&error).contains("is not a private key") && !failure(&error).contains("0011"));
}

#[test]
fn a_server_accepts_each_frame_of_a_trusted_signer_once_and_no_other() {
    let shop = Workshop::new();
    let server = Server::start(&["--require-signed-by", &shop.alice, "--audience", "here"]);
    // Signatures of the second in which the server started are refused.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let send = |frame: &[u8]| avp_with_input(["send", "-", &server.url], frame);
    let signed = shop.signed("alice", &["--for", "here"]);
    let sent = send(&signed);
    let url = format!("{}/{}", server.url, text(stdout(&sent)).trim());
    assert_eq!(stdout(&avp(["fetch", &url, "-o", "-"])), signed);
    let mut changed = shop.signed("alice", &["--for", "here"]);
    // The first digit of the value, behind its name, a tag and a length.
    let digit = changed.windows(9).position(|bytes| bytes == b"signature").unwrap() + 9 + 3;
    changed[digit] = if changed[digit] == b'0' { b'1' } else { b'0' };
    for (frame, code) in [
        (signed, "replayed"),
        (frame(10), "not_signed"),
        (shop.signed("mallory", &["--for", "here"]), "untrusted_signer"),
        (shop.signed("alice", &["--for", "there"]), "other_audience"),
        (shop.signed("alice", &[]), "other_audience"),
        (shop.signed("alice", &["--for", "here", "--lifetime", "2h"]), "signature_too_long"),
        (shop.signed("alice", &["--for", "here", "--lifetime", "0"]), "signature_expired"),
        (changed, "bad_signature"),
    ] {
        let error = send(&frame);
        assert!(failure(&error).contains(code), "{code}: {}", failure(&error));
    }
    let without = avp(["serve", "--listen", "127.0.0.1:0", "--no-token", "--require-signed-by", &shop.alice]);
    assert!(!without.status.success() && text(&without.stderr).contains("--audience"));
}

#[cfg(unix)]
#[test]
fn a_hangup_reads_the_keys_of_signers_again() {
    let shop = Workshop::new();
    let carol = text(stdout(&avp(["keygen", "-o", &shop.path("carol")]))).trim().to_owned();
    let signers = shop.path("signers");
    fs::write(&signers, &shop.alice).unwrap();
    let server = Server::start(&["--require-signed-by", &signers, "--audience", "here"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let send =
        |signer: &str| avp_with_input(["send", "-", &server.url], &shop.signed(signer, &["--for", "here"]));
    assert!(failure(&send("carol")).contains("untrusted_signer"));
    assert!(send("alice").status.success());
    fs::write(&signers, carol).unwrap();
    server.signal("HUP");
    crate::server::wait(|| send("carol").status.success());
    assert!(failure(&send("alice")).contains("untrusted_signer"));
}
