//! Reading JSON as Python's `json.loads` does.

use alloc::vec::Vec;

use super::{Json, JsonError, Text, Value, last_of_each_key};

/// Arrays and objects may nest this deep.
const MAX_DEPTH: u32 = 128;

/// The float nearest to these digits.
#[cfg(not(feature = "compact"))]
pub(super) fn float(digits: &str) -> Option<f64> {
    digits.parse().ok()
}

/// The float nearest to these digits.
#[cfg(feature = "compact")]
pub(super) fn float(digits: &str) -> Option<f64> {
    lexical_parse_float::FromLexical::from_lexical(digits.as_bytes()).ok()
}

/// Invariant: `pos` is at a character boundary of `text`.
pub(super) struct Parser<'a> {
    text: &'a str,
    pos: usize,
}

impl<'a> Parser<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, pos: 0 }
    }

    /// The whole text as one value.
    pub(super) fn only_value(&mut self) -> Result<Json, JsonError> {
        let value = self.value(MAX_DEPTH)?;
        self.skip_space();
        if self.pos == self.text.len() { Ok(value) } else { Err(self.expected("the end of the text")) }
    }

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

    /// The items between an opening bracket, which is next, and `end`.
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
                    return Err(self.expected("digits"));
                }
                is_float = true;
            }
        }
        let written = &self.text[start..self.pos];
        match (is_float, written) {
            (false, "-0") => Ok(Value::Integer("0".into())),
            (false, digits) => Ok(Value::Integer(digits.into())),
            (true, digits) => float(digits).map(Value::Float).ok_or_else(|| self.expected("a number")),
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
                Some(_) => return Err(self.expected("an escaped control character")),
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
                return Err(self.expected("a valid escape"));
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
