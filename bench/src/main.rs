//! `cargo xtask bench`: this library and the Python peers at the same work, on one machine, in one run.
//!
//! Prints the tables of `docs/BENCHMARKS.md`. Every figure is a median; every ratio compares figures of this run.

mod caches;
mod frames;
mod packets;
mod peer;
mod table;
mod timing;

use anyhow::Result;

fn main() -> Result<()> {
    let peers = peer::all(&frames::SIZES)?;
    println!("{}", frames::against_peers(&peers)?);
    println!("{}", frames::against_memory()?);
    println!("{}", caches::against_memory()?);
    println!("{}", packets::against_peers()?);
    Ok(())
}
