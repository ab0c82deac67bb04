//! `avp aacp rules`: searches rules by words.

use std::{
    io::{Write, stdout},
    path::Path,
};

use aacp::learn::{RuleRegistry, Scope};
use anyhow::{Context, Result};
use clap::Args;

use crate::output::must_exist;

/// Search a collection of rules
#[derive(Args)]
pub(crate) struct Rules {
    /// Rules: a file, a folder or a URL
    #[arg(value_name = "RULES")]
    rules: String,
    /// Words to search for; without any, all rules match
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Only rules for this task
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Only rules of this domain
    #[arg(long, value_name = "DOM")]
    domain: Option<String>,
    /// Most rules to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Print one line of JSON for each rule
    #[arg(long)]
    json: bool,
}

impl Rules {
    pub(crate) fn run(&self) -> Result<()> {
        let registry = load(&self.rules)?;
        let scope = Scope { domain: self.domain.as_deref(), task: self.task.as_deref() };
        let found: Vec<_> = if self.words.is_empty() {
            let within = |wanted: Option<&str>, own: &str| wanted.is_none_or(|w| w.eq_ignore_ascii_case(own));
            let rules = registry.rules().iter();
            rules
                .filter(|rule| within(scope.task, &rule.task) && within(scope.domain, &rule.dom))
                .map(|rule| (rule, None))
                .collect()
        } else {
            let found = registry.find_all(&self.words.join(" "), scope, self.top);
            found.into_iter().map(|found| (found.rule, Some(found.score))).collect()
        };
        for (rule, score) in found.into_iter().take(self.top) {
            if self.json {
                writeln!(stdout(), "{}", serde_json::json!({ "rule": rule, "score": score }))?;
            } else {
                writeln!(stdout(), "{}  {}\n  {}", rule.id, rule.name, rule.packet)?;
            }
        }
        for refused in registry.refused() {
            eprintln!("avp: {}: skipped an invalid rule: {refused:?}", self.rules);
        }
        Ok(())
    }
}

/// Reads rules from a URL, a folder or a file.
pub(super) fn load(source: &str) -> Result<RuleRegistry> {
    if source.starts_with("http://") || source.starts_with("https://") {
        return RuleRegistry::from_url(source).with_context(|| source.to_owned());
    }
    let path = Path::new(source);
    must_exist(path)?;
    let registry =
        if path.is_dir() { RuleRegistry::from_folder(path) } else { RuleRegistry::from_file(path) };
    Ok(registry?)
}
