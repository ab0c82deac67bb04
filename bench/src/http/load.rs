//! Many small frames: one load generator, which writes the same bytes to every server and waits for each answer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use avp_core::{FrameEncoder, Metadata};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{PEER, Served, Server};
use crate::{
    frames::pattern,
    table::{Table, size, time, times},
    timing::median,
};

const SMALL: usize = 16 << 10;
const CONNECTIONS: usize = 64;

/// The length of each turn, and of its warm-up.
const TURN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);
const ROUNDS: usize = 3;

pub(super) fn table() -> Result<Table> {
    let mut sides = vec![
        Side::new(PEER, Served::peer()?),
        // As the peer's handler: it decodes a frame and keeps nothing of it.
        Side::new(Server::Passing.name(), Server::Passing.start()?),
        Side::new(Server::Newest.name(), Server::Newest.start()?),
        Side::new(Server::Hyper.name(), Server::Hyper.start()?),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for _ in 0..ROUNDS {
        for side in &mut sides {
            eprintln!("{}: {CONNECTIONS} connections", side.name);
            let address: SocketAddr = side.served.url.trim_start_matches("http://").parse()?;
            side.turns.push(runtime.block_on(turn(address))?);
        }
    }
    let mut table = Table::new(
        format!("Frames of {} over {CONNECTIONS} connections, one load generator", size(SMALL)),
        &["server", "requests a second", "p50", "p99", &format!("against {PEER}")],
    );
    let of = |side: &Side, what: fn(&Turn) -> f64| median(side.turns.iter().map(what).collect());
    let peer = sides.first().map(|side| of(side, |turn| turn.rate)).context("no server was measured")?;
    for side in &sides {
        let rate = of(side, |turn| turn.rate);
        table.row([
            side.name.to_owned(),
            format!("{rate:.0}"),
            time(of(side, |turn| turn.p50)),
            time(of(side, |turn| turn.p99)),
            times(rate / peer),
        ]);
    }
    Ok(table)
}

struct Side {
    name: &'static str,
    served: Served,
    turns: Vec<Turn>,
}

impl Side {
    const fn new(name: &'static str, served: Served) -> Self {
        Self { name, served, turns: Vec::new() }
    }
}

/// The result of one turn: requests per second, and the median and 99th percentile of their seconds.
struct Turn {
    rate: f64,
    p50: f64,
    p99: f64,
}

async fn turn(address: SocketAddr) -> Result<Turn> {
    let frame = FrameEncoder::new(Metadata::default()).encode(&pattern(SMALL))?;
    let mut request = format!(
        "POST /avp/v2/transmit HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/avp+binary\r\n\
         avp-version: 0.4\r\navp-agent-id: bench\r\ncontent-length: {}\r\n\r\n",
        frame.len()
    )
    .into_bytes();
    request.extend(frame);
    let request: std::sync::Arc<[u8]> = request.into();
    let start = Instant::now();
    let connections: Vec<_> =
        (0..CONNECTIONS).map(|_| tokio::spawn(connection(address, request.clone(), start))).collect();
    let mut took = Vec::new();
    for connection in connections {
        took.extend(connection.await??);
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let counted = (TURN - WARM_UP).as_secs_f64();
    Ok(Turn { rate: took.len() as f64 / counted, p50: at(0.5), p99: at(0.99) })
}

/// Sends one request after the other until the turn is over; the seconds that each took.
async fn connection(address: SocketAddr, request: std::sync::Arc<[u8]>, start: Instant) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; 4096];
    let mut took = Vec::new();
    while start.elapsed() < TURN {
        let sent = Instant::now();
        stream.write_all(&request).await?;
        let mut len = 0;
        while !is_whole(&answer[..len]) {
            ensure!(len < answer.len(), "a response exceeds the buffer");
            let read = stream.read(&mut answer[len..]).await?;
            ensure!(read > 0, "the server closed a connection");
            len += read;
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "a frame was refused");
        if start.elapsed() > WARM_UP && start.elapsed() < TURN {
            took.push(sent.elapsed().as_secs_f64());
        }
    }
    Ok(took)
}

/// Whether head and body of an answer with a `content-length` are there.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let len = std::str::from_utf8(&answer[..head]).ok().and_then(|head| {
        let (_, len) = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
        len.parse::<usize>().ok()
    });
    len.is_some_and(|len| answer.len() >= head + 4 + len)
}
