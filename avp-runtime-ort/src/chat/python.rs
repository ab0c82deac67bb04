//! What Python does inside a template where minijinja does otherwise: JSON as `json.dumps` writes it, numbers as `repr`
//! does, and the clock as `datetime` formats it.

use avp_core::json::Json;
use minijinja::{
    Error, ErrorKind, Output, State, Value,
    value::{Kwargs, Rest, ValueKind},
};

use super::budget::{self, DEEPEST};

/// The longest indent or separator, in bytes: more than a line holds is no layout but an attack on memory.
const LONGEST_LAYOUT: usize = 80;

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
                format!("tojson: an indent or separator is no text of at most {LONGEST_LAYOUT} bytes");
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// Transformers' function for a template that refuses.
pub(super) fn raise_exception(state: &State<'_, '_>, message: &Value) -> Result<Value, Error> {
    budget::pay_for_items(state, message)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// The local time, as Python's `datetime.now().strftime(format)`.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(format, &now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

/// Writes a value as Python's `str` does.
pub(super) fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match float(value) {
        Some(number) => out.write_str(&float_repr(number)).map_err(Error::from),
        None => {
            budget::pay_for_items(state, value)?;
            minijinja::escape_formatter(out, state, value)
        }
    }
}

struct JsonWriter<'run> {
    /// Pays for each value and its bytes.
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
            return Err(Error::new(ErrorKind::BadSerialization, "a value nested too deeply for JSON"));
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
                    keys.iter().try_for_each(|key| budget::pay_for_items(self.state, key))?;
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
            budget::pay(self.state, out.len() - before)?;
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
        budget::pay(self.state, text.len())?;
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

/// As Python's `repr` writes it, which outside of JSON has small letters for what is no number.
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
