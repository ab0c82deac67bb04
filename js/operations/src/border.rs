//! What crosses the border: requests as plain fields in a fixed order, answers as JSON or, where every microsecond counts,
//! as numbers.
//!
//! A host's own `JSON.parse` makes objects faster than calls across the border do. For the way in, and for writing, a
//! general JSON library would be half of the module; these three are all that it needs.

use std::{fmt::Display, io::Write as _};

use crate::fault::{Fault, Outcome};

/// Reads a request: numbers as 8 bytes (f64, little-endian), texts as their length in bytes and UTF-8, lists as their
/// length and items, what may be absent as 0, or 1 and a value.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    rest: &'a [u8],
}

impl<'a> Request<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn number(&mut self) -> Outcome<f64> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(Fault::bad_request)?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    /// The nearest number of 32 bits.
    pub(crate) fn u32(&mut self) -> Outcome<u32> {
        self.number().map(|number| number as u32)
    }

    pub(crate) fn flag(&mut self) -> Outcome<bool> {
        self.number().map(|number| number != 0.0)
    }

    pub(crate) fn text(&mut self) -> Outcome<&'a str> {
        let len = self.number()? as usize;
        let (text, rest) = self.rest.split_at_checked(len).ok_or_else(Fault::bad_request)?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| Fault::bad_request())
    }

    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list<T>(&mut self, read: fn(&mut Self) -> Outcome<T>) -> Outcome<Vec<T>> {
        let len = self.number()?;
        let mut list = Vec::new();
        // An item has at least a byte, so a false length ends with the request.
        while (list.len() as f64) < len {
            list.push(read(self)?);
        }
        Ok(list)
    }

    pub(crate) fn texts(&mut self) -> Outcome<Vec<&'a str>> {
        self.list(Self::text)
    }

    pub(crate) fn pairs(&mut self) -> Outcome<Vec<(&'a str, &'a str)>> {
        self.list(|request| Ok((request.text()?, request.text()?)))
    }

    /// What is left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Writes an answer as JSON, commas and all.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// UTF-8.
    bytes: Vec<u8>,
    /// Whether the next item needs a comma before it.
    comma: bool,
}

/// What most answers need, in bytes.
const USUAL: usize = 768;

impl Answer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn object(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest(b'{', fill, b'}')
    }

    pub(crate) fn array(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest(b'[', fill, b']')
    }

    /// The next value's key.
    pub(crate) fn key(&mut self, key: &str) -> &mut Self {
        self.text(key);
        self.bytes.push(b':');
        self.comma = false;
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.item();
        self.bytes.push(b'"');
        // Nearly every text needs no escape; one look at its bytes spares the walk over its characters.
        if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            text.chars().for_each(|character| self.escaped(character));
        } else {
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.bytes.push(b'"');
        self
    }

    pub(crate) fn optional_text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    pub(crate) fn texts<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) -> &mut Self {
        self.array(|answer| texts.into_iter().for_each(|text| _ = answer.text(text)))
    }

    pub(crate) fn whole(&mut self, number: impl TryInto<u64>) -> &mut Self {
        // A head has a dozen numbers: the standard library's way to write them takes an eighth of the time for all of it.
        let mut rest = number.try_into().unwrap_or(u64::MAX);
        let (mut digits, mut start) = ([b'0'; 20], 20);
        while start == 20 || rest > 0 {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.json(str::from_utf8(&digits[start..]).unwrap_or_default())
    }

    pub(crate) fn number(&mut self, number: f64) -> &mut Self {
        match number {
            // JSON has no such number, nor can one come from JSON.
            _ if number.is_nan() => self.null(),
            // What is too large reads as infinite.
            f64::INFINITY => self.json("1e999"),
            f64::NEG_INFINITY => self.json("-1e999"),
            _ => self.json(ryu::Buffer::new().format_finite(number)),
        }
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.json(if flag { "true" } else { "false" })
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        self.json("null")
    }

    /// A value that is JSON already.
    pub(crate) fn json(&mut self, json: &str) -> &mut Self {
        self.item();
        self.bytes.extend_from_slice(json.as_bytes());
        self
    }

    fn escaped(&mut self, character: char) {
        match character {
            '"' | '\\' => self.bytes.extend([b'\\', character as u8]),
            '\0'..' ' => self.put(format_args!("\\u{:04x}", u32::from(character))),
            _ => self.bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    fn nest(&mut self, open: u8, fill: impl FnOnce(&mut Self), close: u8) -> &mut Self {
        self.item();
        self.bytes.push(open);
        self.comma = false;
        fill(self);
        self.bytes.push(close);
        self.comma = true;
        self
    }

    fn item(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.reserve(USUAL);
        }
        if self.comma {
            self.bytes.push(b',');
        }
        self.comma = true;
    }

    fn put(&mut self, value: impl Display) {
        // Writing to a `Vec` does not fail.
        let _ = write!(self.bytes, "{value}");
    }
}

/// Writes an answer as numbers of 8 bytes (f64, little-endian): texts and bytes as where they lie in the request and their
/// length in bytes, a list as its length and items, what may be absent as 0, or 1 and a value.
#[derive(Debug)]
pub(crate) struct Numbers<'a> {
    request: &'a [u8],
    numbers: Vec<[u8; 8]>,
}

