//! `avp calibrate`: measures what latent steps do on a model, and keeps what follows from it.

use std::path::PathBuf;

use anyhow::Result;
use avp_lab::bench::{Calibrate as Measure, Loaded, Paragraphs, Pipeline, Questions};
use avp_runtime_ort::StepForm;
use clap::Args;

use crate::{model::ModelArgs, output::Output};

/// Measure what latent steps do on a model, for `think --steps auto`
///
/// Built-in texts are continued behind steps of each form, and questions on notes are answered. The result is kept beside the prepared
/// graph.
#[derive(Args)]
pub(crate) struct Calibrate {
    #[command(flatten)]
    model: ModelArgs,
    /// Forms to try; can be named several times [default: six, among them peer, token and hidden]
    #[arg(long, value_name = "FORM")]
    form: Vec<StepForm>,
    /// Numbers of steps to try
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,4,8,16")]
    steps: Vec<usize>,
    /// Questions to ask, with the fields of HotpotQA or GSM8K [default: built-in notes on people]
    #[arg(long, value_name = "FILE")]
    dataset: Option<PathBuf>,
    /// Number of questions
    #[arg(long, value_name = "N", default_value_t = 30)]
    limit: usize,
    /// Seed of the questions
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 24)]
    max_tokens: usize,
    /// Write what was measured as JSON too; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<Output>,
}

impl Calibrate {
    pub(crate) fn run(&self) -> Result<()> {
        self.json.as_ref().map_or(Ok(()), Output::check)?;
        let questions = match &self.dataset {
            Some(path) => {
                Questions::from_file(path, Paragraphs::All, &[Pipeline::TwoAgent], self.limit, self.seed)?
            }
            None => Questions::built_in(self.limit, self.seed),
        };
        let runtime = self.model.runtime()?;
        let model = self.model.load(&runtime)?;
        let loaded = Loaded {
            runtime: &runtime,
            model: &model,
            folder: &self.model.folder,
            threads: self.model.run.threads,
        };
        let default = Measure::default();
        let measure = Measure {
            forms: if self.form.is_empty() { default.forms } else { self.form.clone() },
            steps: self.steps.clone(),
            max_tokens: self.max_tokens,
        };
        let report = measure.run(&loaded, &questions)?;
        // What took minutes is told before it is kept, so that it is not lost where that fails.
        if let Some(json) = &self.json {
            json.write(format!("{}\n", serde_json::to_string_pretty(&report.calibration)?).as_bytes())?;
        }
        if self.json != Some(Output::Stdout) {
            print!("{report}");
        }
        let kept = report.calibration.save()?;
        eprintln!("avp: kept in {}", kept.display());
        Ok(())
    }
}
