//! `avp keygen`, `avp sign` and `avp verify`: signatures of frames.

use std::{
    fs,
    io::{Write as _, stdout},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use avp_core::sign::{Policy, PublicKey, SignOptions, SigningKey, sign_frame, verify_frame};
use clap::Args;
use serde_json::json;

use crate::{
    output::{Input, Output, printable},
    units::duration,
};

/// Create a private key to sign frames with, and print its public key, by which others recognise the signatures
#[derive(Args)]
pub(crate) struct Keygen {
    /// File for the private key, which must not exist yet
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Sign a frame, so that its receiver can verify who made it
#[derive(Args)]
pub(crate) struct Sign {
    /// Frame to sign; `-` for standard input
    #[arg(value_name = "FILE")]
    frame: Input,
    /// File with the private key, of `avp keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name of the receiver, which refuses frames for others [default: everybody]
    #[arg(long = "for", value_name = "NAME", default_value = "", hide_default_value = true)]
    audience: String,
    /// How long the signature is valid; servers accept at most an hour
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    lifetime: Duration,
    /// Frame to write; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Output,
}

/// Verify the signature of a frame; fails unless one of the given keys has signed exactly this frame, and the signature is valid now
#[derive(Args)]
pub(crate) struct Verify {
    /// Signed frame; `-` for standard input
    #[arg(value_name = "FILE")]
    frame: Input,
    /// Public key of a trusted signer, or a file with one on each line; may be repeated
    #[arg(long, value_name = "KEY|FILE", required = true)]
    by: Vec<String>,
    /// Name that the signature must be for [default: any]
    #[arg(long = "for", value_name = "NAME")]
    audience: Option<String>,
    /// Print `signed_by`, `signed_for`, `signed_at`, `signed_until` and `nonce` as one JSON object
    #[arg(long)]
    json: bool,
}

impl Keygen {
    pub(crate) fn run(&self) -> Result<()> {
        let seed: [u8; 32] = rand::random();
        let public = SigningKey::from_seed(&seed).public_key();
        let text = format!("# Private key for `avp sign`. Its public key is\n# {public}\n{}\n", hex(&seed));
        write_new(&self.output, &text).with_context(|| format!("cannot write {}", self.output.display()))?;
        writeln!(stdout(), "{public}")?;
        Ok(())
    }
}

impl Sign {
    pub(crate) fn run(&self) -> Result<()> {
        self.output.check()?;
        let key = private_key(&self.key)?;
        let options = SignOptions {
            audience: &self.audience,
            signed_at: now(),
            valid_for: self.lifetime.as_secs(),
            nonce: rand::random(),
        };
        let signed = sign_frame(&self.frame.read()?, &key, &options);
        self.output.write(&signed.with_context(|| self.frame.name())?)
    }
}

impl Verify {
    pub(crate) fn run(&self) -> Result<()> {
        let trusted = public_keys(&self.by)?;
        let policy = Policy { audience: self.audience.as_deref(), ..Policy::new(&trusted, now()) };
        let frame = self.frame.read()?;
        let signature = verify_frame(&frame, &policy).with_context(|| self.frame.name())?;
        let mut out = stdout();
        if self.json {
            let told = json!({
                "signed_by": signature.signer.to_string(),
                "signed_for": signature.audience,
                "signed_at": signature.signed_at,
                "signed_until": signature.signed_until,
                "nonce": hex(&signature.nonce),
            });
            writeln!(out, "{told}")?;
        } else {
            let audience = match signature.audience {
                "" => "everybody".to_owned(),
                name => printable(name).to_string(),
            };
            let left = signature.signed_until.saturating_sub(now());
            writeln!(out, "signed by {} for {audience}, valid for {left} s more", signature.signer)?;
        }
        Ok(())
    }
}

/// The public keys in arguments, each a key or a file of keys.
///
/// # Errors
/// When an argument is neither.
pub(crate) fn public_keys(arguments: &[String]) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for argument in arguments {
        if let Ok(key) = argument.parse() {
            keys.push(key);
            continue;
        }
        let text = fs::read_to_string(argument).with_context(|| {
            format!(
                "{} is neither a public key of 64 digits nor a file that can be read",
                printable(argument)
            )
        })?;
        let before = keys.len();
        for (number, line) in lines(&text) {
            let key = line.parse().map_err(|error| anyhow!("{argument}: line {number}: {error}"));
            keys.push(key?);
        }
        ensure!(keys.len() > before, "{argument} contains no key");
    }
    Ok(keys)
}

fn private_key(path: &Path) -> Result<SigningKey> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut keys = lines(&text).map(|(_, line)| line.parse());
    match (keys.next(), keys.next()) {
        (Some(Ok(key)), None) => Ok(key),
        _ => Err(anyhow!(
            "{} is not a private key: expected one line of 64 hexadecimal digits, as `avp keygen` writes it",
            path.display()
        )),
    }
}

/// The lines that are neither blank nor comments, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Writes a file that does not exist yet, for this user alone.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
