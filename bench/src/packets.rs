//! AACP packets: parsing and validating, beside the Python packages.

use std::{hint::black_box, path::Path, process::Command};

use aacp::{Packet, Validator};
use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
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
    let each = |work: &dyn Fn(&str) -> bool| {
        median_seconds(|| PACKETS.iter().filter(|packet| work(black_box(packet))).count())
            / PACKETS.len() as f64
    };
    let ours = [
        ("parse", each(&|packet| Packet::parse(packet).is_ok())),
        ("parse and validate", each(&|packet| validator.validate(packet, |_| ()).is_valid())),
    ];
    for variable in VARIABLES {
        let peer = run(variable)?;
        for (work, ours) in ours {
            // The package parses only to validate.
            table.row([
                work.to_owned(),
                format!("aacp {}", peer.version),
                time(peer.seconds),
                time(ours),
                times(peer.seconds / ours),
            ]);
        }
    }
    Ok(table)
}

fn run(variable: &str) -> Result<Peer> {
    let python = std::env::var_os(variable)
        .with_context(|| format!("{variable} names no interpreter; run this as `cargo xtask bench`"))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer_aacp.py");
    let output = Command::new(python).arg(script).args(PACKETS).output()?;
    if !output.status.success() {
        bail!("peer_aacp.py under {variable}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