impl<'a> Numbers<'a> {
    /// For an answer whose texts all lie in `request`.
    pub(crate) fn about(request: &'a [u8]) -> Self {
        // What most heads need.
        Self { request, numbers: Vec::with_capacity(32) }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.numbers.into_flattened()
    }

    pub(crate) fn number(&mut self, number: impl Into<f64>) -> &mut Self {
        self.numbers.push(number.into().to_le_bytes());
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        // No bytes may lie nowhere.
        let start = if bytes.is_empty() { 0 } else { bytes.as_ptr().addr() - self.request.as_ptr().addr() };
        self.number(start as f64).number(bytes.len() as f64)
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: fn(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => write(self.number(1), value),
            None => self.number(0),
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        write: fn(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        let place = self.numbers.len();
        let mut count = 0.0_f64;
        self.number(count);
        for item in items {
            write(self, item);
            count += 1.0;
        }
        self.numbers[place] = count.to_le_bytes();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json() {
        let mut answer = Answer::default();
        answer.object(|answer| {
            answer.key("a\"\\\n").text("é😀\u{1}").key("b").array(|answer| {
                answer
                    .whole(7_u32)
                    .whole(0_u32)
                    .whole(u64::MAX)
                    .number(0.25)
                    .number(f64::NAN)
                    .flag(true)
                    .null()
                    .object(|_| ())
                    .texts([]);
            });
            answer.key("c").optional_text(None);
        });
        let json: serde_json::Value = serde_json::from_slice(&answer.into_bytes()).unwrap();
        let expected = serde_json::json!({"a\"\\\n": "é😀\u{1}", "b": [7, 0, u64::MAX, 0.25, null, true, null, {}, []], "c": null});
        assert_eq!(json, expected);
    }

    #[test]
    fn an_answer_in_numbers_says_where_its_texts_lie() {
        let mut answer = Numbers::about(b"..text");
        let text = str::from_utf8(&answer.request[2..]).unwrap();
        answer.number(7_u32).text(text).bytes(b"");
        answer.option(None, Numbers::text).option(Some(text), Numbers::text).list([8_u8, 9], Numbers::number);
        let bytes = answer.into_bytes();
        let numbers = bytes.as_chunks().0.iter().copied().map(f64::from_le_bytes);
        assert!(numbers.eq([7, 2, 4, 0, 0, 0, 1, 2, 4, 2, 8, 9].map(f64::from)));
    }

    #[test]
    fn a_request_that_ends_early_or_lies_about_its_lengths_is_refused() {
        let many = 1e18_f64.to_le_bytes();
        assert!(Request::new(&many).text().is_err());
        assert!(Request::new(&many).texts().is_err());
        assert!(Request::new(&many[..7]).number().is_err());
        assert!(Request::new(&f64::NAN.to_le_bytes()).texts().is_ok_and(|list| list.is_empty()));
    }
}
