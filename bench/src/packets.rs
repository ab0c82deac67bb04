//! AACP packets: parsing and validating, beside the Python packages.

use std::hint::black_box;

use aacp::{Packet, Validator};
use anyhow::{Result, anyhow};
use serde::Deserialize;

use crate::{
    peer,
    table::{Table, time, times},
    timing::median_seconds,
};

/// Typical packets: what the protocol's own documentation shows.
const PACKETS: [&str; 2] = [
    "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary",
    "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08|filter:status=active|fmt:json",
];

/// Interpreters that `cargo xtask bench` installs and names.
const VARIABLES: [&str; 2] = ["AACP_PEER_1_1_0_PYTHON", "AACP_PEER_1_4_0_PYTHON"];

#[derive(Deserialize)]
struct Peer {
    version: String,
    seconds: f64,
}

pub(crate) fn against_peers() -> Result<Table> {
    let mut table = Table::new(
        "AACP packets, against the Python peers",
        &["work", "packet", "peer", "peer takes", "we take", "ratio"],
    );
    let validator = Validator::lenient();
    for packet in PACKETS {
        let ours = [
            ("parse", checked(|| Packet::parse(black_box(packet)).is_ok())?),
            ("parse and validate", checked(|| validator.validate(black_box(packet), |_| ()).is_valid())?),
        ];
        for variable in VARIABLES {
            let peer: Peer = peer::run(variable, "peer_aacp.py", [packet])?;
            for (work, ours) in ours {
                // The package parses only to validate.
                table.row([
                    work.to_owned(),
                    format!("{} fields, {} bytes", packet.split('|').count(), packet.len()),
                    format!("aacp {}: validate", peer.version),
                    time(peer.seconds),
                    time(ours),
                    times(peer.seconds / ours),
                ]);
            }
        }
    }
    Ok(table)
}

/// The median time of `work`, which must accept the packet.
fn checked(work: impl Fn() -> bool) -> Result<f64> {
    median_seconds(|| match work() {
        true => Ok(()),
        false => Err(anyhow!("a packet of the benchmark is not valid")),
    })
}
