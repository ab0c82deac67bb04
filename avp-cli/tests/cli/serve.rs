//! `avp serve`: whom it lets in, what it keeps, how it stops.

use std::{fs, io::Write, path::Path, process::Command};

use serde_json::Value;

use crate::{
    common::{avp, failure, program, stdout, text},
    server::{Server, answer, files, frame, head, wait},
};

const TRANSMIT: &str = "POST /avp/v2/transmit";

fn keep(server: &Server, frame: &[u8]) -> String {
    let (status, _, body) = server.ask(TRANSMIT, "", frame);
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "{reply}");
    reply["context_id"].as_str().unwrap().to_owned()
}

fn fetch(server: &Server, id: &str) -> (u16, Vec<u8>) {
    let (status, _, body) = server.ask(&format!("GET /avp/v2/contexts/{id}"), "", b"");
    (status, body)
}

#[test]
fn tokens_of_a_file_let_in_and_a_file_without_one_is_no_open_door() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let tokens_arg = tokens.display().to_string();
    for (content, reason) in [("", "no token"), ("# alpha\n\n", "no token"), ("alpha beta gamma\n", "line 1")]
    {
        fs::write(&tokens, content).unwrap();
        let refused = avp(["serve", "--listen", "127.0.0.1:0", "--token-file", &tokens_arg]);
        assert!(failure(&refused).contains(reason), "{content:?}");
        assert!(!failure(&refused).contains("alpha") && refused.stdout.is_empty());
    }
    fs::write(&tokens, "# friends\nalpha\n\nbeta\n").unwrap();
    let server = Server::start(&["--token-file", &tokens_arg]);
    let status = |fields: &str| server.ask(TRANSMIT, fields, &frame(10)).0;
    assert_eq!(status(""), 401);
    assert_eq!(status("Authorization: Bearer gamma\r\n"), 401);
    assert_eq!(status("Authorization: Bearer alpha\r\n"), 200);
    assert_eq!(status("Authorization: Bearer beta\r\n"), 200);
    assert!(!server.log().contains("alpha") && !server.log().contains("gamma"), "{}", server.log());
}

#[test]
fn the_audit_log_says_who_did_what_whatever_the_log_level_is() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, audit) = (folder.path().join("tokens"), folder.path().join("audit"));
    fs::write(&tokens, "alpha alice\nbeta bob fetch\n").unwrap();
    let [tokens_arg, audit_arg] = [&tokens, &audit].map(|path| path.display().to_string());
    let server = Server::start(&["--token-file", &tokens_arg, "--audit", &audit_arg, "--log-level", "error"]);
    let ask = |request: &str, token: &str, body: &[u8]| {
        server.ask(request, &format!("Authorization: Bearer {token}\r\n"), body)
    };
    let (_, _, body) = ask(TRANSMIT, "alpha", &frame(10));
    let reply: Value = serde_json::from_slice(&body).unwrap();
    let id = reply["context_id"].as_str().unwrap();
    let path = format!("/avp/v2/contexts/{id}");
    ask(&format!("GET {path}"), "alpha", b"");
    ask(&format!("GET {path}"), "beta", b"");
    ask(&format!("DELETE {path}"), "beta", b"");
    ask(&format!("GET {path}"), "gamma", b"");
    ask("GET /health", "gamma", b"");
    let log = fs::read_to_string(&audit).unwrap();
    assert!(!log.contains("alpha") && !log.contains("beta") && !log.contains("gamma"), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<_> = lines
        .iter()
        .map(|line| {
            assert_eq!(line["address"], "127.0.0.1");
            let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            let context = line["contexts"][0]["id"] == id;
            (
                text("principal"),
                text("method"),
                text("action"),
                context,
                line["status"].as_u64().unwrap(),
                text("code"),
            )
        })
        .collect();
    let expected = [
        ("alice", "POST", "transmit", true, 200, "-"),
        ("alice", "GET", "context", true, 200, "-"),
        ("bob", "GET", "context", true, 404, "not_found"),
        ("bob", "DELETE", "context", false, 403, "missing_scope"),
        ("-", "GET", "context", false, 401, "unauthorized"),
    ];
    let expected = expected.map(|(principal, method, action, context, status, code)| {
        (principal.into(), method.into(), action.into(), context, status, code.into())
    });
    assert_eq!(said, expected);
    assert_eq!(lines[0]["contexts"][0]["etag"], reply["etag"]);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&audit).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::rename(&audit, folder.path().join("audit.1")).unwrap();
        server.signal("HUP");
        wait(|| audit.exists());
        ask(TRANSMIT, "alpha", &frame(10));
        assert_eq!(fs::read_to_string(&audit).unwrap().lines().count(), 1, "a renamed log is begun anew");
    }
}

