//! `avp kv`: slices a KV-cache, converts its dtype, or prints statistics.

use std::{
    borrow::Cow,
    io::{Write, stdout},
    ops::Range,
};

use anyhow::{Context, Result, ensure};
use avp_core::{
    Compression, DEFAULT_PAYLOAD_LIMIT, DecodeError, Frame, FrameEncoder, KvDType, KvHeader, KvView,
    Metadata, Mode, copy_threads, kv::KvSelection,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::output::{Input, Output};

/// Slice, convert and measure the KV-cache in a frame
#[derive(Subcommand)]
pub(crate) enum Kv {
    Slice(Slice),
    Convert(Convert),
    Stat(Stat),
}

/// Keep some tokens, layers or heads
///
/// Keys depend on their positions: a model can continue only from a cache that is cut at its end. One cut at its start, or in
/// layers or heads, is for analysis.
#[derive(Args)]
pub(crate) struct Slice {
    /// Frame with a KV-cache; `-` for standard input
    #[arg(value_name = "FRAME")]
    frame: Input,
    /// Tokens to keep, counted from 0, without B
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    tokens: Option<Range<usize>>,
    /// Layers to keep
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    layers: Option<Range<usize>>,
    /// Key and value heads to keep
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    heads: Option<Range<usize>>,
    /// Frame to write; `-` for standard output
    #[arg(short, long, value_name = "FRAME")]
    output: Output,
}

/// Convert the dtype
#[derive(Args)]
pub(crate) struct Convert {
    /// Frame with a KV-cache; `-` for standard input
    #[arg(value_name = "FRAME")]
    frame: Input,
    /// Dtype to write; values are rounded to nearest, ties to even
    #[arg(long, value_name = "float32|float16|bfloat16", value_parser = parse_dtype)]
    dtype: KvDType,
    /// Frame to write; `-` for standard output
    #[arg(short, long, value_name = "FRAME")]
    output: Output,
}

/// Print size, norms and non-finite values, layer by layer
#[derive(Args)]
pub(crate) struct Stat {
    /// Frame with a KV-cache; `-` for standard input
    #[arg(value_name = "FRAME")]
    frame: Input,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Kv {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Slice(slice) => slice.run(),
            Self::Convert(convert) => convert.run(),
            Self::Stat(stat) => stat.run(),
        }
    }
}

impl Slice {
    fn run(&self) -> Result<()> {
        self.output.check()?;
        rewrite(&self.frame, &self.output, |view| {
            let mut selection = view.select();
            if let Some(tokens) = &self.tokens {
                selection = selection.tokens(tokens.clone())?;
            }
            if let Some(layers) = &self.layers {
                selection = selection.layers(layers.clone())?;
            }
            if let Some(heads) = &self.heads {
                selection = selection.heads(heads.clone())?;
            }
            Ok(selection)
        })
    }
}

impl Convert {
    fn run(&self) -> Result<()> {
        self.output.check()?;
        rewrite(&self.frame, &self.output, |view| Ok(view.select().dtype(self.dtype)))
    }
}

/// Writes the frame again with the selected part of its cache; all other metadata stays.
fn rewrite(
    input: &Input,
    output: &Output,
    select: impl Fn(KvView<'_>) -> Result<KvSelection<'_>>,
) -> Result<()> {
    let bytes = input.read()?;
    let frame = Frame::decode(&bytes).with_context(|| input.to_string())?;
    let metadata = frame.metadata();
    ensure!(
        metadata.mode != Mode::Hybrid,
        "{input}: the text of a hybrid frame would no longer match its cache"
    );
    let payload = payload(&frame).with_context(|| input.to_string())?;
    let view = frame.kv_cache(&payload).with_context(|| input.to_string())?;
    let selection = select(view)?;
    let header = selection.header();
    // The shape in the metadata describes the whole cache.
    let is_whole = KvHeader { dtype: view.header().dtype, ..header } == *view.header();
    let metadata = Metadata {
        num_layers: header.num_layers,
        dtype: header.dtype.into(),
        tensor_shape: if is_whole { metadata.tensor_shape } else { Default::default() },
        ..metadata
    };
    let compression = if frame.is_compressed() { Compression::Balanced } else { Compression::None };
    let encoder =
        FrameEncoder::new(metadata).dialect(frame.dialect().unwrap_or_default()).compression(compression);
    let cache = selection.to_vec()?;
    output.write(&encoder.threads(copy_threads(cache.len())).encode(&cache)?)
}

/// The payload, with its checksum verified. The limit applies to compressed bodies; other bodies are in memory already.
fn payload<'f>(frame: &Frame<'f>) -> Result<Cow<'f, [u8]>, DecodeError> {
    if frame.is_compressed() {
        frame.decompress(DEFAULT_PAYLOAD_LIMIT)
    } else {
        frame.payload().map(Cow::Borrowed)
    }
}

