//! Workflow tables and rules from JSON.
//!
//! `aacp` reads both with serde. The core's reader of JSON is in the module anyway, and serves here: serde and its code
//! for these few structs would be a fifth of the module.

use aacp::{
    learn::Rule,
    workflow::{CallSource, Value, WorkflowSource},
};
use avp_core::json::Json;

use crate::fault::Fault;

/// What is wrong with a text: where it stops being JSON, or what is not as the format has it.
type Outcome<T> = Result<T, String>;

pub(crate) fn workflows(text: &str) -> Result<Vec<WorkflowSource>, Fault> {
    let read = || {
        let table = parse(text)?;
        list(&table, "workflows", workflow)?.ok_or_else(|| missing("workflows"))
    };
    read().map_err(|wrong| {
        Fault::packet("bad_table", None, format_args!("expected a table of workflows: {wrong}"))
    })
}

/// Rules in the community's format: an object with a list under `rules`, or the bare list.
pub(crate) fn rules(text: &str) -> Result<Vec<Rule>, Fault> {
    let read = || {
        let json = parse(text)?;
        match json.as_array() {
            Some(rules) => rules.iter().map(rule).collect(),
            None => list(&json, "rules", rule)?.ok_or_else(|| missing("rules")),
        }
    };
    read().map_err(|wrong| {
        Fault::packet("bad_rules", None, format_args!("expected rules in the community's format: {wrong}"))
    })
}

/// An argument as JSON; none for objects and nested lists, which no argument can be.
pub(crate) fn argument(text: &str) -> Option<Value> {
    value(&Json::parse(text).ok()?)
}

fn workflow(json: &Json) -> Outcome<WorkflowSource> {
    Ok(WorkflowSource {
        name: needed(json, "name")?,
        encoder: text(json, "encoder")?,
        about: text(json, "about")?,
        calls: list(json, "calls", call)?.ok_or_else(|| missing("calls"))?,
    })
}

fn call(json: &Json) -> Outcome<CallSource> {
    let filled = |name| json.get(name).is_some_and(|value| !value.is_null());
    let mut optional = std::collections::BTreeMap::new();
    if let Some(defaults) = json.get("optional") {
        for (name, default) in defaults.as_entries().ok_or_else(|| wrong("optional", "an object"))? {
            let name = name.ok_or_else(|| wrong("optional", "names of Unicode"))?;
            optional.insert(name.to_owned(), value(default));
        }
    }
    Ok(CallSource {
        name: needed(json, "name")?,
        about: text(json, "about")?,
        required: list(json, "required", item)?.unwrap_or_default(),
        optional,
        packet: if filled("packet") { Some(needed(json, "packet")?) } else { None },
        steps: if filled("steps") { list(json, "steps", item)? } else { None },
    })
}

fn rule(json: &Json) -> Outcome<Rule> {
    Ok(Rule {
        id: needed(json, "id")?,
        name: text(json, "name")?,
        description: text(json, "description")?,
        task: text(json, "task")?,
        dom: text(json, "dom")?,
        packet: needed(json, "packet")?,
        tags: list(json, "tags", item)?.unwrap_or_default(),
        version: text(json, "version")?,
        source: text(json, "source")?,
        validated: match json.get("validated") {
            None => false,
            Some(flag) => flag.as_bool().ok_or_else(|| wrong("validated", "a boolean"))?,
        },
    })
}

/// As [`Value::from_json`] has it.
fn value(json: &Json) -> Option<Value> {
    if let Some(items) = json.as_array() {
        return items.iter().map(written).collect::<Option<Vec<String>>>().map(Value::List);
    }
    Some(if json.is_null() {
        Value::Nothing
    } else if let Some(flag) = json.as_bool() {
        Value::Flag(flag)
    } else if let Some(text) = json.as_str() {
        Value::Text(text.to_owned())
    } else {
        Value::Number(json.as_f64().filter(|number| number.is_finite())?, written(json)?)
    })
}

/// An item of a list as Python writes it.
fn written(json: &Json) -> Option<String> {
    match (json.as_str(), json.as_bool()) {
        (Some(text), _) => Some(text.to_owned()),
        (_, Some(flag)) => Some(if flag { "True" } else { "False" }.to_owned()),
        _ if json.as_f64()?.is_finite() => Some(json.to_canonical()),
        _ => None,
    }
}

