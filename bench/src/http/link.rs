//! Two network namespaces with a high-latency link between them: see `link.py`.

use std::process::Command;

use anyhow::Result;

use super::{peer_python, script};
use crate::runtime_partner::Partner;

/// The address of the far end.
pub(super) const FAR: &str = "10.99.0.2";

/// Both namespaces, until it is dropped.
pub(super) struct Link {
    names: [String; 2],
    _program: Partner,
}

impl Link {
    /// # Errors
    /// When this machine does not permit it.
    pub(super) fn make(round_trip_ms: u32) -> Result<Self> {
        let names = ["near", "far"].map(|end| format!("avp{end}{}", std::process::id()));
        let mut command = Command::new(peer_python()?);
        command.arg(script("link.py")).args(&names).arg((f64::from(round_trip_ms) / 2.0).to_string());
        let program = Partner::start("a long way", &mut command)?;
        Ok(Self { names, _program: program })
    }

    /// This program, at the near end.
    pub(super) fn near(&self) -> Result<Command> {
        within(&self.names[0])
    }

    /// This program, at the far end.
    pub(super) fn far(&self) -> Result<Command> {
        within(&self.names[1])
    }
}

fn within(namespace: &str) -> Result<Command> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(std::env::current_exe()?);
    Ok(command)
}
