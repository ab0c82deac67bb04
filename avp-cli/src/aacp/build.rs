//! `avp aacp build`: makes packets from parts, or from the templates of a workflow.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use aacp::{
    Builder, Version,
    workflow::{Value, Workflows},
};
use anyhow::{Context, Result, bail};
use clap::Args;

use super::check::parse_version;
use crate::output::must_exist;

/// Build a packet from parts, or the packets of a workflow
///
/// `avp aacp build FETCH HR --return HR-Agent res=emp_salary` builds a packet from parts;
/// `avp aacp build --workflow payroll fetch_employees period=2024-08` builds the packets of a call.
/// Without a call, --workflow lists the calls of a workflow.
#[derive(Args)]
pub(crate) struct Build {
    /// TASK and DOM, or with --workflow a call; then fields or arguments as KEY=VALUE
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Agent that receives the answer
    #[arg(long = "return", value_name = "AGENT")]
    return_agent: Option<String>,
    /// 1 is critical, 2 medium, 3 low
    #[arg(long, value_name = "P")]
    priority: Option<String>,
    /// Version to write
    #[arg(long, value_name = "V", value_parser = parse_version)]
    version: Option<Version>,
    /// Workflow that defines the packets
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// File with more workflows than the standard ones
    #[arg(long, value_name = "FILE", requires = "workflow")]
    table: Option<PathBuf>,
}

impl Build {
    pub(crate) fn run(&self) -> Result<()> {
        let packets = match &self.workflow {
            Some(workflow) => match self.parts.split_first() {
                Some((call, arguments)) => self.call(workflow, call, arguments)?,
                None => return self.list(workflow),
            },
            None => vec![self.packet()?],
        };
        for packet in packets {
            writeln!(stdout(), "{packet}")?;
        }
        Ok(())
    }

    fn packet(&self) -> Result<String> {
        let [task, domain, fields @ ..] = &self.parts[..] else {
            bail!("expected TASK and DOM, then fields as KEY=VALUE");
        };
        let Some(return_agent) = &self.return_agent else {
            bail!("--return must name the agent that receives the answer")
        };
        let mut builder = Builder::new(task, domain, return_agent);
        if let Some(version) = self.version {
            builder = builder.version(version);
        }
        if let Some(priority) = &self.priority {
            builder = builder.priority_text(priority);
        }
        for field in fields {
            let (key, value) = key_value(field)?;
            builder = builder.field(key, value);
        }
        Ok(builder.build()?)
    }

    fn workflows(&self) -> Result<Workflows> {
        match &self.table {
            None => Ok(Workflows::standard()),
            Some(path) => {
                must_exist(path)?;
                let own = Workflows::from_file(path).with_context(|| path.display().to_string())?;
                Ok(Workflows::standard().with(own))
            }
        }
    }

    fn call(&self, workflow: &str, call: &str, arguments: &[String]) -> Result<Vec<String>> {
        let workflows = self.workflows()?;
        let mut call = workflows.call(workflow, call)?;
        if let Some(version) = self.version {
            call = call.version(version);
        }
        for argument in arguments {
            let (name, text) = key_value(argument)?;
            call = call.arg(name, value(text));
        }
        for (name, given) in [("return_agent", &self.return_agent), ("priority", &self.priority)] {
            if let Some(text) = given {
                call = call.arg(name, text.as_str());
            }
        }
        Ok(call.packets()?)
    }

    fn list(&self, name: &str) -> Result<()> {
        let workflows = self.workflows()?;
        let Some(workflow) = workflows.iter().find(|workflow| workflow.name() == name) else {
            let known: Vec<&str> = workflows.iter().map(|workflow| workflow.name()).collect();
            bail!("unknown workflow {name:?}; expected one of {}", known.join(", "));
        };
        writeln!(stdout(), "{}: {}", workflow.name(), workflow.about())?;
        for call in workflow.calls() {
            let optional: Vec<String> = call.optional().map(|(name, _)| format!("[{name}]")).collect();
            writeln!(
                stdout(),
                "  {} {} {}  {}",
                call.name(),
                call.required().join(" "),
                optional.join(" "),
                call.about()
            )?;
        }
        Ok(())
    }
}

fn key_value(text: &str) -> Result<(&str, &str)> {
    text.split_once('=').with_context(|| format!("expected KEY=VALUE, got {text:?}"))
}

/// Parses lists and numbers as JSON; anything else is a string.
fn value(text: &str) -> Value {
    serde_json::from_str(text).ok().as_ref().and_then(Value::from_json).unwrap_or_else(|| text.into())
}
