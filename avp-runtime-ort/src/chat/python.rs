//! What Python does inside a template where minijinja does otherwise: JSON as `json.dumps` writes it, numbers as `repr`
//! does, and the clock as `datetime` formats it.

use std::slice;

use avp_core::json::Json;
use minijinja::{
    Error, ErrorKind, Output, State, Value, filters, functions,
    value::{Kwargs, Rest, ValueKind, ValueOrKwargs},
};
use minijinja_contrib::pycompat;

/// Levels of lists and maps inside each other; no schema has as many.
const DEEPEST: usize = 128;

/// The longest indent or separator, in bytes.
const LONGEST_LAYOUT: usize = 80;

/// One fuel buys this many bytes of text, as minijinja counts.
const BYTES_PER_FUEL: usize = 64;

/// Transformers' `tojson`: `json.dumps` with `ensure_ascii=False`, so that nothing is escaped for HTML.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    arguments: Rest<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    // In Python's order: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
    let argument = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        let given = arguments.get(at).cloned().map_or_else(|| options.get(name), |value| Ok(Some(value)))?;
        Ok(given.filter(|value: &Value| !value.is_none()))
    };
    let indent = match argument(1, "indent")? {
        None => None,
        Some(indent) if indent.kind() == ValueKind::String => Some(layout(&indent)?),
        Some(indent) => Some(" ".repeat(usize::try_from(indent)?.min(LONGEST_LAYOUT))),
    };
    let separators = match argument(2, "separators")? {
        Some(separators) => {
            let separator = |at| separators.get_item_by_index(at).and_then(|text| layout(&text));
            (separator(0)?, separator(1)?)
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let writer = JsonWriter {
        state,
        ensure_ascii: argument(0, "ensure_ascii")?.is_some_and(|value| value.is_true()),
        sort_keys: argument(3, "sort_keys")?.is_some_and(|value| value.is_true()),
        indent,
        separators,
    };
    options.assert_all_used()?;
    let mut text = String::new();
    writer.write(value, 0, &mut text)?;
    Ok(Value::from_safe_string(text))
}

/// An indent or separator.
fn layout(text: &Value) -> Result<String, Error> {
    match text.as_str() {
        Some(text) if text.len() <= LONGEST_LAYOUT => Ok(text.to_owned()),
        _ => {
            let message =
                format!("tojson: an indent or separator must be a string of at most {LONGEST_LAYOUT} bytes");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// Transformers' function for a template that refuses.
pub(super) fn raise_exception(state: &State<'_, '_>, message: &Value) -> Result<Value, Error> {
    charge_items(state, message, 0)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// Jinja's `namespace`, which takes a dictionary and named values; minijinja's takes one of them.
pub(super) fn namespace(
    state: &mut State<'_, '_>,
    first: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let values = functions::dict(first, named)?;
    Value::from_function(functions::namespace).call(state, &[values])
}

/// The local time, as Python's `datetime.now().strftime(format)`.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(format, &now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

/// Python's methods of strings, lists and maps. Those that multiply text are charged for its size before they make it.
pub(super) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), method, arguments) {
        // The filter checks its size itself.
        (Some(_), "replace", [_, _, ..]) => {
            state.apply_filter("replace", &[slice::from_ref(value), arguments].concat())
        }
        (Some(_), "join", [items]) => join(state, items, Some(value), Rest(Vec::new())),
        (Some(text), "format", _) => {
            // Each number in a format may be the width of a field.
            for digits in text.split(|at: char| !at.is_ascii_digit()).filter(|digits| !digits.is_empty()) {
                charge(state, digits.parse().unwrap_or(usize::MAX))?;
            }
            let longest = arguments.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0);
            charge(state, text.matches('{').count().saturating_mul(longest))?;
            pycompat::unknown_method_callback(state, value, method, arguments)
        }
        _ => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// minijinja's `join`, charged for the length of its items first: a list can hold one long string many times.
pub(super) fn join(
    state: &mut State<'_, '_>,
    items: &Value,
    separator: Option<&Value>,
    options: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    if items.as_object().is_some() {
        charge_items(state, items, 0)?;
    }
    let arguments: Vec<Value> =
        [Some(items), separator].into_iter().flatten().cloned().chain(options.into_values()).collect();
    Value::from_function(filters::join).call(state, &arguments)
}

/// Writes a value as Python's `str` does.
pub(super) fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match float(value) {
        Some(number) => out.write_str(&float_repr(number)).map_err(Error::from),
        None => {
            charge_items(state, value, 0)?;
            minijinja::escape_formatter(out, state, value)
        }
    }
}

/// Charges fuel for each value inside `value`, as often as it is found there, before it is written out.
///
/// # Errors
/// When the fuel runs out, or `value` is nested deeper than [`DEEPEST`].
fn charge_items(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::Map => {
            for key in value.try_iter()? {
                charge_items(state, &key, depth + 1)?;
                charge_items(state, &value.get_item(&key)?, depth + 1)?;
            }
        }
        // An iterator of unknown length is written without its items.
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() => {
            for item in value.try_iter()? {
                charge_items(state, &item, depth + 1)?;
            }
        }
        _ => {}
    }
    charge(state, value.as_str().map_or(0, str::len))
}

fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(1 + (bytes / BYTES_PER_FUEL) as u64)
}

fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a value is nested more than {DEEPEST} levels deep"))
}

struct JsonWriter<'run> {
    state: &'run State<'run, 'run>,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    /// Between items, and between key and value.
    separators: (String, String),
}

impl JsonWriter<'_> {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.write_str(value.as_str().unwrap_or_default(), out)?,
            ValueKind::Seq | ValueKind::Iterable => {
                self.write_all(['[', ']'], value.try_iter()?, depth, out, |item, out| {
                    self.write(item, depth + 1, out)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.iter().try_for_each(|key| charge_items(self.state, key, depth))?;
                    keys.sort();
                }
                self.write_all(['{', '}'], keys, depth, out, |key, out| {
                    self.write_key(key, out)?;
                    out.push_str(&self.separators.1);
                    self.write(&value.get_item(key)?, depth + 1, out)
                })?;
            }
            other => return Err(not_json(&format!("a value of type {other}"))),
        }
        Ok(())
    }

    fn write_all(
        &self,
        [open, close]: [char; 2],
        items: impl IntoIterator<Item = Value>,
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(indent.as_str(), depth));
            }
        };
        out.push(open);
        let mut is_empty = true;
        for item in items {
            let before = out.len();
            if !is_empty {
                out.push_str(&self.separators.0);
            }
            is_empty = false;
            line(depth + 1, out);
            charge(self.state, out.len() - before)?;
            write(&item, out)?;
        }
        if !is_empty {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    /// Python writes keys that are numbers, booleans or `None` as strings.
    fn write_key(&self, key: &Value, out: &mut String) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.write_str(key.as_str().unwrap_or_default(), out)?,
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                out.push('"');
                self.write(key, 0, out)?;
                out.push('"');
            }
            other => return Err(not_json(&format!("a key of type {other}"))),
        }
        Ok(())
    }

    fn write_str(&self, text: &str, out: &mut String) -> Result<(), Error> {
        charge(self.state, text.len())?;
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                // DEL is ASCII, which Python leaves alone.
                _ if character < ' ' || (self.ensure_ascii && !character.is_ascii()) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
        Ok(())
    }
}

fn not_json(what: &str) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("{what} cannot be written as JSON"))
}

fn number(value: &Value) -> String {
    match float(value) {
        Some(number) if number.is_nan() => "NaN".to_owned(),
        Some(number) if number.is_infinite() => {
            if number > 0.0 {
                "Infinity".to_owned()
            } else {
                "-Infinity".to_owned()
            }
        }
        Some(number) => float_repr(number),
        None => value.to_string(),
    }
}

/// The number, where it is a float and no integer.
fn float(value: &Value) -> Option<f64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    is_float.then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// The `repr` of Python, which writes `nan` and `inf` in lower case.
fn float_repr(number: f64) -> String {
    if number.is_finite() { Json::from(number).to_canonical() } else { number.to_string().to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_repr_writes_them() {
        for (number, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-300, "1.5e-300"),
            (-0.0, "-0.0"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float_repr(number), expected);
        }
    }

    #[test]
    fn the_clock_speaks_strftime_and_refuses_what_it_does_not_know() {
        let year = strftime_now("%Y").unwrap();
        assert!(year.len() == 4 && year.parse::<u16>().is_ok_and(|year| year >= 2025), "{year}");
        assert_eq!(strftime_now("%d %b %Y|%H:%M").unwrap().len(), "26 Jul 2024|10:00".len());
        assert!(strftime_now("%").is_err());
    }
}
