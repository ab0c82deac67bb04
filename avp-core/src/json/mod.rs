//! JSON as Python's `json` module reads and writes it.
//!
//! The peers hash `json.dumps` of a model's config, so a hash agrees only if every byte of the text does: sorted keys,
//! no spaces, ASCII escapes with surrogate pairs, Python's float `repr`, integers of any size as written, `NaN` and
//! `Infinity`, even a lone surrogate from an escape. No JSON crate preserves all of these.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt::{self, Write};

use self::{parse::Parser, write::write_float};

mod parse;
mod write;

/// A JSON value.
///
/// # Examples
///
/// ```
/// use avp_core::json::Json;
///
/// let value = Json::parse(r#"{"rope_theta": 1e16, "model_type": "qwen2"}"#)?;
/// assert_eq!(value.get("model_type").and_then(Json::as_str), Some("qwen2"));
/// assert_eq!(value.to_canonical(), r#"{"model_type":"qwen2","rope_theta":1e+16}"#);
/// # Ok::<(), avp_core::json::JsonError>(())
/// ```
///
/// Objects keep the order in which their keys first occur; of several values for one key, the last counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Json(Value);

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    /// The digits as written; `-0` is `0`, as for Python.
    Integer(Box<str>),
    Float(f64),
    Text(Text),
    Array(Vec<Json>),
    Object(Vec<(Text, Json)>),
}

/// Text that may hold lone surrogates: generalized UTF-8 (WTF-8), whose byte order is the order of its code points,
/// which is the order that Python sorts by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Text(Box<[u8]>);

/// An error of reading a message or a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The text is not JSON.
    Json(JsonError),
    /// A field has the wrong type.
    Field {
        /// The field, or the message if that is not an object.
        field: &'static str,
        /// The expected type.
        expected: &'static str,
    },
}

impl ReadError {
    /// `"bad_json"` or `"bad_field"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Json(error) => error.kind(),
            Self::Field { .. } => "bad_field",
        }
    }

    /// The byte offset of the syntax error; 0 if the text is JSON.
    #[must_use]
    pub const fn offset(&self) -> usize {
        match self {
            Self::Json(error) => error.offset(),
            Self::Field { .. } => 0,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::Field { field, expected } => write!(f, "expected {expected} for {field}"),
        }
    }
}

impl core::error::Error for ReadError {}

impl From<JsonError> for ReadError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

/// A syntax error in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    expected: &'static str,
    offset: usize,
}

impl JsonError {
    /// `"bad_json"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        "bad_json"
    }

    /// The byte offset of the error.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid JSON: expected {} at byte {}", self.expected, self.offset)
    }
}

impl core::error::Error for JsonError {}

