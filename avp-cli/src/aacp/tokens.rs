//! `avp aacp tokens`: counts the tokens of each notation.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use aacp::{
    Version,
    tokens::{
        Sample, Table, Tokenizer, TokenizerFile, Vocabulary, payroll_hops, rule_samples, workflow_samples,
    },
    workflow::Workflows,
};
use anyhow::{Context, Result};
use clap::Args;

use super::rules::load;
use crate::output::must_exist;

/// Count the tokens of English, AACP, JSON and TOON
#[derive(Args)]
pub(crate) struct Tokens {
    /// Count these rules too: a file, a folder or a URL
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// Count with this tokenizer.json instead of o200k and cl100k
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

impl Tokens {
    pub(crate) fn run(&self) -> Result<()> {
        let rules = self.rules.as_deref().map(load).transpose()?.map(|rules| rule_samples(&rules));
        let rules = rules.as_deref();
        match &self.tokenizer {
            Some(path) => {
                must_exist(path)?;
                let file = TokenizerFile::open(path).with_context(|| path.display().to_string())?;
                count(&file, rules, false)
            }
            None => {
                count(&Vocabulary::O200k, rules, true)?;
                count(&Vocabulary::Cl100k, rules, false)
            }
        }
    }
}

/// The published figures were counted with the vocabulary of GPT-4o, o200k, and are comparable with that one only.
fn count(tokenizer: &impl Tokenizer, rules: Option<&[Sample]>, beside_published: bool) -> Result<()> {
    for version in [Version::V1_0, Version::V1_1] {
        let hops = Table::count(tokenizer, &payroll_hops(version))?;
        writeln!(stdout(), "The four published payroll hops, AACP {version}\n\n{hops}")?;
        if beside_published {
            writeln!(stdout(), "{}\n", hops.beside_published())?;
        }
    }
    let workflows = workflow_samples(&Workflows::standard())?;
    writeln!(
        stdout(),
        "Every call of the workflow encoders, English by explanation\n\n{}",
        Table::count(tokenizer, &workflows)?
    )?;
    if let Some(rules) = rules {
        writeln!(stdout(), "The rules, English by description\n\n{}", Table::count(tokenizer, rules)?)?;
    }
    Ok(())
}
