//! Parsing packets without copies.

use core::{error::Error, fmt};

use memchr::{memchr, memchr_iter};

use crate::{
    Decoded, FieldName, Span,
    text::{Folded, trim},
};

/// An AACP packet: `TASK|DOM|key:value|key:value...`.
///
/// ```
/// let packet = aacp::Packet::parse("FETCH|HR|return:HR-Agent|p:1|aacp:1.2|period:2024-08")?;
/// assert_eq!((packet.task(), packet.domain()), ("FETCH", "HR"));
/// assert_eq!(packet.get("PERIOD"), Some("2024-08"));
/// # Ok::<(), aacp::ParseError>(())
/// ```
///
/// Task and domain have fixed positions. All other fields are found by key, at any position: the first colon of a field
/// ends the key, keys are compared without regard to case, values are kept as written. Blank characters around a task, a
/// domain, a key or a value are not part of it, as in the published peers.
///
/// The packet is a view: each lookup scans the text, which is faster than an index for packets of usual length.
/// [`Packet::as_str`] is the parsed text, and [`Field::raw`] a field as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    text: &'a str,
    /// From the first to one past the last byte that is not blank.
    body: Span,
    task: Span,
    /// Offset of the pipe after the task.
    first_pipe: usize,
    domain: Span,
    /// Offset of the named fields, one past the pipe after the domain; `rest <= body.end`.
    rest: usize,
    field_count: usize,
}

/// Limits on the size of a packet. Parsing stops at a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of fields, including task and domain.
    pub max_fields: usize,
    /// Maximum length in bytes. Values above 4 GiB - 1 count as 4 GiB - 1.
    pub max_bytes: usize,
}

impl Limits {
    /// 256 fields (AACP defines fewer than 50), 64 MiB.
    pub const DEFAULT: Limits = Limits { max_fields: 256, max_bytes: 64 << 20 };

    /// The highest possible limits.
    pub const MAX: Limits = Limits { max_fields: usize::MAX, max_bytes: u32::MAX as usize };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A text that is not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// The text is empty or blank.
    Empty,
    /// The packet has fewer than three fields: task, domain and one more.
    TooShort {
        /// Fields found.
        got: usize,
    },
    /// The packet has more fields than [`Limits::max_fields`].
    TooManyFields {
        /// The limit.
        limit: usize,
        /// Offset of the first field beyond it, in bytes.
        at: usize,
    },
    /// The text is longer than [`Limits::max_bytes`].
    TooLong {
        /// The limit, in bytes.
        limit: usize,
        /// Length of the text, in bytes.
        got: usize,
    },
}

impl ParseError {
    /// A stable name for programs to match on: that of the validator's [`Kind`](crate::Kind).
    pub const fn kind(&self) -> &'static str {
        match self {
            ParseError::Empty => "empty",
            ParseError::TooShort { .. } => "too_short",
            ParseError::TooManyFields { .. } => "too_many_fields",
            ParseError::TooLong { .. } => "too_long",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Empty => f.write_str("expected a packet, but the text is empty"),
            ParseError::TooShort { got } => {
                write!(f, "expected at least 3 fields divided by `|`, but found {got}")
            }
            ParseError::TooManyFields { limit, at } => {
                write!(f, "expected at most {limit} fields, but another starts at byte {at}")
            }
            ParseError::TooLong { limit, got } => {
                write!(f, "expected at most {limit} bytes, but the text has {got}")
            }
        }
    }
}

impl Error for ParseError {}