impl Json {
    /// Reads a text as one value, in memory proportional to the text's length.
    ///
    /// # Errors
    ///
    /// [`JsonError`] if the text is not JSON (`NaN`, `Infinity` and `-Infinity` are accepted), continues after the value,
    /// or nests deeper than 128.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Parser::new(text).only_value()
    }

    /// The value as Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))` writes it.
    #[must_use]
    pub fn to_canonical(&self) -> String {
        let mut text = String::new();
        infallible(self.write_canonical(&mut text));
        text
    }

    /// An object of these entries, in this order.
    #[must_use]
    pub fn object<'a>(entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Text::from(key), value)).collect();
        Self(Value::Object(last_of_each_key(entries)))
    }

    /// The value of `key` in an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()?.find(|(name, _)| name.0[..] == *key.as_bytes()).map(|(_, value)| value)
    }

    /// Whether this is an object.
    #[must_use]
    pub const fn is_object(&self) -> bool {
        matches!(self.0, Value::Object(_))
    }

    /// Whether this is an object without entries.
    #[must_use]
    pub const fn is_empty_object(&self) -> bool {
        matches!(&self.0, Value::Object(entries) if entries.is_empty())
    }

    /// Whether this is `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.0, Value::Null)
    }

    /// The text of a string; `None` for other values, and for a string with a lone surrogate.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Value::Text(text) => core::str::from_utf8(&text.0).ok(),
            _ => None,
        }
    }

    /// The value of `true` or `false`; `None` for everything else.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self.0 {
            Value::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// The items of an array; `None` for everything else.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match &self.0 {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of an object, in the order of the text; `None` for everything else. A key with a lone surrogate
    /// is `None`.
    #[must_use]
    pub fn as_entries(&self) -> Option<impl Iterator<Item = (Option<&str>, &Self)>> {
        Some(self.entries()?.map(|(key, value)| (core::str::from_utf8(&key.0).ok(), value)))
    }

    /// The value of an integer that fits; `None` for everything else.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match &self.0 {
            Value::Integer(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The value of any number; `None` for everything else.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match &self.0 {
            Value::Integer(digits) => parse::float(digits),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Reads a text as one object, named `what` in errors.
    pub(crate) fn parse_object(text: &str, what: &'static str) -> Result<Self, ReadError> {
        let value = Self::parse(text)?;
        match value.is_object() {
            true => Ok(value),
            false => Err(ReadError::Field { field: what, expected: "an object" }),
        }
    }

    /// A field's value; `None` if it is absent or null.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// A field's text; `default` if it is absent or null.
    pub(crate) fn text_field(&self, field: &'static str, default: &str) -> Result<String, ReadError> {
        match self.field(field) {
            None => Ok(default.into()),
            Some(value) => value.as_str().map(Into::into).ok_or(ReadError::Field { field, expected: "text" }),
        }
    }

    /// A field's number; 0 if it is absent or null.
    pub(crate) fn u32_field(&self, field: &'static str) -> Result<u32, ReadError> {
        match self.field(field) {
            None => Ok(0),
            Some(value) => value
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .ok_or(ReadError::Field { field, expected: "an integer of 32 bits" }),
        }
    }

    /// Writes the canonical form: see [`to_canonical`](Self::to_canonical).
    pub(crate) fn write_canonical(&self, out: &mut dyn Write) -> fmt::Result {
        self.write(out, &CANONICAL)
    }

    /// Writes `[[key, value], …]`, sorted by key; `None` if this is not an object.
    pub(crate) fn write_sorted_items(&self, out: &mut dyn Write) -> Option<fmt::Result> {
        let Value::Object(entries) = &self.0 else { return None };
        Some(write_list(out, "[]", CANONICAL.comma, sorted(entries), |out, (key, value)| {
            out.write_char('[')?;
            key.write(out)?;
            out.write_str(CANONICAL.comma)?;
            value.write(out, &CANONICAL)?;
            out.write_char(']')
        }))
    }

    fn entries(&self) -> Option<impl Iterator<Item = &(Text, Self)>> {
        match &self.0 {
            Value::Object(entries) => Some(entries.iter()),
            _ => None,
        }
    }

    fn write(&self, out: &mut dyn Write, style: &Style) -> fmt::Result {
        match &self.0 {
            Value::Null => out.write_str("null"),
            Value::Bool(true) => out.write_str("true"),
            Value::Bool(false) => out.write_str("false"),
            Value::Integer(digits) => out.write_str(digits),
            Value::Float(value) => write_float(out, *value),
            Value::Text(text) => text.write(out),
            Value::Array(items) => {
                write_list(out, "[]", style.comma, items.iter(), |out, item| item.write(out, style))
            }
            Value::Object(entries) => {
                let entry = |out: &mut dyn Write, (key, value): &(Text, Self)| {
                    key.write(out)?;
                    out.write_str(style.colon)?;
                    value.write(out, style)
                };
                if style.sort_keys {
                    write_list(out, "{}", style.comma, sorted(entries), entry)
                } else {
                    write_list(out, "{}", style.comma, entries.iter(), entry)
                }
            }
        }
    }
}

/// The value as Python's `json.dumps(value)` writes it: keys in order, `", "` and `": "` as separators.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &Style { comma: ", ", colon: ": ", sort_keys: false })
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(Value::Text(text.into()))
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self(Value::Bool(value))
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        let mut digits = String::new();
        infallible(write!(digits, "{value}"));
        Self(Value::Integer(digits.into()))
    }
}

impl From<f64> for Json {
    fn from(value: f64) -> Self {
        Self(Value::Float(value))
    }
}

/// Separators and order.
struct Style {
    comma: &'static str,
    colon: &'static str,
    sort_keys: bool,
}

const CANONICAL: Style = Style { comma: ",", colon: ":", sort_keys: true };

fn write_list<T>(
    out: &mut dyn Write,
    brackets: &'static str,
    comma: &str,
    items: impl Iterator<Item = T>,
    mut write_item: impl FnMut(&mut dyn Write, T) -> fmt::Result,
) -> fmt::Result {
    out.write_str(&brackets[..1])?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.write_str(comma)?;
        }
        write_item(out, item)?;
    }
    out.write_str(&brackets[1..])
}

fn sorted(entries: &[(Text, Json)]) -> impl Iterator<Item = &(Text, Json)> {
    let mut sorted: Vec<&(Text, Json)> = entries.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| key);
    sorted.into_iter()
}

