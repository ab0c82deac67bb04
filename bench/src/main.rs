//! `cargo xtask bench`, `bench runtime` and `bench http`: this library and the Python peers at the same work, on one machine, in
//! one run.
//!
//! Prints the tables of `docs/BENCHMARKS.md`. Every figure is a median; every ratio compares figures of this run.

mod caches;
mod frames;
mod http;
mod packets;
mod peer;
mod runtime;
mod runtime_ours;
mod runtime_partner;
mod table;
mod timing;

use std::ffi::OsString;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((what, rest)) = arguments.split_first() else { return protocol() };
    match (what.to_str(), rest) {
        (Some("runtime"), []) => runtime::run(&runtime::Settings::from_env()?),
        (Some("http"), _) => http::run(rest),
        (Some(http::SERVE), _) => http::serve(rest),
        (Some(http::SEND), _) => http::send(rest),
        (Some(runtime_ours::SERVE), _) => runtime_ours::serve(rest),
        (Some(runtime_ours::MEMORY), _) => runtime_ours::serve_memory(rest),
        _ => bail!("unknown benchmark {}; expected none, runtime or http", what.to_string_lossy()),
    }
}

/// Frames, caches and packets.
fn protocol() -> Result<()> {
    let peers = peer::all(&frames::SIZES)?;
    println!("{}", frames::against_peers(&peers)?);
    println!("{}", frames::against_memory()?);
    println!("{}", caches::against_memory()?);
    println!("{}", packets::against_peers()?);
    Ok(())
}
