//! `avp prepare`: prepares the graph of a model for latent steps, and reports what it found.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use anyhow::{Result, ensure};
use avp_runtime_ort::{
    CheckOptions, Dtype, LoadOptions, PrepareCheck, PrepareReport, check_prepared, prepare_report,
};
use clap::Args;
use serde_json::json;

use crate::model::LibraryArgs;

/// Prepare the graph of a model for latent steps, and print what was found in it
#[derive(Args)]
#[command(mut_arg("onnxruntime", |library| library.requires("check")))]
pub(crate) struct Prepare {
    /// Folder with config.json and model.onnx
    #[arg(value_name = "MODEL_DIR")]
    folder: PathBuf,
    /// Variant of the model: fp32, fp16, q4, q4f16, int8, uint8, bnb4 or quantized [default: model.onnx]
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<Dtype>,
    /// Run the export and the prepared graph on a random prompt and compare their logits
    #[arg(long)]
    check: bool,
    /// Seed of the random prompt
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "check")]
    seed: u64,
    #[command(flatten)]
    library: LibraryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Prepare {
    pub(crate) fn run(&self) -> Result<()> {
        let load = LoadOptions { dtype: self.dtype, ..LoadOptions::default() };
        // Before the check: preparing needs no ONNX Runtime library.
        let report = prepare_report(&self.folder, &load)?;
        let check = self.check.then(|| self.compare()).transpose()?;
        if self.json {
            print_json(&report, check.as_ref())?
        } else {
            print(&report, check.as_ref())?
        }
        if let Some(check) = check {
            ensure!(
                check.passed(),
                "the prepared graph differs from the export: {:.1e} relative, at most {:.0e} expected",
                check.relative,
                check.tolerance()
            );
        }
        Ok(())
    }

    fn compare(&self) -> Result<PrepareCheck> {
        let runtime = self.library.runtime()?;
        let options = CheckOptions { dtype: self.dtype, seed: self.seed, ..CheckOptions::default() };
        Ok(check_prepared(&runtime, &self.folder, &options)?)
    }
}

fn print(report: &PrepareReport, check: Option<&PrepareCheck>) -> Result<()> {
    let mut out = stdout().lock();
    let cache = &report.cache;
    writeln!(
        out,
        "graph       {}{}",
        report.file.display(),
        if report.from_cache { " (prepared before)" } else { "" }
    )?;
    writeln!(out, "embedding   {} ({})", report.embedding_node, report.embedding_operator)?;
    writeln!(out, "head        {} ({})", report.head_node, report.head_operator)?;
    writeln!(out, "tied        {}", if report.tied { "yes" } else { "no, realigned" })?;
    writeln!(out, "vocabulary  {} tokens", report.vocab_size)?;
    writeln!(out, "latents     {} of {}", report.hidden_size, report.dtype)?;
    let shared = if report.shared_buffers { ", past and present may share a buffer" } else { "" };
    writeln!(
        out,
        "KV-cache    {} layers, {} heads of {}, {}{shared}",
        cache.num_layers, cache.num_kv_heads, cache.head_dim, cache.dtype
    )?;
    writeln!(out, "inputs      {}", report.inputs.join(", "))?;
    if let Some(check) = check {
        let verdict = if check.passed() { "same" } else { "DIFFERENT" };
        writeln!(
            out,
            "check       {verdict}: {} rows of logits after {} random tokens differ by at most {:.1e}, {:.1e} relative",
            check.rows,
            check.prompt.len(),
            check.absolute,
            check.relative
        )?;
    }
    Ok(())
}

fn print_json(report: &PrepareReport, check: Option<&PrepareCheck>) -> Result<()> {
    let mut object = serde_json::to_value(report)?;
    object["check"] = match check {
        Some(check) => json!({
            "absolute": check.absolute,
            "relative": check.relative,
            "passed": check.passed(),
            "rows": check.rows,
            "prompt": check.prompt,
        }),
        None => json!(null),
    };
    writeln!(stdout(), "{object}")?;
    Ok(())
}