/// As a Python dict: each key where it was first, with its last value.
fn last_of_each_key(mut entries: Vec<(Text, Json)>) -> Vec<(Text, Json)> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    // Stable, so equal keys stay in the order of mention.
    order.sort_by(|&a, &b| entries[a].0.cmp(&entries[b].0));
    let mut keep = alloc::vec![true; entries.len()];
    let mut first = order.first().copied().unwrap_or(0);
    for &index in order.iter().skip(1) {
        if entries[index].0 == entries[first].0 {
            entries[first].1 = core::mem::replace(&mut entries[index].1, Json(Value::Null));
            keep[index] = false;
        } else {
            first = index;
        }
    }
    let mut keep = keep.into_iter();
    entries.retain(|_| keep.next().unwrap_or(true));
    entries
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

/// Writing to a `String` does not fail.
fn infallible(result: fmt::Result) {
    debug_assert!(result.is_ok(), "writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn canonical(text: &str) -> String {
        Json::parse(text).unwrap().to_canonical()
    }

    #[test]
    fn floats_are_written_as_python_repr() {
        for (written, repr) in [
            ("1e-06", "1e-06"),
            ("0.00001", "1e-05"),
            ("0.0001", "0.0001"),
            ("0.00012345", "0.00012345"),
            ("1E16", "1e+16"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("123456789012345.6", "123456789012345.6"),
            ("1e15", "1000000000000000.0"),
            ("10000.0", "10000.0"),
            ("1.5e300", "1.5e+300"),
            ("-2.5", "-2.5"),
            ("-0.0", "-0.0"),
            ("0e0", "0.0"),
            ("0.1", "0.1"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("-727079998553582.25", "-727079998553582.2"),
            ("727079998553582.75", "727079998553582.8"),
            ("1e999", "Infinity"),
            ("-1e999", "-Infinity"),
        ] {
            assert_eq!(canonical(written), repr, "{written}");
        }
    }

    #[test]
    fn integers_stay_as_written_at_any_size() {
        for digits in ["0", "-1", "9007199254740993", "123456789012345678901234567890"] {
            assert_eq!(canonical(digits), digits);
        }
        assert_eq!(canonical("-0"), "0");
    }

    #[test]
    fn text_is_escaped_to_ascii_with_surrogate_pairs() {
        assert_eq!(
            canonical(r#""é\u0007\b\f\n\r\t\"\\\/\u007f~""#),
            r#""\u00e9\u0007\b\f\n\r\t\"\\/\u007f~""#
        );
        assert_eq!(canonical(r#""🤝\ud83e\udd1d""#), r#""\ud83e\udd1d\ud83e\udd1d""#);
        assert_eq!(canonical(r#""\ud83ex\udd1d\ud83e\ud83e\udd1d""#), r#""\ud83ex\udd1d\ud83e\ud83e\udd1d""#);
    }

    #[test]
    fn keys_sort_by_code_point_and_the_last_of_a_key_counts() {
        assert_eq!(
            canonical(r#"{"𐀀": 1, "\uffff": 2, "b": 3, "a": {"z": [], "y": {}}, "b": 4}"#),
            r#"{"a":{"y":{},"z":[]},"b":4,"\uffff":2,"\ud800\udc00":1}"#
        );
        // Unsorted, a key stays where it was first.
        let value = Json::parse(r#"{"b":1,"a":2,"b":3,"b":[4,5]}"#).unwrap();
        assert_eq!(value.to_string(), r#"{"b": [4, 5], "a": 2}"#);
    }

    #[test]
    fn python_s_constants_read_and_write() {
        assert_eq!(
            canonical("[NaN, Infinity, -Infinity, null, true, false]"),
            "[NaN,Infinity,-Infinity,null,true,false]"
        );
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_stops_being_json() {
        for (text, offset) in [
            ("", 0),
            ("  ", 2),
            ("{", 1),
            ("{\"a\"}", 4),
            ("{\"a\":1,}", 7),
            ("{a:1}", 1),
            ("[1 2]", 3),
            ("[1,]", 3),
            ("01", 0),
            ("-", 0),
            ("1.", 1),
            ("1e+", 1),
            (".5", 0),
            ("nul", 0),
            ("-Inf", 0),
            ("1 1", 2),
            ("\"a", 2),
            ("\"\t\"", 1),
            ("\"\\x\"", 1),
            ("\"\\u12é4\"", 1),
            ("\"\\u123", 1),
            ("\u{feff}1", 0),
            ("'a'", 0),
        ] {
            assert_eq!(Json::parse(text).unwrap_err().offset(), offset, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(&nested(128)).is_ok());
        assert_eq!(Json::parse(&nested(129)).unwrap_err().offset(), 128);
    }
}