impl<'a> Packet<'a> {
    /// Parses a packet within [`Limits::DEFAULT`].
    ///
    /// # Errors
    /// See [`Packet::parse_with`].
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        Self::parse_with(text, Limits::DEFAULT)
    }

    /// Parses a packet within the given limits.
    ///
    /// The parts are not validated; see [`crate::Validator`].
    ///
    /// # Errors
    /// - [`ParseError::Empty`] for blank text;
    /// - [`ParseError::TooShort`] for fewer than three fields;
    /// - [`ParseError::TooManyFields`] and [`ParseError::TooLong`] beyond `limits`.
    ///
    /// # Complexity
    /// Time in proportion to the text, no allocation.
    pub fn parse_with(text: &'a str, limits: Limits) -> Result<Self, ParseError> {
        let max_bytes = limits.max_bytes.min(Limits::MAX.max_bytes);
        if text.len() > max_bytes {
            return Err(ParseError::TooLong { limit: max_bytes, got: text.len() });
        }
        let (start, trimmed) = trim(text);
        if trimmed.is_empty() {
            return Err(ParseError::Empty);
        }
        let body = Span::new(start, start + trimmed.len());

        let bytes = trimmed.as_bytes();
        let Some(first) = memchr(b'|', bytes) else { return Err(ParseError::TooShort { got: 1 }) };
        let Some(second) = memchr(b'|', &bytes[first + 1..]).map(|len| first + 1 + len) else {
            return Err(ParseError::TooShort { got: 2 });
        };
        let field_count = 3 + memchr_iter(b'|', &bytes[second + 1..]).count();
        if field_count > limits.max_fields {
            let pipe = memchr_iter(b'|', bytes).nth(limits.max_fields.saturating_sub(1)).unwrap_or(second);
            return Err(ParseError::TooManyFields { limit: limits.max_fields, at: start + pipe + 1 });
        }
        Ok(Self {
            text,
            body,
            task: trimmed_span(text, Span::new(start, start + first)),
            first_pipe: start + first,
            domain: trimmed_span(text, Span::new(start + first + 1, start + second)),
            rest: start + second + 1,
            field_count,
        })
    }

    /// The parsed text, unchanged.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The task, such as `FETCH`. May be empty.
    pub fn task(&self) -> &'a str {
        &self.text[self.task.range()]
    }

    /// The span of the task.
    pub fn task_span(&self) -> Span {
        self.task
    }

    /// The domain, such as `HR`. May be empty.
    pub fn domain(&self) -> &'a str {
        &self.text[self.domain.range()]
    }

    /// The span of the domain.
    pub fn domain_span(&self) -> Span {
        self.domain
    }

    /// The number of fields, including task, domain and empty fields; at least 3.
    pub fn field_count(&self) -> usize {
        self.field_count
    }

    /// The fields after the domain, in order, without empty ones.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + Clone {
        self.slots().filter(|field| !field.is_empty())
    }

    /// The value of a field by its key, compared without regard to case.
    ///
    /// If a key occurs more than once, the last one counts, as in the published peers; a strict
    /// [`crate::Validator`] rejects such a packet.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.fields().filter(|field| field.has_key(key)).last().map(|field| field.value())
    }

    /// The value of a field that AACP defines; see [`Packet::get`].
    pub fn value(&self, name: FieldName) -> Option<&'a str> {
        self.fields().filter(|field| field.name() == Some(name)).last().map(|field| field.value())
    }

    /// Whether values are percent-encoded (`enc:pct`).
    pub fn is_percent_encoded(&self) -> bool {
        self.value(FieldName::Encoding) == Some("pct")
    }

    /// Decodes a value of this packet, if the packet is percent-encoded.
    ///
    /// Searches for `enc:pct` on each call; use [`Packet::fields_decoded`] to decode many values.
    pub fn decode(&self, value: &'a str) -> Decoded<'a> {
        Decoded::new(value, self.is_percent_encoded())
    }

    /// Each field with its decoded value, without the field `enc`.
    pub fn fields_decoded(&self) -> impl Iterator<Item = (Field<'a>, Decoded<'a>)> + Clone {
        let encoded = self.is_percent_encoded();
        self.fields()
            .filter(move |field| !(encoded && field.name() == Some(FieldName::Encoding)))
            .map(move |field| (field, Decoded::new(field.value(), encoded)))
    }

    /// The slots after the domain, in order, including empty ones. A slot is the text between two pipes.
    pub fn slots(&self) -> Slots<'a> {
        Slots { text: self.text, next: Some(self.rest), end: self.body.end, position: 2 }
    }

    /// The span of the parsed text without blank characters around it.
    pub(crate) fn body(&self) -> Span {
        self.body
    }

    /// The slots of task and domain, with any blank characters.
    pub(crate) fn head_slots(&self) -> [Span; 2] {
        [Span::new(self.body.start, self.first_pipe), Span::new(self.first_pipe + 1, self.rest - 1)]
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// Iterator over the slots of a packet; see [`Packet::slots`].
#[derive(Clone, Debug)]
pub struct Slots<'a> {
    text: &'a str,
    /// Offset of the next slot; `None` after the last. `next <= end`.
    next: Option<usize>,
    end: usize,
    position: usize,
}

