//! The server's log on standard error. It contains names and numbers, never payload.

use std::{
    io::{IsTerminal as _, stderr},
    panic,
};

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt};

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The crates to which `--log-level` applies.
const OURS: [&str; 2] = ["avp", "avp_transport"];

/// Starts logging. `level` applies to this program's crates; only `RUST_LOG` applies to the libraries below.
pub(super) fn start(form: LogForm, level: Option<Level>) -> Result<()> {
    let builder = fmt().with_writer(stderr).with_env_filter(filter(level)?);
    match form {
        LogForm::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogForm::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    }
    .map_err(|error| anyhow!(error))?;
    // A panic's message may contain payload, and is not in the log's format.
    panic::set_hook(Box::new(|panic| {
        tracing::error!(at = panic.location().map(tracing::field::display), "panic in the server");
    }));
    Ok(())
}

fn filter(level: Option<Level>) -> Result<EnvFilter> {
    let ours = |level: Level| OURS.map(|name| format!("{name}={level}")).join(",");
    match (level, std::env::var("RUST_LOG")) {
        (Some(level), _) => Ok(EnvFilter::new(format!("warn,{}", ours(level)))),
        (None, Ok(directives)) if !directives.is_empty() => {
            EnvFilter::try_new(directives).context("invalid RUST_LOG")
        }
        _ => Ok(EnvFilter::new(format!("warn,{}", ours(Level::INFO)))),
    }
}
