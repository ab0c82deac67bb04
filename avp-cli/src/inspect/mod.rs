//! `avp inspect`: prints a frame as text or as JSON.

mod record;
mod text;

use std::{
    io::{IsTerminal, Write, stdout},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use avp_core::{DEFAULT_PAYLOAD_LIMIT, Frame};
use clap::Args;

use crate::output::{Input, Output};
use record::{Failure, Record};

/// Print the header, metadata and payload of frames
#[derive(Args)]
pub(crate) struct Inspect {
    /// Frames to read; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<Input>,
    /// Print one line of JSON for each file
    #[arg(long)]
    json: bool,
    /// File for the decoded payload; for a hybrid frame, its latent chunk
    #[arg(long, value_name = "OUT")]
    payload: Option<Output>,
    /// Most bytes of payload, compressed or not
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_PAYLOAD_LIMIT)]
    limit: usize,
}

impl Inspect {
    /// Fails if any file does not decode or has a wrong checksum; the others are still printed.
    pub(crate) fn run(&self) -> ExitCode {
        crate::exit_code(self.inspect_all())
    }

    fn inspect_all(&self) -> Result<bool> {
        if let Some(output) = &self.payload {
            ensure!(self.files.len() == 1, "--payload takes one file");
            ensure!(
                *output != Output::Stdout,
                "--payload writes to a file: standard output holds the report"
            );
            output.check()?;
        }
        let mut all_valid = true;
        for file in &self.files {
            all_valid &= self.inspect(file)?;
        }
        Ok(all_valid)
    }

    fn inspect(&self, file: &Input) -> Result<bool> {
        let name = file.name();
        let bytes = match file.read() {
            Ok(bytes) => bytes,
            Err(error) => return self.report_failure(&name, &Failure::io(&error)).map(|()| false),
        };
        let decoded = Frame::decode(&bytes).and_then(|frame| {
            let payload = frame.decompress_unverified(self.limit)?;
            let record = Record::new(&name, &frame, &payload)?;
            Ok((record, frame.tensor(&payload)?.to_vec()))
        });
        match decoded {
            Ok((record, payload)) => {
                let valid = record.has_valid_checksum();
                self.report(&record)?;
                if let (Some(output), true) = (&self.payload, valid) {
                    output.write(&payload)?;
                }
                Ok(valid)
            }
            Err(error) => self.report_failure(&name, &Failure::decode(error)).map(|()| false),
        }
    }

    fn report(&self, record: &Record<'_>) -> Result<()> {
        let mut out = stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, record)?;
            writeln!(out)?;
        } else {
            text::write(&mut out, record)?;
        }
        Ok(())
    }

    fn report_failure(&self, file: &str, failure: &Failure) -> Result<()> {
        let mut out = stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &serde_json::json!({ "file": file, "error": failure }))?;
            writeln!(out)?;
        } else {
            // On a terminal both streams are visible; in a pipe the error must not be part of the report.
            let at = failure.offset.map(|offset| format!(" (at byte {offset})")).unwrap_or_default();
            let named = if failure.offset.is_some() { format!("{file}: ") } else { String::new() };
            if stdout().is_terminal() {
                writeln!(out, "{named}{}{at}", failure.message)?;
            } else {
                eprintln!("avp: {named}{}{at}", failure.message);
            }
        }
        Ok(())
    }
}
