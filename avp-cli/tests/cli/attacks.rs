//! What a hostile client costs the others: attacks on `avp serve` beside honest requests, all at once. `cargo xtask soak` runs them for
//! ten minutes.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use avp_core::{Compression, Frame, FrameEncoder, Header, KvDType, KvHeader, Metadata, PayloadType};
use serde_json::{Value, json};

use crate::{
    common::repository,
    server::{Server, frame},
};

/// The memory of the server, in bytes.
const MEMORY: u64 = 512 << 20;

/// What a process may occupy beside it: code, stacks, what the allocator keeps.
const BESIDE: u64 = 64 << 20;

/// The part of honest requests that must succeed, in percent.
const SUCCEED: usize = 95;

/// Connections of one attack.
const CONNECTIONS: usize = 60;

const HONEST: &str = "Authorization: Bearer honest-token-0123456789\r\n";
const HOSTILE: &str = "Authorization: Bearer hostile-token-0123456789\r\n";

/// The server under attack.
struct Target<'a> {
    server: &'a Server,
    end: Instant,
    /// How often hostile requests got which answer.
    answers: Mutex<BTreeMap<String, usize>>,
}

impl Target<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Sends a whole hostile request.
    fn attack(&self, request: &str, body: &[u8]) -> Option<(u16, Value)> {
        let answer = self.ask(request, HOSTILE, body);
        let said = said(request, answer.as_ref());
        *self.answers.lock().unwrap().entry(said).or_default() += 1;
        answer
    }

    /// Begins a request, and sends no more than `body` of its `len` bytes.
    fn begin(&self, request: &str, content_type: &str, len: usize, body: &[u8]) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(&self.server.address).ok()?;
        let head = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n{HOSTILE}\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        Some(stream)
    }

    /// Sends a whole request, and returns its answer if there is one.
    fn ask(&self, request: &str, fields: &str, body: &[u8]) -> Option<(u16, Value)> {
        let content_type =
            if request.ends_with("/transmit") { "application/avp+binary" } else { "application/json" };
        let mut stream = TcpStream::connect(&self.server.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        let head = format!(
            "{request} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        // A server that refuses need not read on.
        let _unread = stream.write_all(body);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let status = std::str::from_utf8(&bytes[..end]).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_slice(&bytes[end + 4..]).unwrap_or_default()))
    }

    /// Repeats what a hostile client asks.
    fn repeat(&self, request: &str, body: &[u8]) {
        while self.goes_on() {
            self.attack(request, body);
        }
    }
}

/// Path, status and code of an answer.
fn said(request: &str, answer: Option<&(u16, Value)>) -> String {
    let path = request.split('/').take(4).collect::<Vec<_>>().join("/");
    match answer {
        Some((200, _)) => format!("{path}: 200"),
        Some((status, reply)) => {
            let code = reply["code"].as_str().or(reply["error"]["code"].as_str());
            format!("{path}: {status} {}", code.unwrap_or_default())
        }
        None => format!("{path}: no answer"),
    }
}

/// A compressed frame of `metadata` whose body unpacks to `payload`.
fn packed(metadata: Metadata<'_>, payload: &[u8]) -> Vec<u8> {
    FrameEncoder::new(metadata).compression(Compression::Fast).encode(payload).unwrap()
}