impl<'a> Iterator for Slots<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.next?;
        let (colon, len) = divide(&self.text.as_bytes()[start..self.end]);
        let end = start + len;
        self.next = if end < self.end { Some(end + 1) } else { None };
        let position = self.position;
        self.position += 1;
        Some(Field::new(self.text, Span::new(start, end), colon.map(|colon| start + colon), position))
    }
}

/// Offsets of the first colon of a slot, if any, and of the slot's end: a pipe or the end of the text.
#[inline]
fn divide(rest: &[u8]) -> (Option<usize>, usize) {
    // Most slots are short: one loop over the bytes is faster than two vector searches.
    const NEAR: usize = 32;
    let mut colon = None;
    for (at, byte) in rest.iter().take(NEAR).enumerate() {
        match byte {
            b'|' => return (colon, at),
            b':' if colon.is_none() => colon = Some(at),
            _ => {}
        }
    }
    if rest.len() <= NEAR {
        return (colon, rest.len());
    }
    let len = memchr(b'|', &rest[NEAR..]).map_or(rest.len(), |len| NEAR + len);
    (colon.or_else(|| memchr(b':', &rest[NEAR..len]).map(|at| NEAR + at)), len)
}

/// One field: `key:value`, or a bare word without a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    text: &'a str,
    slot: Span,
    /// The span of the slot without blanks around it.
    span: Span,
    key: Option<Span>,
    value: Span,
    position: usize,
}

impl<'a> Field<'a> {
    /// A field from its slot and the offset of its first colon, if any.
    #[inline]
    fn new(text: &'a str, slot: Span, colon: Option<usize>, position: usize) -> Self {
        let (key, value) = match colon {
            Some(colon) => (
                Some(trimmed_span(text, Span::new(slot.start, colon))),
                trimmed_span(text, Span::new(colon + 1, slot.end)),
            ),
            None => (None, trimmed_span(text, slot)),
        };
        // The slot without blanks at its ends. A colon is not blank, so it remains even if key or value is empty.
        let span = match (key, colon) {
            (Some(key), Some(colon)) => Span::new(
                if key.is_empty() { colon } else { key.start },
                if value.is_empty() { colon + 1 } else { value.end },
            ),
            _ => value,
        };
        Self { text, slot, span, key, value, position }
    }

    /// The key as written, or `None` for a bare word.
    pub fn key(&self) -> Option<&'a str> {
        self.key.map(|span| &self.text[span.range()])
    }

    /// The value as written, not decoded; for a bare word, the word.
    pub fn value(&self) -> &'a str {
        &self.text[self.value.range()]
    }

    /// The field that AACP defines for this key.
    pub fn name(&self) -> Option<FieldName> {
        self.key().and_then(FieldName::from_key)
    }

    /// Whether the field has this key, compared without regard to case.
    pub fn has_key(&self, key: &str) -> bool {
        self.key().is_some_and(|own| Folded(own) == Folded(key))
    }

    /// The slot as written, from pipe to pipe, with any blank characters around it.
    pub fn raw(&self) -> &'a str {
        &self.text[self.slot.range()]
    }

    /// The index of the slot in the packet, at least 2: task and domain are 0 and 1.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether the slot contains only blank characters.
    pub fn is_empty(&self) -> bool {
        self.span.is_empty()
    }

    /// The span of the field, without blank characters around it.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The span of the key, or `None` for a bare word.
    pub fn key_span(&self) -> Option<Span> {
        self.key
    }

    /// The span of the value.
    pub fn value_span(&self) -> Span {
        self.value
    }

    /// The span of the slot, from pipe to pipe.
    pub fn slot_span(&self) -> Span {
        self.slot
    }

    /// Whether blank characters surround the field, its key or its value.
    pub fn is_padded(&self) -> bool {
        let inner = match self.key {
            Some(key) => key.len() + 1 + self.value.len(),
            None => self.value.len(),
        };
        inner != self.slot.len()
    }
}