#[cfg(unix)]
#[test]
fn a_hangup_revokes_tokens_at_once_and_a_file_that_cannot_be_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::write(&tokens, "alpha\nbeta\n").unwrap();
    let server = Server::start(&["--token-file", &tokens.display().to_string()]);
    let status =
        |token: &str| server.ask(TRANSMIT, &format!("Authorization: Bearer {token}\r\n"), &frame(10)).0;
    assert_eq!((status("alpha"), status("beta"), status("gamma")), (200, 200, 401));
    // A connection that was opened before, and is kept.
    let mut kept = server.connect();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer alpha\r\n";
    kept.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let mut start = [0; 12];
    std::io::Read::read_exact(&mut kept, &mut start).unwrap();
    assert_eq!(text(&start), "HTTP/1.1 200");
    fs::write(&tokens, "beta\ngamma\n").unwrap();
    server.signal("HUP");
    server.wait_for_log("read again");
    assert_eq!((status("alpha"), status("beta"), status("gamma")), (401, 200, 200));
    kept.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut kept, &mut rest).unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 401"));
    fs::write(&tokens, "one two three\n").unwrap();
    server.signal("HUP");
    server.wait_for_log("stay as they are");
    assert_eq!((status("beta"), status("one")), (200, 401));
}

#[test]
fn other_machines_are_not_let_in_without_tls_unless_somebody_says_so() {
    let refused = avp(["serve", "--listen", "0.0.0.0:0"]);
    let message = failure(&refused);
    assert!(message.contains("--tls-cert") && message.contains("--plain-from-anywhere"), "{message}");
    let mut command = program();
    command.args(["serve", "--listen", "0.0.0.0:0", "--plain-from-anywhere", "--no-token"]);
    Server::spawn(command).wait_for_log("no token: every program on the network");
}