/// Announces frames of a gibibyte, of which hardly a byte ever comes.
fn announced_bodies(target: &Target<'_>) {
    let small = frame(1);
    let small = Frame::decode(&small).unwrap();
    let body_len = (1 << 30) - 4096;
    let header = Header::new(small.header().flags(), small.header().metadata_len(), body_len).unwrap();
    let metadata = FrameEncoder::new(small.metadata()).encode(b"a").unwrap();
    let start = [&header.encode()[..], &metadata[Header::LEN..small.body_offset()]].concat();
    let len = start.len() + body_len as usize;
    while target.goes_on() {
        let mut streams: Vec<_> = (0..4)
            .filter_map(|_| target.begin("POST /avp/v2/transmit", "application/avp+binary", len, &start))
            .collect();
        let pause = Instant::now() + Duration::from_secs(5);
        while target.goes_on() && Instant::now() < pause {
            streams.retain_mut(|stream| stream.write_all(b"a").is_ok());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Holds bodies of JSON open after their first byte.
fn bodies_of_one_byte(target: &Target<'_>) {
    while target.goes_on() {
        let streams: Vec<_> = (0..CONNECTIONS)
            .filter_map(|_| target.begin("POST /avp/v2/handshake", "application/json", 1000, b"{"))
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        drop(streams);
    }
}

/// Holds connections without a token.
fn idle_connections(target: &Target<'_>) {
    let mut streams = Vec::new();
    while target.goes_on() {
        if let Ok(mut stream) = TcpStream::connect(&target.server.address) {
            let _sent = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
            streams.push(stream);
        }
        if streams.len() > 3 * CONNECTIONS {
            streams.remove(0);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Greets without end.
fn handshakes(target: &Target<'_>) {
    target.repeat("POST /avp/v2/handshake", json!({ "agent_id": "a".repeat(256) }).to_string().as_bytes());
}

/// Frames of a few kilobytes whose window is 64 MiB.
fn wide_windows(target: &Target<'_>) {
    target.repeat("POST /avp/v2/transmit", &packed(Metadata::default(), &vec![0; 64 << 20]));
}

/// Names a small context that unpacks to a large cache, again and again.
fn large_contexts(target: &Target<'_>) {
    let config = fs::read_to_string(repository("models/facts/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let number = |name: &str| config[name].as_u64().and_then(|number| u32::try_from(number).ok());
    let num_layers = number("num_hidden_layers").unwrap();
    let num_kv_heads = number("num_key_value_heads").or(number("num_attention_heads")).unwrap();
    let hidden = number("hidden_size").unwrap();
    let head_dim = number("head_dim").unwrap_or(hidden / number("num_attention_heads").unwrap());
    let shape = KvHeader { num_layers, num_kv_heads, head_dim, seq_len: 1, dtype: KvDType::Float32 };
    let seq_len = ((60 << 20) / shape.bytes_per_token().unwrap()) as u32;
    let shape = KvHeader { seq_len, ..shape };
    let payload = [&shape.encode()[..], &vec![0; shape.tensors_len().unwrap()]].concat();
    let metadata = Metadata { payload_type: PayloadType::KvCache, num_layers, ..Metadata::default() };
    let frame = packed(metadata, &payload);
    drop(payload);
    while target.goes_on() {
        let stored = target.attack("POST /avp/v2/transmit", &frame);
        let Some(id) = stored.as_ref().and_then(|(_, reply)| reply["context_id"].as_str()) else { continue };
        let request = completion("Where?", json!({ "avp_context": id }));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| target.attack("POST /v1/chat/completions", &request));
            }
        });
    }
}

/// Frames that are all metadata, and frames that are hardly anything.
fn many_small_frames(target: &Target<'_>) {
    let names: Vec<String> = (0..4000).map(|number| number.to_string()).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "")).collect();
    let metadata = Metadata { extra: (&entries[..]).into(), ..Metadata::default() };
    let wide = FrameEncoder::new(metadata).encode(b"").unwrap();
    let empty = FrameEncoder::new(Metadata::default()).encode(b"").unwrap();
    while target.goes_on() {
        target.attack("POST /avp/v2/transmit", &wide);
        for _ in 0..10 {
            target.attack("POST /avp/v2/transmit", &empty);
        }
    }
}

/// A megabyte of blanks, and lists of lists.
fn expanding_prompts(target: &Target<'_>) {
    let blanks = completion(&" ".repeat(1_000_000), json!({}));
    let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let lists = format!("{{\"messages\":[{}[]]}}", format!("{nested},").repeat(4000));
    let tools = completion("Hi", json!({ "tools": vec![json!({ "function": { "name": "f" } }); 20_000] }));
    while target.goes_on() {
        for body in [&blanks, lists.as_bytes(), &tools] {
            target.attack("POST /v1/chat/completions", body);
        }
    }
}

/// Asks for an answer, and reads none of it.
fn unread_answers(target: &Target<'_>) {
    let request = completion("Where does Rosa live?", json!({ "stream": true, "max_tokens": 200 }));
    while target.goes_on() {
        let streams: Vec<_> = (0..CONNECTIONS)
            .filter_map(|_| {
                target.begin("POST /v1/chat/completions", "application/json", request.len(), &request)
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        drop(streams);
    }
}

/// Fetches contexts byte by byte, and removes them meanwhile.
fn slow_downloads(target: &Target<'_>) {
    let large = frame(20 << 20);
    let mut streams = Vec::new();
    while target.goes_on() {
        let stored = target.attack("POST /avp/v2/transmit", &large);
        if let Some(id) = stored.as_ref().and_then(|(_, reply)| reply["context_id"].as_str()) {
            let path = format!("/avp/v2/contexts/{id}");
            streams.extend(target.begin(&format!("GET {path}"), "application/json", 0, b"").map(
                |mut stream| {
                    let _answer = stream.read(&mut [0; 100]);
                    stream
                },
            ));
            target.attack(&format!("DELETE {path}"), b"");
        }
        if streams.len() > CONNECTIONS {
            streams.clear();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn completion(content: &str, extra: Value) -> Vec<u8> {
    let mut request = json!({ "messages": [{ "role": "user", "content": content }], "max_tokens": 4 });
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    request.to_string().into_bytes()
}

/// What honest clients experience.
#[derive(Default)]
struct Experience {
    asked: AtomicUsize,
    failed: Mutex<Vec<String>>,
    times: Mutex<Vec<Duration>>,
}

impl Experience {
    /// Sends a frame, fetches it, and asks the model, in turn.
    fn collect(&self, target: &Target<'_>) {
        let frame = frame(100_000);
        let question = completion("Where does Rosa live?", json!({}));
        while target.goes_on() {
            let stored = self.ask(target, "POST /avp/v2/transmit", &frame);
            if let Some(id) = stored.as_ref().and_then(|reply| reply["context_id"].as_str()) {
                self.ask(target, &format!("GET /avp/v2/contexts/{id}"), b"");
                self.ask(target, &format!("DELETE /avp/v2/contexts/{id}"), b"");
            }
            self.ask(target, "POST /v1/chat/completions", &question);
            self.ask(target, "POST /avp/v2/handshake", br#"{"agent_id":"honest"}"#);
        }
    }

    fn ask(&self, target: &Target<'_>, request: &str, body: &[u8]) -> Option<Value> {
        let start = Instant::now();
        let answer = target.ask(request, HONEST, body);
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.times.lock().unwrap().push(start.elapsed());
        match answer {
            Some((200, reply)) => Some(reply),
            refused => {
                self.failed.lock().unwrap().push(said(request, refused.as_ref()));
                None
            }
        }
    }
}

/// A field of `/proc/PID/status` in bytes.
fn memory_of(id: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes << 10)
}

#[test]
fn hostile_clients_cost_the_others_neither_their_answers_nor_the_memory() {
    let seconds = std::env::var("AVP_ATTACK_SECONDS").map_or(8, |seconds| seconds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let lines = "honest-token-0123456789 honest\nhostile-token-0123456789 hostile\n";
    fs::write(&tokens, lines).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let model = repository("models/facts").display().to_string();
    let memory = MEMORY.to_string();
    let tokens = tokens.display().to_string();
    let server = Server::start(&["--model", &model, "--memory", &memory, "--token-file", &tokens]);
    let end = Instant::now() + Duration::from_secs(seconds);
    let target = Target { server: &server, end, answers: Mutex::default() };
    // The longest prompt that the model takes: ONNX Runtime keeps the memory of its largest run, which is the model's.
    let warm = (1..11).rev().find(|length| {
        let prompt = "the ".repeat(100 * length);
        let answer =
            target.ask("POST /v1/chat/completions", HONEST, &completion(&prompt, json!({"max_tokens": 1})));
        answer.unwrap().0 == 200
    });
    assert!(warm.is_some());
    let before = memory_of(server.id(), "VmRSS");
    let (experience, target) = (Experience::default(), &target);
    std::thread::scope(|scope| {
        let attacks = [
            announced_bodies,
            bodies_of_one_byte,
            idle_connections,
            handshakes,
            wide_windows,
            large_contexts,
            many_small_frames,
            expanding_prompts,
            unread_answers,
            slow_downloads,
        ];
        for attack in attacks {
            scope.spawn(move || attack(target));
        }
        for _ in 0..2 {
            scope.spawn(|| experience.collect(target));
        }
    });
    let (asked, mut times) = (experience.asked.into_inner(), experience.times.into_inner().unwrap());
    let mut failed = experience.failed.into_inner().unwrap();
    times.sort_unstable();
    let rate = 100.0 * (asked - failed.len()) as f64 / asked as f64;
    let highest = memory_of(server.id(), "VmHWM");
    println!(
        "honest requests: {asked}, {rate:.2} % succeeded; median {:?}, 99 % within {:?}; memory before {:?} MiB, highest {:?} MiB",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        before.map(|bytes| bytes >> 20),
        highest.map(|bytes| bytes >> 20),
    );
    let succeeded = asked - failed.len();
    failed.sort_unstable();
    failed.dedup();
    println!("honest refused: {failed:?}");
    println!("hostile answers: {:#?}", target.answers.lock().unwrap());
    assert!(succeeded * 100 >= asked * SUCCEED, "{succeeded} of {asked}: {failed:?}");
    if let (Some(before), Some(highest)) = (before, highest) {
        let limit = before + MEMORY + BESIDE;
        assert!(highest <= limit, "{highest} bytes, the limit is {limit}");
    }
    // It goes on as before.
    assert_eq!(server.ask("GET /health", "", b"").0, 200);
}
