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
const PACKETS: [&str; 3] = [
    "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary",
    "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08|filter:status=active|fmt:json",
    "SEND|CS|return:CS-Agent|p:2|aacp:1.2|to:customer|subj:refund|sentiment:negative|tone:formal",
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
        "AACP packets, a typical one, against the Python peers",
        &["work", "peer", "peer takes", "we take", "ratio"],
    );
    let validator = Validator::lenient();
    let each = |work: &dyn Fn(&str) -> bool| -> Result<f64> {
        let all = || match PACKETS.iter().all(|packet| work(black_box(packet))) {
            true => Ok(()),
            false => Err(anyhow!("a packet of the benchmark is not valid")),
        };
        Ok(median_seconds(all)? / PACKETS.len() as f64)
    };
    let ours = [
        ("parse", each(&|packet| Packet::parse(packet).is_ok())?),
        ("parse and validate", each(&|packet| validator.validate(packet, |_| ()).is_valid())?),
    ];
    for variable in VARIABLES {
        let peer: Peer = peer::run(variable, "peer_aacp.py", PACKETS)?;
        for (work, ours) in ours {
            // The package parses only to validate.
            table.row([
                work.to_owned(),
                format!("aacp {}: validate", peer.version),
                time(peer.seconds),
                time(ours),
                times(peer.seconds / ours),
            ]);
        }
    }
    Ok(table)
}
