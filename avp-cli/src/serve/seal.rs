//! The keys of a sealed folder: from a file, a variable or a command.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use avp_transport::store::SealKeys;
use clap::Args;

/// The environment variable with the keys.
const VARIABLE: &str = "AVP_SEAL_KEYS";

/// Where the keys of a sealed folder come from.
#[derive(Args, Clone, Default)]
pub(super) struct SealArgs {
    /// Encrypt the contexts in --store with the keys in this file: each a line of 64 hexadecimal digits, and perhaps the principal that it is for;
    /// the first one encrypts, all decrypt [default: AVP_SEAL_KEYS, which contains such lines; else contexts are not encrypted]
    #[arg(long, value_name = "FILE", requires = "store", conflicts_with = "seal_keys_command")]
    seal_keys: Option<PathBuf>,
    /// The same with a shell command that prints the keys, such as one that asks a key management service
    #[arg(long, value_name = "COMMAND", requires = "store")]
    seal_keys_command: Option<String>,
}

impl SealArgs {
    /// The keys, if there are some.
    ///
    /// # Errors
    /// When they cannot be read. The error does not show them.
    pub(super) fn keys(&self) -> Result<Option<SealKeys>> {
        let (text, source) = match (&self.seal_keys, &self.seal_keys_command) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                (text, path.display().to_string())
            }
            (None, Some(command)) => (output_of(command)?, "the output of --seal-keys-command".to_owned()),
            (None, None) => match std::env::var(VARIABLE) {
                // An empty one is a mistake, which must not leave contexts in the clear.
                Ok(text) => (text, VARIABLE.to_owned()),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(error).context(VARIABLE),
            },
        };
        Ok(Some(text.parse().context(source)?))
    }
}

fn output_of(command: &str) -> Result<String> {
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    let output = shell
        .args([if cfg!(windows) { "/C" } else { "-c" }, command])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run --seal-keys-command")?;
    ensure!(output.status.success(), "--seal-keys-command failed: {}", output.status);
    String::from_utf8(output.stdout).ok().context("--seal-keys-command printed no text")
}
