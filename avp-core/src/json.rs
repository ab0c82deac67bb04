//! JSON as Python's `json` module reads and writes it.
//!
//! The peers hash `json.dumps` of a model's config, so a hash agrees only if every byte of the text does: sorted keys,
//! no spaces, ASCII escapes with surrogate pairs, Python's float `repr`, integers of any size as written, `NaN` and
//! `Infinity`, even a lone surrogate from an escape. No JSON crate keeps all of these, hence this one file.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt::{self, Write};

/// Arrays and objects may nest this deep.
const MAX_DEPTH: u32 = 128;

/// A JSON value.
///
/// # Examples
///
/// ```
/// # use avp_core::json::Json;
/// let value = Json::parse(r#"{"rope_theta": 1e16, "model_type": "qwen2"}"#).unwrap();
/// assert_eq!(value.get("model_type").and_then(Json::as_str), Some("qwen2"));
/// assert_eq!(value.to_canonical(), r#"{"model_type":"qwen2","rope_theta":1e+16}"#);
/// ```
///
/// Objects keep the order of their first mention of each key; of values for one key, the last counts.
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

/// Why JSON text is not the message or config that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The text is not JSON.
    Json(JsonError),
    /// A field holds something else than it should.
    Field {
        /// The field's name, or the message's where that is no object.
        field: &'static str,
        /// What it should hold.
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

    /// Where the text stops being JSON, in bytes from its start; 0 where it is JSON.
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
            Self::Field { field, expected } => write!(f, "{field} should be {expected}"),
        }
    }
}

impl core::error::Error for ReadError {}

impl From<JsonError> for ReadError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

/// Why text is not JSON.
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

    /// Where the text stops being JSON, in bytes from its start.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: expected {} at byte {}", self.expected, self.offset)
    }
}

impl core::error::Error for JsonError {}

impl Json {
    /// Reads a whole text as one value.
    ///
    /// Memory stays within a small multiple of the text's length.
    ///
    /// # Errors
    ///
    /// [`JsonError`] where the text is not JSON (`NaN`, `Infinity` and `-Infinity` count as JSON here), has something
    /// after the value, or nests deeper than 128.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let mut parser = Parser { text, pos: 0 };
        let value = parser.value(MAX_DEPTH)?;
        parser.skip_space();
        if parser.pos == text.len() { Ok(value) } else { Err(parser.expected("the end")) }
    }

    /// The value as Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))` writes it.
    #[must_use]
    pub fn to_canonical(&self) -> String {
        let mut text = String::new();
        infallible(self.write_canonical(&mut text));
        text
    }

    /// An object with these entries, in this order.
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
            Value::Integer(digits) => digits.parse().ok(),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Reads a whole text as one object, called `what` in errors.
    pub(crate) fn parse_object(text: &str, what: &'static str) -> Result<Self, ReadError> {
        let value = Self::parse(text)?;
        match value.is_object() {
            true => Ok(value),
            false => Err(ReadError::Field { field: what, expected: "an object" }),
        }
    }

    /// A field's value; `None` where it is absent or null.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// A field's text; `default` where it is absent or null.
    pub(crate) fn text_field(&self, field: &'static str, default: &str) -> Result<String, ReadError> {
        match self.field(field) {
            None => Ok(default.into()),
            Some(value) => value.as_str().map(Into::into).ok_or(ReadError::Field { field, expected: "text" }),
        }
    }

    /// A field's number; 0 where it is absent or null.
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

    /// Writes `[[key, value], …]` in the order of the keys; `None` where this is no object.
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

/// The value as Python's `json.dumps(value)` writes it: keys in order, `", "` and `": "` between things.
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

/// What stands between things.
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

/// What a Python dict keeps: each key where it was first, with its last value.
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

/// Python's `repr` of a float: the shortest digits that read back the same, with an exponent from 1e16 up and below
/// 1e-4 (`float_repr_style = 'short'`).
fn write_float(out: &mut dyn Write, value: f64) -> fmt::Result {
    if !value.is_finite() {
        return out.write_str(match value {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        });
    }
    let mut digits = Buffer::<32>::default();
    let exponent = shortest_digits(value.abs(), &mut digits)?;
    let (head, tail) = digits.as_str().split_at(1);
    if value.is_sign_negative() {
        out.write_char('-')?;
    }
    if !(-4..16).contains(&exponent) {
        let point = if tail.is_empty() { "" } else { "." };
        return write!(out, "{head}{point}{tail}e{exponent:+03}");
    }
    match usize::try_from(exponent) {
        Ok(shift) if shift < tail.len() => {
            let (before, after) = tail.split_at(shift);
            write!(out, "{head}{before}.{after}")
        }
        Ok(shift) => write!(out, "{head}{tail}{:0<zeros$}.0", "", zeros = shift - tail.len()),
        Err(_) => {
            write!(out, "0.{:0<zeros$}{head}{tail}", "", zeros = exponent.unsigned_abs() as usize - 1)
        }
    }
}

