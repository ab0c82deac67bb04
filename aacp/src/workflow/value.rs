//! Arguments of a call.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};

/// An argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value; a field that needs it is left out.
    Nothing,
    /// Text.
    Text(String),
    /// A list, written with commas. An empty list counts as no value.
    List(Vec<String>),
    /// A number and its text.
    Number(f64, String),
    /// A Boolean.
    Flag(bool),
}

impl Value {
    /// The value of a JSON value, written as by the Python package; `None` for objects and nested lists.
    pub fn from_json(json: &serde_json::Value) -> Option<Self> {
        Some(match json {
            serde_json::Value::Null => Value::Nothing,
            serde_json::Value::Bool(flag) => Value::Flag(*flag),
            serde_json::Value::String(text) => Value::Text(text.clone()),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(whole), ..) => Value::from(whole),
                (_, Some(whole), Some(float)) => Value::Number(float, whole.to_string()),
                (.., Some(float)) => Value::from(float),
                _ => return None,
            },
            serde_json::Value::Array(items) => {
                let text = |item| match Value::from_json(item)? {
                    Value::List(_) => None,
                    value => value.written(),
                };
                Value::List(items.iter().map(text).collect::<Option<_>>()?)
            }
            serde_json::Value::Object(_) => return None,
        })
    }

    /// The text of the value, if it has one.
    pub(super) fn written(&self) -> Option<String> {
        match self {
            Value::Nothing => None,
            Value::List(items) if items.is_empty() => None,
            Value::Text(text) => Some(text.clone()),
            Value::List(items) => Some(items.join(",")),
            Value::Number(_, text) => Some(text.clone()),
            Value::Flag(flag) => Some(if *flag { "True" } else { "False" }.to_owned()),
        }
    }

    /// Whether the value is true in a condition: not `Nothing`, zero, empty or false.
    pub(super) fn holds(&self) -> bool {
        match self {
            Value::Nothing => false,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Number(number, _) => *number != 0.0,
            Value::Flag(flag) => *flag,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl<T: Into<String>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Value {
    fn from(items: [&str; N]) -> Self {
        Value::List(items.iter().map(|item| (*item).to_owned()).collect())
    }
}

impl From<i64> for Value {
    fn from(whole: i64) -> Self {
        Value::Number(whole as f64, whole.to_string())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number, python_float(number))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Nothing, Into::into)
    }
}

/// A float as by Python's `repr`: the shortest digits that parse to the same number, and an exponent with a sign and at
/// least two digits from 1e16 and below 1e-4.
fn python_float(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if number.is_nan() {
        return "nan".to_owned();
    }
    // If two shortest candidates are equally near, `ryu` takes the even one, as Python does and Rust's own formatting does
    // not. `ryu` writes exponents without sign and padding, and 1e-5 without an exponent.
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(number);
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    if let Some((head, tail)) = unsigned.strip_prefix("0.0000").and_then(|digits| digits.split_at_checked(1))
    {
        let point = if tail.is_empty() { "" } else { "." };
        return format!("{sign}{head}{point}{tail}e-05");
    }
    match text.split_once('e') {
        None => text.to_owned(),
        Some((digits, exponent)) => {
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, text) in [
            (4200.0, "4200.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.000_099, "-9.9e-05"),
            (0.000_012_5, "1.25e-05"),
            // …173.25, halfway between two that read back the same.
            (1_951_488_759_730_173.3, "1951488759730173.2"),
            (1.5e-7, "1.5e-07"),
            (2.5e300, "2.5e+300"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(python_float(number), text);
        }
    }

    #[test]
    fn json_becomes_a_value_or_is_refused() {
        let value = |text| Value::from_json(&serde_json::from_str(text).unwrap());
        assert_eq!(value("[1,\"a\",2.0]"), Some(Value::List(["1", "a", "2.0"].map(String::from).to_vec())));
        assert_eq!(value("18446744073709551615").unwrap().written().as_deref(), Some("18446744073709551615"));
        assert_eq!(value("{}"), None);
        assert_eq!(value("[null]"), None);
        assert_eq!(value("[[\"a\"]]"), None);
    }
}