#[test]
fn by_default_only_programs_of_this_user_are_let_in_by_a_token_that_they_find() {
    let (config, of_another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = || {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0"]).env("AVP_CONFIG_DIR", config.path());
        Server::spawn(command)
    };
    let ping = |url: &str, config: &Path| {
        let mut command = program();
        command.args(["ping", url, "--count", "1"]).env("AVP_CONFIG_DIR", config);
        command.output().unwrap()
    };
    let server = start();
    assert_eq!(server.ask(TRANSMIT, "", &frame(10)).0, 401);
    assert!(failure(&ping(&server.url, of_another.path())).contains("401"));
    stdout(&ping(&server.url, config.path()));
    let token = fs::read_to_string(config.path().join("token")).unwrap();
    stdout(&ping(&format!("{}/#token={}", server.url, token.trim()), of_another.path()));
    let path = config.path().join("token").display().to_string();
    assert!(server.log().contains(&path) && !server.log().contains(token.trim()), "{}", server.log());

    let next = start();
    assert_eq!(next.ask(TRANSMIT, &format!("Authorization: Bearer {token}"), &frame(10)).0, 200);
    fs::write(&path, "").unwrap();
    let refused = ping(&next.url, config.path());
    assert!(failure(&refused).contains("does not hold a token"), "{}", failure(&refused));
}

#[test]
fn without_a_token_the_log_says_what_that_gives_up() {
    let server = Server::start(&[]);
    keep(&server, &frame(10));
    assert!(server.log().contains("no token: every program on this machine"), "{}", server.log());
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens").display().to_string();
    fs::write(&tokens, "alpha\n").unwrap();
    let refused = avp(["serve", "--listen", "127.0.0.1:0", "--token-file", &tokens, "--no-token"]);
    assert!(failure(&refused).contains("--no-token excludes --token-file"));
}

#[test]
fn names_of_the_server_and_origins_of_pages_are_options() {
    let server = Server::start(&["--allowed-host", "avp.example", "--allowed-origin", "https://app.example"]);
    let status = |fields: &str| {
        let mut stream = server.connect();
        write!(stream, "GET /v1/none HTTP/1.0\r\n{fields}\r\n").unwrap();
        answer(stream).0
    };
    assert_eq!(status("Host: avp.example:8790\r\n"), 404);
    assert_eq!(status("Host: other.example\r\n"), 421);
    assert_eq!(status("Host: localhost\r\nOrigin: https://app.example\r\n"), 404);
    assert_eq!(status("Host: localhost\r\nOrigin: https://other.example\r\n"), 403);
    for (option, wrong) in [("--allowed-host", "a/b"), ("--allowed-origin", "app.example")] {
        let refused = avp(["serve", "--listen", "127.0.0.1:0", "--no-token", option, wrong]);
        let message = failure(&refused);
        assert!(message.contains(option) && message.contains(wrong), "{message}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_listens() {
    for (arguments, names) in [
        (&["--tls-cert", "x.pem"][..], "--tls-key"),
        (&["--tls-client-ca", "x.pem"], "--tls-cert"),
        (&["--tls-client-ca", "x.pem", "--plain-from-anywhere"], "--plain-from-anywhere"),
        (&["--tls-cert", "/no/such.pem", "--tls-key", "/no/such.key"], "/no/such.pem"),
        (&["--token-file", "/no/such/file"], "/no/such/file"),
        (&["--config", "/no/such/file"], "/no/such/file"),
        (&["--model", "/no/such/model"], "/no/such/model"),
    ] {
        let refused = avp(["serve", "--listen", "127.0.0.1:0"].iter().chain(arguments));
        assert!(failure(&refused).contains(names), "{arguments:?}: {}", failure(&refused));
        assert!(refused.stdout.is_empty());
    }
    for wrong in [["--max-body", "lots"], ["--ttl", "soon"], ["--requests-per-second", "0"], ["--log", "xml"]]
    {
        assert_eq!(avp(["serve"].iter().chain(&wrong)).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_start_that_fails_touches_nothing_that_is_kept() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(&["--store", folder.path().to_str().unwrap()]);
    for (store, listen, reason) in [
        (&other, server.address.as_str(), "cannot listen"),
        (&folder, "127.0.0.1:0", "another server has locked this folder"),
    ] {
        let arriving = store.path().join(".avp-arriving.part");
        fs::write(&arriving, b"AV").unwrap();
        let refused = avp(["serve", "--listen", listen, "--store", store.path().to_str().unwrap()]);
        assert!(failure(&refused).contains(reason), "{}", failure(&refused));
        assert!(arriving.exists(), "{reason}");
    }
    let id = keep(&server, &frame(10));
    assert_eq!(fetch(&server, &id), (200, frame(10)));
}

#[test]
fn a_config_file_says_what_the_command_line_leaves_open() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let tokens = write("tokens", "alpha\n");
    let config = write(
        "avp.toml",
        &format!("listen = \"127.0.0.1:1\"\ntoken-file = {tokens:?}\nmax-body = \"1KiB\"\nlog = \"json\"\n"),
    );
    let server = Server::start(&["--config", &config, "--max-body", "2KiB"]);
    let status = |fields: &str, len| server.ask(TRANSMIT, fields, &frame(len)).0;
    assert_eq!(status("", 10), 401, "the file's tokens");
    assert_eq!(status("Authorization: Bearer alpha\r\n", 1500), 200, "the command line's limit");
    assert_eq!(status("Authorization: Bearer alpha\r\n", 3000), 413);
    let wrong = write("wrong.toml", "max-bodi = \"1KiB\"\n");
    let refused = avp(["serve", "--config", &wrong]);
    assert!(failure(&refused).contains("\"max-bodi\"") && failure(&refused).contains("wrong.toml"));
}

#[test]
fn the_log_is_one_json_object_a_line_and_holds_nothing_of_a_payload_or_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::write(&tokens, "s3cret-token\n").unwrap();
    let server = Server::start(&[
        "--log",
        "json",
        "--log-level",
        "trace",
        "--token-file",
        &tokens.display().to_string(),
    ]);
    let body = b"s3cret-payload, which is somebody's conversation";
    let sound = avp_core::FrameEncoder::new(avp_core::Metadata::default()).encode(body).unwrap();
    let mut damaged = sound.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let token = "Authorization: Bearer s3cret-token\r\nAVP-Agent-ID: alice\r\n";
    for (fields, frame, status) in [(token, &sound, 200), (token, &damaged, 400), ("", &sound, 401)] {
        assert_eq!(server.ask(TRANSMIT, fields, frame).0, status);
    }
    assert_eq!(server.ask("POST /avp/v2/text", token, b"{\"content\": \"s3cret-payload\"}").0, 501);
    wait(|| server.log().matches("\"answered\"").count() == 4);
    let log = server.log();
    assert!(!log.contains("s3cret"), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered = lines.iter().find(|line| line["message"] == "answered").unwrap();
    assert_eq!(
        (&answered["status"], &answered["span"]["agent"]),
        (&200.into(), &"alice".into()),
        "{answered}"
    );
    assert!(lines.iter().any(|line| line["code"] == "checksum_mismatch"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_ends_no_server() {
    // A disk without room, and a descriptor that cannot be written.
    for shell in ["exec \"$0\" \"$@\" 2>/dev/full", "exec \"$0\" \"$@\" 2</dev/null"] {
        let program = program();
        let mut command = Command::new("sh");
        command.args(["-c", shell]).arg(program.get_program());
        command.args(["serve", "--listen", "127.0.0.1:0", "--no-token"]);
        let server = Server::spawn(command);
        for _ in 0..3 {
            assert_eq!(server.ask(TRANSMIT, "", &frame(10)).0, 200);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_client_cannot_write_fields_or_endless_methods_into_the_log() {
    let server = Server::start(&["--log", "text"]);
    let fields = "AVP-Agent-ID: a principal=admin\r\nX-Request-ID: r status=200\r\n";
    assert_eq!(server.ask("GET /avp/v2/contexts/none", fields, b"").0, 404);
    let (status, _, body) = server.ask(&format!("{} /metrics", "A".repeat(50_000)), "", b"");
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &reply["code"]), (501, &"unknown_method".into()));
    server.wait_for_log("unknown_method");
    let log = server.log();
    assert!(log.contains("\"a principal=admin\"") && log.contains("\"r status=200\""), "{log}");
    assert!(log.contains("method=\"unknown\"") && !log.contains("AAAA"), "{}", log.len());
}

#[cfg(unix)]
#[test]
fn ctrl_c_lets_a_body_arrive_and_a_second_one_does_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().display().to_string();
    let frame = frame(100_000);
    let (first, rest) = frame.split_at(frame.len() / 2);
    let begin = |server: &Server| {
        let mut stream = server.connect();
        stream.write_all(head(TRANSMIT, "", frame.len()).as_bytes()).unwrap();
        stream.write_all(first).unwrap();
        wait(|| files(folder.path(), ".part") == 1);
        server.signal("INT");
        server.wait_for_log("stopping");
        stream
    };
    let mut server = Server::start(&["--store", &store]);
    let mut stream = begin(&server);
    stream.write_all(rest).unwrap();
    assert_eq!(answer(stream).0, 200);
    assert!(server.wait().success());
    assert_eq!((files(folder.path(), ".avp"), files(folder.path(), ".part")), (1, 0));

    let mut server = Server::start(&["--store", &store]);
    let _stream = begin(&server);
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
    assert_eq!(files(folder.path(), ".avp"), 1, "what was not whole is nothing");
}

#[cfg(unix)]
#[test]
fn who_is_asked_to_end_while_nothing_happens_ends() {
    let mut server = Server::start(&[]);
    let _idle = server.connect();
    server.signal("TERM");
    assert!(server.wait().success());
}

#[cfg(unix)]
#[test]
fn patience_ends_with_a_sender_that_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().display().to_string();
    let mut server = Server::start(&["--patience", "0.2", "--store", &store]);
    let frame = frame(100_000);
    let mut stream = server.connect();
    stream.write_all(head(TRANSMIT, "", frame.len()).as_bytes()).unwrap();
    stream.write_all(&frame[..50_000]).unwrap();
    wait(|| files(folder.path(), ".part") == 1);
    server.signal("INT");
    assert!(server.wait().success());
    assert!(server.log().contains("still in progress"), "{}", server.log());
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_leaves_nothing_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    // 200 KiB a file; without the trap, the system would end the process at the first byte over it.
    let script =
        "trap '' XFSZ; ulimit -f 200; exec \"$0\" serve --no-token --listen 127.0.0.1:0 --store \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_avp")]).arg(folder.path());
    let server = Server::spawn(command);
    let small = frame(50_000);
    let kept = keep(&server, &small);
    let (status, _, body) = server.ask(TRANSMIT, "", &frame(1 << 20));
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &reply["code"]), (507, &"storage".into()), "{reply}");
    wait(|| files(folder.path(), ".part") == 0);
    assert_eq!(files(folder.path(), ".avp"), 1);
    assert_eq!(fetch(&server, &kept), (200, small.clone()), "what was there is there");
    assert_eq!(fetch(&server, &keep(&server, &small)).0, 200, "and the next one fits");
}

#[cfg(unix)]
#[test]
fn a_server_killed_within_a_body_has_on_its_return_what_was_whole_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().display().to_string();
    let mut server = Server::start(&["--store", &store]);
    let earlier: Vec<_> = [1000, 300_000].map(frame).map(|frame| (keep(&server, &frame), frame)).into();
    let large = frame(2 << 20);
    let mut stream = server.connect();
    stream.write_all(head(TRANSMIT, "", large.len()).as_bytes()).unwrap();
    stream.write_all(&large[..large.len() - 1]).unwrap();
    wait(|| files(folder.path(), ".part") == 1);
    server.signal("KILL");
    assert!(!server.wait().success());
    assert_eq!(files(folder.path(), ".part"), 1, "nobody was left to clear it away");

    let server = Server::start(&["--store", &store]);
    assert_eq!((files(folder.path(), ".avp"), files(folder.path(), ".part")), (2, 0));
    for (id, frame) in earlier {
        assert_eq!(fetch(&server, &id), (200, frame));
    }
}

#[test]
fn a_context_goes_when_its_time_is_over_or_room_is_needed() {
    let server = Server::start(&["--ttl", "0.2"]);
    let id = keep(&server, &frame(10));
    wait(|| fetch(&server, &id).0 == 404);
    let server = Server::start(&["--quota", "150KB"]);
    let (first, second) = (keep(&server, &frame(100_000)), keep(&server, &frame(100_000)));
    assert_eq!((fetch(&server, &first).0, fetch(&server, &second).0), (404, 200));
    let (status, _, body) = server.ask(TRANSMIT, "", &frame(200_000));
    assert_eq!(status, 507, "{}", text(&body));
}

#[test]
fn who_asks_more_often_than_agreed_is_asked_to_wait() {
    let server = Server::start(&["--requests-per-second", "1"]);
    let statuses: Vec<u16> = (0..5).map(|_| server.ask("GET /health", "", b"").0).collect();
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
}

#[test]
fn without_a_model_there_is_nobody_to_talk_to() {
    let server = Server::start(&[]);
    assert_eq!(server.ask("POST /v1/chat/completions", "", b"{}").0, 404);
    assert_eq!(server.ask("POST /avp/v2/text", "", b"{\"content\": \"Hi\"}").0, 501);
}
