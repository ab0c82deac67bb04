//! Options from a TOML file, with the long names of the command line as keys.

use std::{ffi::OsString, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{ArgAction, Args as _, Parser};
use toml::{Table, Value};

use super::Serve;

/// `avp serve` alone, to parse a file's options in front of those of the command line.
#[derive(Parser)]
#[command(name = "avp serve")]
struct Alone {
    #[command(flatten)]
    serve: Serve,
}

/// The options of this process, completed with those of `file`. The command line has precedence.
///
/// # Errors
/// When the file cannot be read, or a key is unknown or its value wrong. The error names file and key.
pub(super) fn with_file(file: &Path) -> Result<Serve> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    merge(&text, std::env::args_os().skip(2)).with_context(|| file.display().to_string())
}

fn merge(text: &str, command_line: impl Iterator<Item = OsString>) -> Result<Serve> {
    let table: Table =
        text.parse().map_err(|error: toml::de::Error| anyhow::anyhow!(located(&error, text)))?;
    let from_file = arguments(&table)?;
    // The file alone first, so that its faults are reported even if the command line overrides them.
    let parse = |arguments: Vec<OsString>| {
        let name = [OsString::from("avp serve")];
        Alone::try_parse_from(name.into_iter().chain(arguments)).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            anyhow::anyhow!(line.trim_start_matches("error: ").to_owned())
        })
    };
    parse(from_file.clone())?;
    Ok(parse(from_file.into_iter().chain(command_line).collect())?.serve)
}

/// A table as arguments.
fn arguments(table: &Table) -> Result<Vec<OsString>> {
    let command = Serve::augment_args(clap::Command::new("serve"));
    let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let is_list = |key: &str| {
        let takes_several = |argument: &clap::Arg| matches!(argument.get_action(), ArgAction::Append);
        command.get_arguments().any(|argument| argument.get_long() == Some(key) && takes_several(argument))
    };
    let mut arguments = Vec::new();
    for (key, value) in table {
        ensure!(key != "config" && known.contains(&key.as_str()), "unknown option {key:?}");
        let values = match value {
            Value::Array(values) if is_list(key) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            arguments.push(argument(key, value)?);
        }
    }
    Ok(arguments)
}

fn argument(key: &str, value: &Value) -> Result<OsString> {
    let value = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        _ => bail!("{key}: expected a string, a number, true or false"),
    };
    Ok(format!("--{key}={value}").into())
}

/// A parser's message with its line number, on one line.
fn located(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| Some(text.get(..span.start)?.matches('\n').count() + 1));
    let message = error.message().replace('\n', ", ");
    line.map_or(message.clone(), |line| format!("line {line}: {message}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn merged(text: &str, command_line: &[&str]) -> Result<Serve> {
        merge(text, command_line.iter().map(OsString::from))
    }

    #[test]
    fn a_file_holds_what_the_command_line_takes_and_the_command_line_wins() {
        let file =
            "listen = \"127.0.0.1:9000\"\nmax-body = \"64MiB\"\nttl = 90\nany-session = true\nthreads = 2\n";
        let serve = merged(file, &["--listen", "127.0.0.1:0", "--any-session=false"]).unwrap();
        assert_eq!(serve.listen, "127.0.0.1:0");
        assert_eq!((serve.store.max_body, serve.store.ttl), (Some(64 << 20), Duration::from_secs(90)));
        assert!(!serve.access.any_session);
        assert!(merged(file, &["--any-session"]).unwrap().access.any_session);
        assert_eq!(merged("", &[]).unwrap().store.max_body, None);
        let hosts =
            merged("allowed-host = [\"a\", \"b\"]\n", &["--allowed-host", "c"]).unwrap().access.allowed_host;
        assert_eq!(hosts, ["a", "b", "c"]);
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let serve = merged("", &[]).unwrap();
        let keeping = avp_transport::store::StoreOptions::default();
        assert_eq!(serve.store.ttl, keeping.ttl);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        for (text, named) in [
            ("lisen = \"x\"", "\"lisen\""),
            ("config = \"other.toml\"", "\"config\""),
            ("help = true", "\"help\""),
            ("ttl = [1]", "ttl"),
            ("[listen]\nport = 1", "listen"),
            ("max-body = \"much\"", "--max-body"),
            ("any-session = \"perhaps\"", "--any-session"),
            ("ttl = 1\nttl = 2", "line 2"),
            ("ttl: 1", "line 1"),
        ] {
            let error = merged(text, &[]).err().unwrap().to_string();
            assert!(error.contains(named) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
