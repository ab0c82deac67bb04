//! Packets from workflow tables.

use std::collections::BTreeMap;

use aacp::workflow::{Call, Value, WorkflowError};
use avp_core::json::Json;
use serde::{Deserialize, Serialize};

use crate::{
    argument::argument,
    fault::{Fault, Outcome},
    json::answer,
    packets::{Vocabulary, version},
};

/// A workflow table.
#[derive(Debug)]
pub struct Workflows(aacp::workflow::Workflows);

#[derive(Serialize)]
struct WorkflowInfo<'a> {
    name: &'a str,
    encoder: &'a str,
    about: &'a str,
    calls: Vec<CallInfo<'a>>,
}

#[derive(Serialize)]
struct CallInfo<'a> {
    name: &'a str,
    about: &'a str,
    required: &'a [String],
    optional: BTreeMap<&'a str, Argument<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Argument<'a> {
    Nothing,
    Text(&'a str),
    List(&'a [String]),
    Number(f64),
    Flag(bool),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EncodeOptions {
    version: Option<String>,
    vocabulary: Vocabulary,
}

impl Workflows {
    /// The published table, or the table in `text`.
    ///
    /// # Errors
    /// `bad_table`, `bad_template` or `bad_step`.
    pub fn new(text: Option<&str>) -> Outcome<Self> {
        let text = text.unwrap_or(aacp::workflow::Workflows::STANDARD);
        aacp::workflow::Workflows::from_json(text).map(Self).map_err(workflow_fault)
    }

    /// Every workflow with its calls.
    ///
    /// # Errors
    /// None.
    pub fn list(&self) -> Outcome<String> {
        answer(&self.0.iter().map(WorkflowInfo::from).collect::<Vec<_>>())
    }

    /// The packets of a call.
    ///
    /// # Errors
    /// `unknown_workflow`, `unknown_call`, `missing_argument` and others of [`WorkflowError`], `unknown_version`, or an
    /// argument that is wrong.
    pub fn encode(&self, workflow: &str, call: &str, args: &str, options: &str) -> Outcome<String> {
        let options: EncodeOptions = argument(options, "options")?;
        let args = Json::parse(args).map_err(|error| Fault::json(error.into(), args))?;
        let mut call: Call<'_> = self.0.call(workflow, call).map_err(workflow_fault)?;
        for (name, value) in args.as_entries().into_iter().flatten() {
            let name = name.unwrap_or_default();
            let value = self::value(value);
            let value = value.ok_or_else(|| workflow_fault(WorkflowError::WrongKind(name.to_owned())));
            call = call.arg(name, value?);
        }
        let words = options.vocabulary.words();
        let call = call.version(version(options.version.as_deref())?).schema(words.schema());
        answer(&call.packets().map_err(workflow_fault)?)
    }
}

impl<'a> From<&'a aacp::workflow::Workflow> for WorkflowInfo<'a> {
    fn from(workflow: &'a aacp::workflow::Workflow) -> Self {
        Self {
            name: workflow.name(),
            encoder: workflow.encoder(),
            about: workflow.about(),
            calls: workflow.calls().iter().map(CallInfo::from).collect(),
        }
    }
}

impl<'a> From<&'a aacp::workflow::CallSpec> for CallInfo<'a> {
    fn from(call: &'a aacp::workflow::CallSpec) -> Self {
        let value = |value: &'a Value| match value {
            Value::Nothing => Argument::Nothing,
            Value::Text(text) => Argument::Text(text),
            Value::List(items) => Argument::List(items),
            Value::Number(number, _) => Argument::Number(*number),
            Value::Flag(flag) => Argument::Flag(*flag),
        };
        Self {
            name: call.name(),
            about: call.about(),
            required: call.required(),
            optional: call.optional().map(|(name, default)| (name, value(default))).collect(),
        }
    }
}

/// As [`Value::from_json`], from the core's JSON, which keeps every digit of an integer.
fn value(json: &Json) -> Option<Value> {
    if let Some(items) = json.as_array() {
        let text = |item| match value(item)? {
            Value::Text(text) | Value::Number(_, text) => Some(text),
            Value::Flag(flag) => Some(if flag { "True" } else { "False" }.to_owned()),
            Value::Nothing | Value::List(_) => None,
        };
        return items.iter().map(text).collect::<Option<_>>().map(Value::List);
    }
    if json.is_null() {
        return Some(Value::Nothing);
    }
    if let Some(flag) = json.as_bool() {
        return Some(flag.into());
    }
    if let Some(text) = json.as_str() {
        return Some(text.into());
    }
    let number = json.as_f64().filter(|number| number.is_finite())?;
    Some(Value::Number(number, json.to_canonical()))
}

fn workflow_fault(error: WorkflowError) -> Fault {
    Fault::packet(error.kind(), None, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_argument_is_what_serde_reads_of_it(
            text in prop_oneof![
                any::<i64>().prop_map(|number| number.to_string()),
                any::<u64>().prop_map(|number| number.to_string()),
                any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
                // `-0` is the integer 0 to Python and a float to serde; `JSON.stringify` never writes it.
                r#"\[(true|null|"[a-z]{0,3}"|(0|-?[1-9][0-9]{0,3})(\.[0-9]{1,3})?|\[("a")?\])(,(false|7))?\]"#,
                r#"null|false|"[a-z]{0,3}"|\{\}|\[\]|"\\ud83d""#,
            ]
        ) {
            let ours = Json::parse(&text).ok().and_then(|json| value(&json));
            let serde = serde_json::from_str(&text).ok().and_then(|json| Value::from_json(&json));
            prop_assert_eq!(ours, serde);
        }
    }
}