/// Writes the fewest digits that read back as `value`, which is finite and not negative, to `digits`, and returns the
/// power of ten of the first.
///
/// Where two numbers of that many digits are equally near, Python takes the even one. So does `ryu`; the formatting of
/// `core` does not (727079998553582.25 is `…2.2` here and `…2.3` there).
fn shortest_digits(value: f64, digits: &mut Buffer<32>) -> Result<i32, fmt::Error> {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // `12.50`, `0.0125` and `1.25e1` are all 125 with a place for the point.
    let significant = |digit: &u8| *digit != b'0';
    let all = whole.bytes().chain(fraction.bytes());
    let Some(first) = all.clone().position(|digit| significant(&digit)) else {
        digits.write_char('0')?;
        return Ok(0);
    };
    let last =
        all.clone().enumerate().filter(|(_, digit)| significant(digit)).last().map_or(first, |(at, _)| at);
    for digit in all.skip(first).take(last - first + 1) {
        digits.write_char(digit.into())?;
    }
    // Both are at most 24, the length of what `ryu` writes.
    Ok(exponent + whole.len() as i32 - first as i32 - 1)
}

/// Text of at most `N` bytes on the stack.
struct Buffer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Buffer<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Buffer<N> {
    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const N: usize> Write for Buffer<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl Text {
    /// Writes the text quoted, everything outside printable ASCII escaped.
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('"')?;
        let mut rest = &self.0[..];
        while let [first, ..] = rest {
            let plain =
                rest.iter().take_while(|byte| matches!(byte, b' '..=b'~' if !b"\"\\".contains(byte))).count();
            if plain > 0 {
                out.write_str(core::str::from_utf8(&rest[..plain]).map_err(|_| fmt::Error)?)?;
                rest = &rest[plain..];
                continue;
            }
            match first {
                b'"' => out.write_str("\\\"")?,
                b'\\' => out.write_str("\\\\")?,
                b'\n' => out.write_str("\\n")?,
                b'\r' => out.write_str("\\r")?,
                b'\t' => out.write_str("\\t")?,
                0x08 => out.write_str("\\b")?,
                0x0c => out.write_str("\\f")?,
                _ => {
                    let (code, len) = first_code_point(rest);
                    match code.checked_sub(0x1_0000) {
                        None => write!(out, "\\u{code:04x}")?,
                        Some(offset) => {
                            write!(
                                out,
                                "\\u{:04x}\\u{:04x}",
                                0xd800 + (offset >> 10),
                                0xdc00 + (offset & 0x3ff)
                            )?;
                        }
                    }
                    rest = &rest[len..];
                    continue;
                }
            }
            rest = &rest[1..];
        }
        out.write_char('"')
    }
}

/// The first code point of generalized UTF-8, surrogates included, and its length in bytes.
fn first_code_point(text: &[u8]) -> (u32, usize) {
    let (len, head) = match text[0] {
        byte @ 0..0x80 => (1, byte),
        byte @ 0x80..0xe0 => (2, byte & 0x1f),
        byte @ 0xe0..0xf0 => (3, byte & 0x0f),
        byte => (4, byte & 0x07),
    };
    let len = len.min(text.len());
    let code = text[1..len].iter().fold(u32::from(head), |code, byte| (code << 6) | u32::from(byte & 0x3f));
    (code, len)
}

/// Appends a code point, surrogates included, as generalized UTF-8.
fn push_code_point(text: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(character) => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            let continuation = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
            text.extend_from_slice(&[0xe0 | (code >> 12) as u8, continuation(6), continuation(0)]);
        }
    }
}