fn parse(text: &str) -> Outcome<Json> {
    Json::parse(text).map_err(|error| error.to_string())
}

fn needed(json: &Json, name: &str) -> Outcome<String> {
    json.get(name).map_or_else(|| Err(missing(name)), |value| as_text(value, name))
}

/// A text that may be left out, but not be something else.
fn text(json: &Json, name: &str) -> Outcome<String> {
    json.get(name).map_or_else(|| Ok(String::new()), |value| as_text(value, name))
}

fn as_text(value: &Json, name: &str) -> Outcome<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "text"))
}

fn item(value: &Json) -> Outcome<String> {
    as_text(value, "an item of a list")
}

fn list<T>(json: &Json, name: &str, read: fn(&Json) -> Outcome<T>) -> Outcome<Option<Vec<T>>> {
    let Some(value) = json.get(name) else { return Ok(None) };
    let items = value.as_array().ok_or_else(|| wrong(name, "a list"))?;
    items.iter().map(read).collect::<Outcome<_>>().map(Some)
}

fn missing(name: &str) -> String {
    ["`", name, "` is missing"].concat()
}

fn wrong(name: &str, expected: &str) -> String {
    ["`", name, "` is not ", expected].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aacp::{
        learn::RuleRegistry,
        workflow::{WorkflowError, Workflows},
    };
    use proptest::prelude::*;

    #[test]
    fn the_published_table_is_what_serde_reads_of_it() {
        let ours = Workflows::from_sources(workflows(Workflows::STANDARD).unwrap()).unwrap();
        assert_eq!(format!("{ours:?}"), format!("{:?}", Workflows::standard()));
    }

    #[test]
    fn tables_and_rules_are_refused_where_serde_refuses_them() {
        let call = |call: &str| format!(r#"{{"workflows":[{{"name":"w","calls":[{call}]}}]}}"#);
        for (text, refused) in [
            (r#"{"workflows":[]}"#.to_owned(), false),
            (call(r#"{"name":"c","packet":"A|B","steps":null,"more":1}"#), false),
            (call(r#"{"name":"c","packet":"A|B","required":null}"#), true),
            (call(r#"{"name":"c","packet":7}"#), true),
            (call(r#"{"packet":"A|B"}"#), true),
            (call(r#"{"name":"c","optional":[]}"#), true),
            ("{".to_owned(), true),
            ("[]".to_owned(), true),
            ("{}".to_owned(), true),
        ] {
            let serde = matches!(Workflows::from_json(&text), Err(WorkflowError::Table { .. }));
            assert_eq!((workflows(&text).is_err(), serde), (refused, refused), "{text}");
        }
        for (text, refused) in [
            (r#"[{"id":"a","packet":"LOG|HR"}]"#, false),
            (r#"{"rules":[{"id":"a","packet":"LOG|HR","tags":["x"],"validated":true,"more":{}}]}"#, false),
            (r#"{"rules":3}"#, true),
            (r#"[{"id":"a"}]"#, true),
            (r#"[{"id":"a","packet":"LOG|HR","validated":1}]"#, true),
            (r#"[{"id":"a","packet":"LOG|HR","name":null}]"#, true),
            (r#"[{"id":"a","packet":"LOG|HR","tags":[1]}]"#, true),
            ("nonsense", true),
        ] {
            let serde = RuleRegistry::from_json(text).is_err();
            assert_eq!((rules(text).is_err(), serde), (refused, refused), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_argument_is_what_serde_reads_of_it(
            text in prop_oneof![
                any::<i64>().prop_map(|number| number.to_string()),
                any::<u64>().prop_map(|number| number.to_string()),
                any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
                // `-0` is the integer 0 to Python and to us, and a float to serde; `JSON.stringify` never writes it.
                r#"\[(true|null|"[a-z]{0,3}"|(0|-?[1-9][0-9]{0,3})(\.[0-9]{1,3})?)(,(false|7))?\]"#,
                Just("{}".to_owned()),
            ]
        ) {
            let serde = serde_json::from_str(&text).ok().and_then(|json| Value::from_json(&json));
            prop_assert_eq!(argument(&text), serde);
        }
    }
}
