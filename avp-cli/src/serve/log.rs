//! What the server tells while it runs, on standard error. Names and numbers, nothing of a payload.

use std::{
    io::{IsTerminal as _, stderr},
    panic,
};

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt};

/// How a line of the log reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The crates whose words `--log-level` is about.
const OURS: [&str; 2] = ["avp", "avp_transport"];

/// Begins to log. `level` is for what this program says; what the libraries under it say is for `RUST_LOG` alone.
pub(super) fn start(form: LogForm, level: Option<Level>) -> Result<()> {
    let builder = fmt().with_writer(stderr).with_env_filter(filter(level)?);
    match form {
        LogForm::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogForm::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    }
    .map_err(|error| anyhow!(error))?;
    // A panic's words may hold anything, and would be no line of this log.
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
