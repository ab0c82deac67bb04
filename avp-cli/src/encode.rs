//! `avp encode`: writes a frame from metadata and a payload.

use std::{
    collections::BTreeMap,
    io::{Write, stdout},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use avp_core::{Chunk, Compression, Dialect, FrameEncoder, Metadata, Mode, copy_threads, hybrid};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::output::{Input, Output};

/// Write a frame from metadata and a payload
#[derive(Args)]
pub(crate) struct Encode {
    /// Metadata with the keys of `avp inspect --json`: a JSON object, or a file that holds one
    #[arg(long, value_name = "JSON")]
    meta: String,
    /// Tensor bytes; `-` for standard input
    #[arg(long, value_name = "FILE")]
    payload: Input,
    /// Dialect to write [default: the one that the metadata names, else 0.3]
    #[arg(long, value_name = "0.2|0.3", value_parser = parse_dialect)]
    dialect: Option<Dialect>,
    /// Compress the body with zstd
    #[arg(long, value_name = "1|3|19", value_parser = parse_level)]
    zstd: Option<Compression>,
    /// Text to send with the tensors; makes the frame hybrid
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Pad the metadata so that the tensors start at a multiple of N bytes, a power of two such as 64
    #[arg(long, value_name = "N", default_value_t = 1)]
    align: usize,
    /// Frame to write; `-` for standard output
    #[arg(short, long, value_name = "FRAME")]
    output: Output,
    /// Print one JSON object with the sizes and the zstd level that was used
    #[arg(long)]
    json: bool,
}

/// The outcome of `--json`. The keys are a contract: `docs/cli.md` lists them.
#[derive(Serialize)]
struct Report {
    frame_bytes: usize,
    /// As `avp inspect` counts them: of the tensors, without text and before compression.
    payload_bytes: usize,
    /// `null` for an uncompressed body.
    zstd_level: Option<i32>,
    requested_zstd_level: Option<i32>,
}

impl Report {
    /// For standard error, if the body was compressed with another level than the requested one.
    fn level_warning(&self) -> Option<String> {
        let (used, requested) = (self.zstd_level?, self.requested_zstd_level?);
        (used != requested).then(|| {
            format!(
                "compressed with zstd level {used}, not {requested}: this program was built without the feature \
                 `zstd-native`"
            )
        })
    }
}

/// The metadata that a caller chooses; every field has a default.
struct Meta {
    dialect: Option<String>,
    text: Option<String>,
    tensor_shape: Vec<u32>,
    extra: BTreeMap<String, String>,
    /// The other fields of [`Metadata`], under its names.
    rest: Value,
}

/// Keys of `avp inspect --json` that are derived from others: ignored, so that its output can be used unchanged.
const DERIVED: [&str; 13] = [
    "aacp",
    "file",
    "version",
    "flags",
    "payload_length",
    "metadata_length",
    "compressed",
    "checksum",
    "payload_checksum",
    "payload_bytes",
    "payload_sha256",
    "kv_cache",
    "kv_cache_error",
];

impl Encode {
    pub(crate) fn run(&self) -> Result<()> {
        self.output.check()?;
        ensure!(
            !self.json || self.output != Output::Stdout,
            "frame and report cannot both go to standard output: write the frame to a file with -o"
        );
        let meta = Meta::read(&self.meta).context("--meta")?;
        let extra: Vec<(&str, &str)> =
            meta.extra.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let mut metadata = Metadata {
            tensor_shape: meta.tensor_shape.as_slice().into(),
            extra: extra.as_slice().into(),
            ..Metadata::deserialize(&meta.rest).context("--meta")?
        };
        let payload = self.payload.read()?;
        let payload_bytes = payload.len();
        let dialect = match (self.dialect, &meta.dialect) {
            (Some(dialect), _) => dialect,
            (None, Some(name)) => {
                parse_dialect(name).map_err(anyhow::Error::msg).context("--meta: dialect")?
            }
            // Only dialect 0.2 has a confidence score.
            (None, None) if metadata.confidence_score.is_some() => Dialect::V0_2,
            (None, None) => Dialect::V0_3,
        };
        let text = self.text.as_ref().or(meta.text.as_ref());
        if text.is_some() {
            metadata.mode = Mode::Hybrid;
        }
        let body = match metadata.mode {
            Mode::Hybrid => {
                let confidence = metadata.confidence_score.unwrap_or_default();
                let latent = Chunk::latent(&payload, confidence);
                let text = text.map(|text| Chunk::text(text, confidence));
                hybrid::encode(&[latent].into_iter().chain(text).collect::<Vec<_>>())
            }
            _ => payload,
        };
        let compression = self.zstd.unwrap_or(Compression::None);
        let encoder = FrameEncoder::new(metadata).dialect(dialect).compression(compression).align(self.align);
        let frame = encoder.threads(copy_threads(body.len())).encode(&body)?;
        self.output.write(&frame)?;
        let report = Report {
            frame_bytes: frame.len(),
            payload_bytes,
            zstd_level: compression.effective_level(),
            requested_zstd_level: compression.level(),
        };
        if let Some(warning) = report.level_warning() {
            eprintln!("avp: {warning}");
        }
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string(&report)?)?;
        }
        Ok(())
    }
}

impl Meta {
    /// Parses JSON, or reads the file of that name.
    fn read(argument: &str) -> Result<Self> {
        let text = if argument.trim_start().starts_with(['{', '[']) {
            argument.to_owned()
        } else {
            let path = PathBuf::from(argument);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
        };
        let mut object: Map<String, Value> = serde_json::from_str(&text)?;
        object.retain(|key, _| !DERIVED.contains(&key.as_str()));
        Ok(Self {
            dialect: take(&mut object, "dialect")?,
            text: take(&mut object, "text")?,
            tensor_shape: take(&mut object, "tensor_shape")?,
            extra: take(&mut object, "extra")?,
            rest: Value::Object(object),
        })
    }
}

/// The value under `key`, or its default.
fn take<T: DeserializeOwned + Default>(object: &mut Map<String, Value>, key: &str) -> Result<T> {
    let Some(value) = object.remove(key) else { return Ok(T::default()) };
    serde_json::from_value(value).with_context(|| key.to_owned())
}

pub(crate) fn parse_dialect(name: &str) -> Result<Dialect, String> {
    [Dialect::V0_2, Dialect::V0_3]
        .into_iter()
        .find(|dialect| dialect.as_str() == name)
        .ok_or_else(|| format!("expected 0.2 or 0.3, got {name:?}"))
}

fn parse_level(level: &str) -> Result<Compression, String> {
    level
        .parse()
        .ok()
        .and_then(Compression::from_level)
        .ok_or_else(|| format!("expected 1, 3 or 19, got {level:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_other_than_the_requested_one_is_reported() {
        let report = |zstd_level, requested_zstd_level| Report {
            frame_bytes: 0,
            payload_bytes: 0,
            zstd_level,
            requested_zstd_level,
        };
        let warning = report(Some(1), Some(19)).level_warning().unwrap();
        assert!(warning.starts_with("compressed with zstd level 1, not 19"), "{warning}");
        assert_eq!(report(Some(19), Some(19)).level_warning(), None);
        assert_eq!(report(None, None).level_warning(), None);
    }
}
