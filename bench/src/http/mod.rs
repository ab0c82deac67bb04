//! `cargo xtask bench http`: frames over HTTP, this library beside the Python peer and beside bare hyper.
//!
//! Every server and every client is a process of its own, and they take turns.

mod frames;
mod latency;
mod link;
mod load;
mod memory;
mod send;
mod serve;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{runtime_ours::say, runtime_partner::Partner, table::Table};

pub(crate) use {
    send::{SEND, send},
    serve::{SERVE, serve},
};

/// The release that the tables compare with.
const PEER: &str = "avp 0.6.2";
const PEER_PYTHON: &str = "AVP_PEER_0_6_2_PYTHON";

/// A large payload, in bytes.
const LARGE: usize = 128 << 20;

type MakeTable = fn() -> Result<Table>;

/// The tables by name, in the order in which they are printed.
const TABLES: [(&str, MakeTable); 4] = [
    ("frames", frames::table),
    ("memory", memory::table),
    ("load", load::table),
    ("latency", latency::table),
];

/// Prints the tables, or those that are named.
///
/// # Errors
/// When a partner fails, or no interpreter is named for the peer.
pub(crate) fn run(names: &[OsString]) -> Result<()> {
    for (name, table) in TABLES.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name))
    {
        match table() {
            Ok(table) => println!("{table}"),
            // It takes the right to make networks, which not every machine gives.
            Err(error) if *name == "latency" => println!("Frames over a long way were left out: {error:#}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The servers of this library, and what they do with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Keeps them all in memory.
    Memory,
    /// Keeps the newest in memory.
    Newest,
    /// Keeps them in files.
    Files,
    /// Reads and checks them, a piece at a time.
    Passing,
    /// Bare hyper, which reads the bytes and does not check them.
    Hyper,
}

impl Server {
    const ALL: [Self; 5] = [Self::Memory, Self::Newest, Self::Files, Self::Passing, Self::Hyper];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "ours, kept in memory",
            Self::Newest => "ours, kept in place of older ones",
            Self::Files => "ours, kept in a file",
            Self::Passing => "ours, checked and passed on",
            Self::Hyper => "bare hyper, bytes dropped",
        }
    }

    const fn argument(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Newest => "newest",
            Self::Files => "files",
            Self::Passing => "passing",
            Self::Hyper => "hyper",
        }
    }

    /// Starts it on this machine, without TLS.
    fn start(self) -> Result<Served> {
        let mut command = this_program()?;
        command.args([SERVE, self.argument(), "127.0.0.1:0"]);
        Served::start(self.name(), &mut command, "http://127.0.0.1")
    }
}

/// A running server and its address.
struct Served {
    partner: Partner,
    url: String,
}

impl Served {
    fn start(name: &str, command: &mut Command, host: &str) -> Result<Self> {
        let mut partner = Partner::start(name, command)?;
        let port = partner.ask("port")?.number("port")?;
        Ok(Self { partner, url: format!("{host}:{port}") })
    }

    fn peer() -> Result<Self> {
        let mut command = peer_script()?;
        command.arg("serve");
        Self::start(&format!("{PEER}'s server"), &mut command, "http://127.0.0.1")
    }
}

/// A client of ours, for frames of `size` bytes of payload.
fn client(url: &str, size: usize, how: send::How, authority: Option<&Path>) -> Result<Partner> {
    let mut command = this_program()?;
    client_arguments(&mut command, url, size, how, authority);
    Partner::start("our client", &mut command)
}

fn client_arguments(command: &mut Command, url: &str, size: usize, how: send::How, authority: Option<&Path>) {
    command.args([SEND, url, &size.to_string(), how.argument()]).args(authority);
}

fn peer_client(url: &str) -> Result<Partner> {
    let mut command = peer_script()?;
    command.args(["send", url, &LARGE.to_string()]);
    Partner::start(format!("{PEER}'s client"), &mut command)
}

fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

fn peer_python() -> Result<OsString> {
    let python = std::env::var_os(PEER_PYTHON).filter(|path| !path.is_empty());
    python
        .with_context(|| format!("{PEER_PYTHON} names no interpreter; run this as `cargo xtask bench http`"))
}

fn peer_script() -> Result<Command> {
    let mut command = Command::new(peer_python()?);
    command.arg(script("peer_http.py"));
    Ok(command)
}

fn script(name: impl AsRef<OsStr>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name.as_ref())
}

/// Answers each line of standard input until it ends, as a [`Partner`] does.
fn answer_lines(mut answer: impl FnMut(&str) -> Result<Vec<(&'static str, f64)>>) -> Result<()> {
    say(&[("ready", 1.0)])?;
    for line in std::io::stdin().lines() {
        match answer(line?.trim()) {
            Ok(numbers) => say(&numbers)?,
            Err(error) => println!("{}", serde_json::json!({ "error": format!("{error:#}") })),
        }
    }
    Ok(())
}