/// Statistics of a cache.
#[derive(Serialize)]
struct CacheStat {
    num_layers: u32,
    num_kv_heads: u32,
    head_dim: u32,
    seq_len: u32,
    dtype: KvDType,
    bytes: usize,
    bytes_per_token: Option<usize>,
    layers: Vec<LayerStat>,
}

#[derive(Serialize)]
struct LayerStat {
    key: TensorStat,
    value: TensorStat,
}

/// Root mean square and extremes of the finite values of one tensor, and the number of others.
#[derive(Serialize)]
struct TensorStat {
    rms: f64,
    min: f32,
    max: f32,
    not_finite: usize,
}

impl Stat {
    fn run(&self) -> Result<()> {
        let bytes = self.frame.read()?;
        let frame = Frame::decode(&bytes).with_context(|| self.frame.to_string())?;
        let payload = payload(&frame).with_context(|| self.frame.to_string())?;
        let view = frame.kv_cache(&payload).with_context(|| self.frame.to_string())?;
        let header = *view.header();
        let stat = CacheStat {
            num_layers: header.num_layers,
            num_kv_heads: header.num_kv_heads,
            head_dim: header.head_dim,
            seq_len: header.seq_len,
            dtype: header.dtype,
            bytes: view.tensors().len(),
            bytes_per_token: header.bytes_per_token(),
            layers: view
                .layers()
                .map(|layer| LayerStat {
                    key: TensorStat::over(layer.key_values()),
                    value: TensorStat::over(layer.value_values()),
                })
                .collect(),
        };
        let mut out = stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &stat)?;
            writeln!(out)?;
        } else {
            stat.write(&mut out)?;
        }
        Ok(())
    }
}

impl CacheStat {
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { num_layers, num_kv_heads, head_dim, seq_len, dtype, bytes, .. } = self;
        writeln!(
            out,
            "{seq_len} tokens, {num_layers} layers of {num_kv_heads} KV heads, {head_dim} wide, {dtype}, {bytes} bytes"
        )?;
        writeln!(out, "{:>5}  {:^38}  {:^38}", "layer", "key", "value")?;
        for (index, layer) in self.layers.iter().enumerate() {
            writeln!(out, "{index:>5}  {}  {}", layer.key.line(), layer.value.line())?;
        }
        Ok(())
    }
}

impl TensorStat {
    fn over(values: impl Iterator<Item = f32>) -> Self {
        let mut stat = Self { rms: 0.0, min: 0.0, max: 0.0, not_finite: 0 };
        let mut finite = 0_u64;
        let mut squares = 0.0;
        for value in values {
            if !value.is_finite() {
                stat.not_finite += 1;
                continue;
            }
            stat.min = if finite == 0 { value } else { stat.min.min(value) };
            stat.max = if finite == 0 { value } else { stat.max.max(value) };
            squares += f64::from(value) * f64::from(value);
            finite += 1;
        }
        stat.rms = if finite == 0 { 0.0 } else { (squares / finite as f64).sqrt() };
        stat
    }

    fn line(&self) -> String {
        let Self { rms, min, max, not_finite } = self;
        let odd = if *not_finite == 0 { String::new() } else { format!(" {not_finite} not finite") };
        format!("{:<38}", format!("rms {rms:.4} in [{min:.3}, {max:.3}]{odd}"))
    }
}

pub(crate) fn parse_range(text: &str) -> Result<Range<usize>, String> {
    let range = text.split_once("..").and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
    range.ok_or_else(|| format!("expected A..B, such as 0..128, got {text:?}"))
}

fn parse_dtype(text: &str) -> Result<KvDType, String> {
    [KvDType::Float32, KvDType::Float16, KvDType::BFloat16]
        .into_iter()
        .find(|dtype| dtype.as_str() == text)
        .ok_or_else(|| format!("expected float32, float16 or bfloat16, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_counted_and_left_out() {
        let stat = TensorStat::over([3.0, f32::NAN, -4.0, f32::INFINITY].into_iter());
        assert_eq!((stat.min, stat.max, stat.not_finite), (-4.0, 3.0, 2));
        assert!((stat.rms - 12.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(TensorStat::over(std::iter::empty()).rms, 0.0);
    }

    #[test]
    fn ranges_have_two_ends() {
        assert_eq!(parse_range("3..12"), Ok(3..12));
        for wrong in ["3", "..3", "3..", "a..b", "3..-1"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }
}
