//! `avp context`: shows, cuts and joins contexts in files.

use std::{
    io::{Write, stdout},
    ops::Range,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use avp_runtime_ort::{CacheLayout, Context, Fingerprint, LoadOptions, Model};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    kv::parse_range,
    model::LibraryArgs,
    output::{Input, Output, printable},
    think::read_context,
};

/// Show, cut and join contexts in files, as `think --save` writes them
#[derive(Subcommand)]
pub(crate) enum ContextCommand {
    Show(Show),
    Truncate(Truncate),
    Tail(Tail),
    Append(Append),
    Layers(Layers),
}

/// Print shape, origin and tokens, and whether a model accepts the context
#[derive(Args)]
pub(crate) struct Show {
    /// File with a context, or any frame with a KV-cache; `-` for standard input
    #[arg(value_name = "FILE")]
    context: Input,
    /// Model folder to compare with; fails, and names the field, if the model does not accept the context
    #[arg(long, value_name = "MODEL_DIR")]
    model: Option<PathBuf>,
    /// Check every value; fails if one is NaN or infinite
    #[arg(long)]
    scan: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    library: LibraryArgs,
}

/// Keep the first tokens
#[derive(Args)]
pub(crate) struct Truncate {
    /// File with a context; `-` for standard input
    #[arg(value_name = "FILE")]
    context: Input,
    /// Number of tokens to keep
    #[arg(long, value_name = "N")]
    tokens: usize,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    library: LibraryArgs,
}

/// Keep what follows the first tokens, to send to a receiver that has those
#[derive(Args)]
pub(crate) struct Tail {
    /// File with a context; `-` for standard input
    #[arg(value_name = "FILE")]
    context: Input,
    /// Number of tokens to leave out
    #[arg(long, value_name = "N")]
    from: usize,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    library: LibraryArgs,
}

/// Append a tail to the context that it was computed after
#[derive(Args)]
pub(crate) struct Append {
    /// File with a context; `-` for standard input
    #[arg(value_name = "FILE")]
    context: Input,
    /// File with the tail
    #[arg(value_name = "TAIL")]
    tail: Input,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    library: LibraryArgs,
}

/// Keep some layers, for a model that has only these
#[derive(Args)]
pub(crate) struct Layers {
    /// File with a context; `-` for standard input
    #[arg(value_name = "FILE")]
    context: Input,
    /// Layers to keep, counted from 0, without B
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    layers: Range<usize>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    library: LibraryArgs,
}

impl ContextCommand {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Show(show) => show.run(),
            Self::Truncate(Truncate { context, tokens, output, library }) => {
                save(output, || Ok(read_context(&library.runtime()?, context)?.truncate(*tokens)?))
            }
            Self::Tail(Tail { context, from, output, library }) => {
                save(output, || Ok(read_context(&library.runtime()?, context)?.tail(*from)?))
            }
            Self::Layers(Layers { context, layers, output, library }) => {
                save(output, || Ok(read_context(&library.runtime()?, context)?.layers(layers.clone())?))
            }
            Self::Append(Append { context, tail, output, library }) => save(output, || {
                let runtime = library.runtime()?;
                Ok(read_context(&runtime, context)?.append(&read_context(&runtime, tail)?)?)
            }),
        }
    }
}

fn save(path: &PathBuf, make: impl FnOnce() -> Result<Context>) -> Result<()> {
    Output::File(path.clone()).check()?;
    Ok(make()?.save(path)?)
}

/// The fields of a context.
#[derive(Serialize)]
struct Record<'c> {
    seq_len: usize,
    num_steps: usize,
    position_offset: usize,
    num_layers: usize,
    num_kv_heads: usize,
    head_dim: usize,
    dtype: &'static str,
    bytes: usize,
    model_id: &'c str,
    model_family: &'c str,
    model_hash: &'c str,
    weights_hash: Option<&'c str>,
    rope_theta: Option<&'c str>,
    rope_scaling: Option<&'c str>,
    tokens: Option<Vec<Option<u32>>>,
}

impl Show {
    fn run(&self) -> Result<()> {
        let runtime = self.library.runtime()?;
        let context = read_context(&runtime, &self.context)?;
        if self.scan {
            context.check_finite().with_context(|| self.context.to_string())?;
        }
        let record = Record::of(&context);
        let mut out = stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &record)?;
            writeln!(out)?;
        } else {
            record.write(&mut out)?;
        }
        if let Some(folder) = &self.model {
            let rule = Model::load(&runtime, folder, &LoadOptions::default())?.accepts(&context)?;
            if !self.json {
                writeln!(out, "fits      {} ({})", folder.display(), rule.as_str())?;
            }
        }
        Ok(())
    }
}

impl<'c> Record<'c> {
    fn of(context: &'c Context) -> Self {
        let CacheLayout { num_layers, num_kv_heads, head_dim, dtype } = context.cache_layout();
        let identity = context.identity();
        let fingerprint =
            |field: fn(&Fingerprint) -> &String| context.fingerprint().map(|found| &**field(found));
        Self {
            seq_len: context.seq_len(),
            num_steps: context.num_steps(),
            position_offset: context.position_offset(),
            num_layers,
            num_kv_heads,
            head_dim,
            dtype: dtype.as_str(),
            bytes: 2 * num_layers * num_kv_heads * head_dim * context.seq_len() * dtype.size(),
            model_id: &identity.model_id,
            model_family: &identity.model_family,
            model_hash: &identity.model_hash,
            weights_hash: fingerprint(|found| &found.weights_hash),
            rope_theta: fingerprint(|found| &found.rope_theta),
            rope_scaling: fingerprint(|found| &found.rope_scaling),
            tokens: context.tokens().map(Iterator::collect),
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { seq_len, num_steps, num_layers, num_kv_heads, head_dim, dtype, bytes, .. } = self;
        writeln!(out, "tokens    {seq_len}, of them {num_steps} latent steps")?;
        if self.position_offset > 0 {
            writeln!(out, "after     {} others: a tail", self.position_offset)?;
        }
        writeln!(
            out,
            "cache     {num_layers} layers of {num_kv_heads} KV heads, {head_dim} wide, {dtype}, {bytes} bytes"
        )?;
        let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { printable(text) };
        let (family, id) = (or_unknown(self.model_family), or_unknown(self.model_id));
        writeln!(out, "model     {id}, family {family}, config {}", or_unknown(self.model_hash))?;
        writeln!(out, "weights   {}", or_unknown(self.weights_hash.unwrap_or_default()))?;
        if let (Some(theta), Some(scaling)) = (self.rope_theta, self.rope_scaling) {
            let theta =
                if theta.is_empty() { "none".to_owned() } else { format!("base {}", printable(theta)) };
            let scaling = if scaling.is_empty() { "not scaled".to_owned() } else { printable(scaling) };
            writeln!(out, "rotary    {theta}, {scaling}")?;
        }
        let known = if self.tokens.is_some() {
            "known: a prompt with the same beginning can reuse them"
        } else {
            "unknown"
        };
        writeln!(out, "token ids {known}")
    }
}
