//! Runs the conformance cases of this folder against an implementation: JSON in, JSON out.
//!
//! Include it with `#[path = "…/test-vectors/avp/runner.rs"] mod runner;`. Every implementation and binding answers the
//! same operations, so every one of them reads the same files.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// What an implementation answers: a result, or `{"kind": …, "offset": …}`.
pub(crate) type Answer = Result<Value, Value>;

/// Runs every case of `file`, and returns how many there were.
///
/// # Panics
///
/// With every case that failed, if any did.
pub(crate) fn run_file(file: &Path, implementation: &dyn Fn(&str, &Value) -> Answer) -> usize {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let cases: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let cases = cases["cases"].as_array().expect("a file of cases has cases");
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let fault = check(case, implementation).err()?;
            Some(format!("{} ({}): {fault}", case["name"], case["rule"]))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", file.display(), cases.len(), failures.join("\n"));
    cases.len()
}

fn check(case: &Value, implementation: &dyn Fn(&str, &Value) -> Answer) -> Result<(), String> {
    let operation = case["operation"].as_str().ok_or("the case names no operation")?;
    let answer = implementation(operation, &case["input"]);
    if let Some(error) = case.get("error") {
        return match answer {
            Err(found) => contains(&found, error, "error"),
            Ok(found) => Err(format!("expected {error}, got {found}")),
        };
    }
    let found = answer.map_err(|error| format!("failed with {error}"))?;
    let expect = case.get("expect").ok_or("the case expects nothing")?;
    contains(&found, expect, "result")?;
    match case.get("rewrite") {
        Some(rewrite) => check_rewrite(case, rewrite, found, implementation),
        None => Ok(()),
    }
}

/// Encodes what was decoded, and compares.
fn check_rewrite(
    case: &Value,
    rewrite: &Value,
    mut decoded: Value,
    implementation: &dyn Fn(&str, &Value) -> Answer,
) -> Result<(), String> {
    decoded["dialect"] = rewrite["dialect"].clone();
    let encoded =
        implementation("frame.encode", &decoded).map_err(|error| format!("encoding failed with {error}"))?;
    if rewrite["as"] == "bytes" {
        return contains(&encoded["hex"], &case["input"]["hex"], "encoded");
    }
    let again = implementation("frame.decode", &json!({"hex": encoded["hex"]}))
        .map_err(|error| format!("decoding what was encoded failed with {error}"))?;
    let mut expect: Map<String, Value> =
        case["expect"].as_object().cloned().ok_or("a frame's expectation is an object")?;
    if expect["compressed"] == true {
        // Another compressor, another length.
        expect.remove("payload_length");
    }
    contains(&again, &Value::Object(expect), "decoded again")
}

/// Whether `found` has everything that `expected` has.
fn contains(found: &Value, expected: &Value, at: &str) -> Result<(), String> {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (key, expected) in expected {
                let found = found.get(key).ok_or_else(|| format!("{at} has no {key}"))?;
                contains(found, expected, &format!("{at}.{key}"))?;
            }
            Ok(())
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            found.iter().zip(expected).enumerate().try_for_each(|(index, (found, expected))| {
                contains(found, expected, &format!("{at}[{index}]"))
            })
        }
        _ if found == expected => Ok(()),
        _ => Err(format!("{at}: expected {expected}, got {found}")),
    }
}
