//! Large frames, one after the other over one connection.

use anyhow::Result;

use super::{LARGE, PEER, Served, Server, client, peer_client, send::How};
use crate::{
    runtime_partner::Partner,
    table::{Table, percent, rate, size, time, times},
    timing::median,
};

/// Rounds in which everybody has a turn.
const ROUNDS: usize = 9;

/// A client and the server it sends to.
struct Pair {
    sender: String,
    receiver: String,
    client: Partner,
    _server: Served,
    seconds: Vec<f64>,
}

pub(super) fn table() -> Result<Table> {
    let ours = |server: Server, how| -> Result<Pair> {
        let served = server.start()?;
        let http = if how == How::Http2 { ", HTTP/2" } else { "" };
        Ok(Pair {
            sender: format!("ours{http}"),
            receiver: server.name().to_owned(),
            client: client(&served.url, LARGE, how, None)?,
            _server: served,
            seconds: Vec::new(),
        })
    };
    let peer = Served::peer()?;
    let to_peer = Served::peer()?;
    let mut pairs = vec![
        Pair {
            sender: PEER.to_owned(),
            receiver: PEER.to_owned(),
            client: peer_client(&peer.url)?,
            _server: peer,
            seconds: Vec::new(),
        },
        Pair {
            sender: "ours".to_owned(),
            receiver: PEER.to_owned(),
            client: client(&to_peer.url, LARGE, How::Http1, None)?,
            _server: to_peer,
            seconds: Vec::new(),
        },
        ours(Server::Hyper, How::Http1)?,
        ours(Server::Passing, How::Http1)?,
        ours(Server::Memory, How::Http1)?,
        ours(Server::Newest, How::Http1)?,
        ours(Server::Files, How::Http1)?,
        ours(Server::Hyper, How::Http2)?,
        ours(Server::Passing, How::Http2)?,
        ours(Server::Memory, How::Http2)?,
        ours(Server::Newest, How::Http2)?,
    ];
    for round in 0..=ROUNDS {
        for pair in &mut pairs {
            let seconds = pair.client.ask("frame")?.number("seconds")?;
            // The first opens the connection.
            if round > 0 {
                pair.seconds.push(seconds);
            }
        }
    }
    let mut table = Table::new(
        format!("Frames of {}, one connection of this machine to itself", size(LARGE)),
        &[
            "client",
            "server",
            "a frame takes",
            "speed",
            &format!("against {PEER} alone"),
            "of bare hyper's speed",
        ],
    );
    let medians: Vec<f64> = pairs.iter().map(|pair| median(pair.seconds.clone())).collect();
    let (peer, hyper) = (medians[0], medians[2]);
    for (pair, seconds) in pairs.iter().zip(medians) {
        table.row([
            pair.sender.clone(),
            pair.receiver.clone(),
            time(seconds),
            rate(LARGE, seconds),
            times(peer / seconds),
            percent(hyper / seconds),
        ]);
    }
    Ok(table)
}
