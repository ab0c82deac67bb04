//! The server's log on standard error. It contains names and numbers, never payload.

use std::{
    io::{self, IsTerminal as _, Write, stderr},
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
    // The library's own report of a fault would go to standard error too, and panic where that is what failed.
    let builder =
        fmt().with_writer(|| Lossy(stderr())).log_internal_errors(false).with_env_filter(filter(level)?);
    match form {
        LogForm::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogForm::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
    }
    .map_err(|error| anyhow!(error))?;
    // A panic's message may contain payload, and is not in the log's format. A panic of this hook would end the process, so it uses
    // nothing but the log, which cannot fail.
    panic::set_hook(Box::new(|panic| {
        tracing::error!(at = panic.location().map(tracing::field::display), "panic in the server");
    }));
    Ok(())
}

/// Prints a line for people beside the log, as [`eprintln!`] does, without a panic where standard error cannot be written.
pub(super) fn tell(line: std::fmt::Arguments<'_>) {
    drop(writeln!(Lossy(stderr()), "{line}"));
}

/// A writer that drops what cannot be written: a full disk or a closed pipe behind the log must not end a server.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(self.0.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        drop(self.0.flush());
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk without room, or a pipe that nobody reads.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_dropped() {
        assert_eq!(Lossy(Full).write(b"line").unwrap(), 4);
        assert!(Lossy(Full).flush().is_ok());
    }
}
