//! `avp aacp validate`, `parse` and `explain`.

use std::io::{BufRead, Write, stdin, stdout};

use aacp::{Limits, Profile, Validator, Version, peer::Release};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::output::printable;

/// Validate packets, and print errors and warnings
#[derive(Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    packets: Packets,
    /// Apply the rules for packets that this program sends, not those for packets that it receives
    #[arg(long)]
    strict: bool,
    /// Print the verdict, errors and warnings of this release of the Python package
    #[arg(long, value_name = "1.1.0|1.4.0", value_parser = parse_release)]
    peer: Option<Release>,
    /// Version that counts as current
    #[arg(long, value_name = "V", value_parser = parse_version)]
    current: Option<Version>,
    /// Print one line of JSON for each packet
    #[arg(long)]
    json: bool,
}

/// Print the fields of packets
#[derive(Args)]
pub(crate) struct Parse {
    #[command(flatten)]
    packets: Packets,
    /// Print one line of JSON for each packet
    #[arg(long)]
    json: bool,
}

/// Explain packets in English
#[derive(Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    packets: Packets,
    /// Print one line of JSON for each packet
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Packets {
    /// Packets; `-` for one packet per line on standard input
    #[arg(value_name = "PACKET", required = true)]
    packets: Vec<String>,
}

impl Packets {
    /// Calls `check` with each packet as soon as it is read; returns whether all were valid.
    fn each(&self, mut check: impl FnMut(&str) -> Result<bool>) -> Result<bool> {
        let mut all_valid = true;
        for packet in &self.packets {
            if packet != "-" {
                all_valid &= check(packet)?;
                continue;
            }
            for (index, line) in stdin().lock().split(b'\n').enumerate() {
                let line = line.context("standard input")?;
                match std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(&line)) {
                    Ok(packet) => all_valid &= check(packet)?,
                    Err(_) => {
                        eprintln!("avp: line {} is not UTF-8", index + 1);
                        all_valid = false;
                    }
                }
            }
        }
        Ok(all_valid)
    }
}

impl Validate {
    pub(crate) fn run(&self) -> Result<bool> {
        let profile = if self.strict { Profile::Strict } else { Profile::Lenient };
        let validator = Validator::new(profile).current(self.current.unwrap_or_default());
        let mut out = stdout().lock();
        self.packets.each(|packet| {
            let mut line = validator.report(packet).line();
            if let Some(release) = self.peer {
                line = line.as_peer(release, Limits::DEFAULT)?;
            }
            if self.json {
                serde_json::to_writer(&mut out, &line)?;
                writeln!(out)?;
            } else {
                let verdict = if line.valid { "valid  " } else { "invalid" };
                writeln!(out, "{verdict}  {}", printable(packet))?;
                for (severity, messages) in [("error", &line.errors), ("warning", &line.warnings)] {
                    for message in messages {
                        writeln!(out, "  {severity}: {}", printable(message))?;
                    }
                }
            }
            Ok(line.valid)
        })
    }
}

impl Parse {
    pub(crate) fn run(&self) -> Result<bool> {
        let mut out = stdout().lock();
        self.packets.each(|packet| {
            let line = Validator::lenient().report(packet).line();
            if self.json {
                serde_json::to_writer(&mut out, &line)?;
                writeln!(out)?;
            } else {
                for field in &line.fields {
                    writeln!(
                        out,
                        "{}\t{}",
                        printable(field.key.unwrap_or_default()),
                        printable(&field.value)
                    )?;
                }
                for message in &line.errors {
                    eprintln!("avp: {}", printable(message));
                }
            }
            Ok(line.valid)
        })
    }
}

impl Explain {
    pub(crate) fn run(&self) -> Result<bool> {
        let mut out = stdout().lock();
        self.packets.each(|packet| {
            let explained = aacp::Packet::parse(packet).map(|packet| aacp::Explanation::of(&packet));
            match (&explained, self.json) {
                (Ok(explanation), false) => writeln!(out, "{}", printable(&explanation.to_string()))?,
                (Ok(explanation), true) => {
                    let line = json!({
                        "packet": packet,
                        "english": explanation.to_string(),
                        "sentences": explanation.sentences,
                        "complete": explanation.complete,
                    });
                    writeln!(out, "{line}")?;
                }
                (Err(error), false) => {
                    let start: String = packet.chars().take(60).collect();
                    eprintln!("avp: {}: {error}", printable(&start));
                }
                (Err(error), true) => {
                    writeln!(out, "{}", json!({ "packet": packet, "error": error.to_string() }))?;
                }
            }
            Ok(explained.is_ok())
        })
    }
}

pub(super) fn parse_version(text: &str) -> Result<Version, String> {
    Version::from_text(text).ok_or_else(|| {
        let known: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
        format!("expected one of {}, got {text:?}", known.join(", "))
    })
}

fn parse_release(text: &str) -> Result<Release, String> {
    Release::from_text(text).ok_or_else(|| format!("expected 1.1.0 or 1.4.0, got {text:?}"))
}
