//! A running `avp serve`, and a client that says exactly what a test wants said.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::program;

/// A server process until it is dropped; its log is kept beside it.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) address: String,
    folder: TempDir,
}

impl Server {
    /// Starts on a free port of this machine, without a token unless `arguments` have a file of them, and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        if !["--token-file", "--config", "--tls-client-ca"].iter().any(|option| arguments.contains(option)) {
            command.arg("--no-token");
        }
        Self::spawn(command)
    }

    /// Waits for the line that `command`, which runs `avp serve` in one way or another, prints.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}: {log}")).trim();
        let address = url.split_once("://").unwrap().1.to_owned();
        Self { child, url: url.to_owned(), address, folder }
    }

    /// A server with the small model.
    pub(crate) fn with_facts() -> Self {
        let model = crate::common::repository("models/facts").display().to_string();
        Self::start(&["--model", &model])
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until the log holds `words`.
    pub(crate) fn wait_for_log(&self, words: &str) {
        wait(|| self.log().contains(words));
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// Status, head and body of the answer to a request with `fields` in its head.
    pub(crate) fn ask(&self, request: &str, fields: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        stream.write_all(head(request, fields, body.len()).as_bytes()).unwrap();
        // A server that refuses need not read on.
        let _unread = stream.write_all(body);
        answer(stream)
    }

    pub(crate) fn chat(&self, request: &Value) -> (u16, Value) {
        let (status, _, body) = self.ask("POST /v1/chat/completions", "", request.to_string().as_bytes());
        (status, serde_json::from_slice(&body).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The head of a request after whose answer the connection ends.
pub(crate) fn head(request: &str, fields: &str, len: usize) -> String {
    let content_type =
        if request.ends_with("/transmit") { "application/avp+binary" } else { "application/json" };
    format!(
        "{request} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n{fields}\r\n"
    )
}

/// Reads an answer to its end.
pub(crate) fn answer(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..end]).unwrap().to_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, bytes[end + 4..].to_vec())
}

/// Waits until something is so; a test that waits for what never comes is ended from outside.
pub(crate) fn wait(mut until: impl FnMut() -> bool) {
    while !until() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A frame whose body is `len` bytes, not all alike.
pub(crate) fn frame(len: usize) -> Vec<u8> {
    let body: Vec<u8> = (0..len).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    avp_core::FrameEncoder::new(avp_core::Metadata::default()).encode(&body).unwrap()
}

/// How many files there are in a folder, by their ending.
pub(crate) fn files(folder: &Path, ending: &str) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(ending)).count()
}