/// Invariant: `pos` is at a character boundary of `text`.
struct Parser<'a> {
    text: &'a str,
    pos: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: u32) -> Result<Json, JsonError> {
        self.skip_space();
        let value = match self.peek() {
            Some(b'{') => Value::Object(self.object(depth)?),
            Some(b'[') => Value::Array(self.array(depth)?),
            Some(b'"') => Value::Text(self.string()?),
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'N') => self.word("NaN", Value::Float(f64::NAN))?,
            Some(b'I') => self.word("Infinity", Value::Float(f64::INFINITY))?,
            Some(b'-') if self.rest().starts_with("-I") => {
                self.word("-Infinity", Value::Float(f64::NEG_INFINITY))?
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(self.expected("a value")),
        };
        Ok(Json(value))
    }

    fn object(&mut self, depth: u32) -> Result<Vec<(Text, Json)>, JsonError> {
        let mut entries = Vec::new();
        self.list(b'}', depth, |parser, depth| {
            if parser.peek() != Some(b'"') {
                return Err(parser.expected("a key in quotes"));
            }
            let key = parser.string()?;
            parser.skip_space();
            if !parser.eat(b':') {
                return Err(parser.expected("`:`"));
            }
            entries.push((key, parser.value(depth)?));
            Ok(())
        })?;
        Ok(last_of_each_key(entries))
    }

    fn array(&mut self, depth: u32) -> Result<Vec<Json>, JsonError> {
        let mut items = Vec::new();
        self.list(b']', depth, |parser, depth| {
            items.push(parser.value(depth)?);
            Ok(())
        })?;
        Ok(items)
    }

    /// What stands between an opening bracket, which is next, and `end`.
    fn list(
        &mut self,
        end: u8,
        depth: u32,
        mut item: impl FnMut(&mut Self, u32) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.expected("less nesting"))?;
        self.pos += 1;
        self.skip_space();
        if self.eat(end) {
            return Ok(());
        }
        loop {
            self.skip_space();
            item(self, depth)?;
            self.skip_space();
            if self.eat(end) {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.expected("`,` or a closing bracket"));
            }
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.pos;
        self.eat(b'-');
        let integer = self.digits();
        if integer == 0 || (integer > 1 && self.text.as_bytes()[self.pos - integer] == b'0') {
            self.pos = start;
            return Err(self.expected("a number"));
        }
        let mut is_float = false;
        // As in Python, a point or an exponent without digits ends the number before it.
        for mark in [b".".as_slice(), b"eE"] {
            let before = self.pos;
            if self.peek().is_some_and(|byte| mark.contains(&byte)) {
                self.pos += 1;
                if mark == b"eE" && !self.eat(b'+') {
                    self.eat(b'-');
                }
                if self.digits() == 0 {
                    self.pos = before;
                    return Err(self.expected("digits after the mark"));
                }
                is_float = true;
            }
        }
        let written = &self.text[start..self.pos];
        match (is_float, written) {
            (false, "-0") => Ok(Value::Integer("0".into())),
            (false, digits) => Ok(Value::Integer(digits.into())),
            (true, digits) => digits.parse().map(Value::Float).map_err(|_| self.expected("a number")),
        }
    }

    fn string(&mut self) -> Result<Text, JsonError> {
        self.pos += 1;
        let mut text = Vec::new();
        loop {
            let plain =
                self.rest().bytes().take_while(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count();
            text.extend_from_slice(&self.rest().as_bytes()[..plain]);
            self.pos += plain;
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(Text(text.into()));
                }
                Some(b'\\') => self.escape(&mut text)?,
                Some(_) => return Err(self.expected("an escape in place of a control character")),
                None => return Err(self.expected("a closing quote")),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), JsonError> {
        let start = self.pos;
        self.pos += 1;
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.pos = start;
                let mut code = self.unicode_escape()?;
                if (0xd800..0xdc00).contains(&code) && self.rest().starts_with("\\u") {
                    let before = self.pos;
                    match self.unicode_escape()? {
                        low @ 0xdc00..0xe000 => code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00),
                        // Not the other half: read it again, on its own.
                        _ => self.pos = before,
                    }
                }
                push_code_point(text, code);
                return Ok(());
            }
            _ => {
                self.pos = start;
                return Err(self.expected("an escape that JSON has"));
            }
        };
        text.push(byte);
        self.pos += 1;
        Ok(())
    }

    /// `\u` and four hex digits, which are next.
    fn unicode_escape(&mut self) -> Result<u32, JsonError> {
        let digits =
            self.rest().get(2..6).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or_else(|| self.expected("`\\u` with four hex digits"))?;
        self.pos += 6;
        Ok(code)
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, JsonError> {
        if !self.rest().starts_with(word) {
            return Err(self.expected(word));
        }
        self.pos += word.len();
        Ok(value)
    }

    fn digits(&mut self) -> usize {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.pos += digits;
        digits
    }

    fn skip_space(&mut self) {
        self.pos += self.rest().bytes().take_while(|byte| b" \t\n\r".contains(byte)).count();
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn rest(&self) -> &str {
        &self.text[self.pos..]
    }

    fn expected(&self, expected: &'static str) -> JsonError {
        JsonError { expected, offset: self.pos }
    }
}

/// Writing to a `String` does not fail.
fn infallible(result: fmt::Result) {
    debug_assert!(result.is_ok(), "a String takes everything");
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