/// `span` without blank characters at its ends.
#[inline]
fn trimmed_span(text: &str, span: Span) -> Span {
    // Most parts have no blanks around them; two byte tests avoid decoding characters.
    match &text.as_bytes()[span.range()] {
        [] => span,
        [only] if only.is_ascii_graphic() => span,
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => span,
        _ => {
            let (cut, trimmed) = trim(&text[span.range()]);
            Span::new(span.start + cut, span.start + cut + trimmed.len())
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{format, vec::Vec};

    #[test]
    fn fields_are_found_by_key_wherever_they_stand() {
        let compact = Packet::parse("FETCH|HR|return:HR-Agent|p:1|aacp:1.1|res:emp_salary|fmt:json").unwrap();
        let slots = Packet::parse("FETCH|HR|res:emp_salary|||||return:HR-Agent|p:1|aacp:1.0").unwrap();
        for packet in [compact, slots] {
            assert_eq!(packet.value(FieldName::Res), Some("emp_salary"));
            assert_eq!(packet.value(FieldName::Return), Some("HR-Agent"));
            assert_eq!(packet.value(FieldName::Period), None);
        }
        assert_eq!((slots.field_count(), slots.fields().count(), slots.slots().count()), (10, 4, 8));
    }

    #[test]
    fn the_first_colon_splits_and_values_stay_as_written() {
        let packet = Packet::parse("SEND|HR|Return: a:B |att:rpt://x:pdf|:v|k:|bare").unwrap();
        let fields: Vec<_> = packet.fields().map(|field| (field.key(), field.value())).collect();
        assert_eq!(
            fields,
            [
                (Some("Return"), "a:B"),
                (Some("att"), "rpt://x:pdf"),
                (Some(""), "v"),
                (Some("k"), ""),
                (None, "bare")
            ]
        );
        assert_eq!(packet.fields().next().unwrap().raw(), "Return: a:B ");
        assert_eq!(
            packet.fields().map(|field| field.is_padded()).collect::<Vec<_>>(),
            [true, false, false, false, false]
        );
    }

    #[test]
    fn the_last_of_equal_keys_counts_as_in_the_peers() {
        let packet = Packet::parse("SEND|HR|return:a|RETURN:b").unwrap();
        assert_eq!(packet.get("return"), Some("b"));
        assert_eq!(packet.value(FieldName::Return), Some("b"));
    }

    #[test]
    fn spans_point_into_the_text_as_given() {
        let text = "  FETCH | HR |é:ü| return : A  ";
        let packet = Packet::parse(text).unwrap();
        assert_eq!(&text[packet.task_span().range()], "FETCH");
        assert_eq!(&text[packet.domain_span().range()], "HR");
        let field = packet.fields().nth(1).unwrap();
        assert_eq!(&text[field.key_span().unwrap().range()], "return");
        assert_eq!(&text[field.value_span().range()], "A");
        assert_eq!(&text[field.span().range()], "return : A");
        assert_eq!(packet.as_str(), text);
        let [task, domain] = packet.head_slots();
        assert_eq!((&text[task.range()], &text[domain.range()]), ("FETCH ", " HR "));
    }

    #[test]
    fn text_that_is_no_packet_says_what_was_expected_and_found() {
        assert_eq!(Packet::parse(" \n"), Err(ParseError::Empty));
        assert_eq!(Packet::parse("FETCH|HR"), Err(ParseError::TooShort { got: 2 }));
        let error = Packet::parse("FETCH").unwrap_err();
        assert_eq!(format!("{error}"), "expected at least 3 fields divided by `|`, but found 1");
    }

    #[test]
    fn a_limit_refuses_and_can_be_raised() {
        let many = format!("SEND|HR|return:A{}", "|x:1".repeat(99_997));
        assert_eq!(Packet::parse(&many), Err(ParseError::TooManyFields { limit: 256, at: 17 + 253 * 4 }));
        let raised = Limits { max_fields: 100_000, ..Limits::DEFAULT };
        assert_eq!(Packet::parse_with(&many, raised).unwrap().field_count(), 100_000);
        let small = Limits { max_bytes: 10, ..Limits::DEFAULT };
        assert_eq!(
            Packet::parse_with("SEND|HR|return:A", small),
            Err(ParseError::TooLong { limit: 10, got: 16 })
        );
        assert!(Packet::parse_with("A|B|c", Limits { max_fields: 2, ..Limits::DEFAULT }).is_err());
    }
}
