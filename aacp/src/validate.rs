//! Validation of packets.

use core::ops::ControlFlow;

use crate::{
    Field, FieldName, Finding, Kind, Limits, Packet, ParseError, Rejection, Schema, Severity, Span, Version,
    pct::first_bad_escape, seen::SeenKeys,
};

/// The strictness of a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// For received packets: accepts every packet that the published Python packages accept, with warnings.
    Lenient,
    /// For packets to send: one notation for each packet, without anything that a reader could misunderstand.
    Strict,
}

/// Validates packets with a profile, a schema and a current version.
///
/// ```
/// use aacp::Validator;
/// let verdict = Validator::strict().validate("FETCH|HR|return:HR-Agent|p:1|aacp:1.2", |_| ());
/// assert!(verdict.is_valid());
/// ```
///
/// The two profiles differ in the severity of findings:
///
/// | finding | lenient | strict |
/// |---|---|---|
/// | empty text, too few fields, beyond a limit | error | error |
/// | empty or unknown task or domain, missing `return` | error | error |
/// | missing `aacp`, empty `return` | warning | error |
/// | a duplicate key, a field without key, an empty key | warning | error |
/// | an empty slot (allowed in a 1.0 packet of ten slots or more) | warning | error |
/// | blanks around a part, a control character | warning | error |
/// | `enc` other than `pct` | warning | error |
/// | a key with capitals or other characters, an invalid escape in an `enc:pct` packet | - | error |
/// | a version other than the current one, a priority other than 1, 2, 3 | warning | warning |
/// | a field outside the schema | warning | warning |
/// | `sentiment` without `tone`, `ltv` without `ccy` | warning | warning |
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Validator<'s> {
    profile: Profile,
    schema: Schema<'s>,
    current: Version,
    limits: Limits,
}

/// The number of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Number of errors.
    pub errors: usize,
    /// Number of warnings.
    pub warnings: usize,
}

impl Verdict {
    /// Whether there is no error.
    pub const fn is_valid(self) -> bool {
        self.errors == 0
    }
}

impl Validator<'static> {
    /// A validator of the lenient profile with the standard schema, the newest common version and default limits.
    pub const fn lenient() -> Self {
        Self::new(Profile::Lenient)
    }

    /// A validator of the strict profile with the standard schema, the newest common version and default limits.
    pub const fn strict() -> Self {
        Self::new(Profile::Strict)
    }

    /// A validator of this profile.
    pub const fn new(profile: Profile) -> Self {
        Self { profile, schema: Schema::STANDARD, current: Version::V1_2, limits: Limits::DEFAULT }
    }
}

impl<'s> Validator<'s> {
    /// Sets the schema. Default: [`Schema::STANDARD`].
    pub const fn schema<'t>(self, schema: Schema<'t>) -> Validator<'t> {
        Validator { profile: self.profile, schema, current: self.current, limits: self.limits }
    }

    /// Sets the current version. Default: [`Version::V1_2`].
    pub const fn current(self, current: Version) -> Self {
        Self { current, ..self }
    }

    /// Sets the limits. Default: [`Limits::DEFAULT`].
    pub const fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Calls `sink` with each finding, and counts them.
    ///
    /// Findings on task and domain come first, then those on fields in the packet's order, then those on the whole packet.
    ///
    /// # Complexity
    /// Linear in the length of the text, without allocation. Beyond 256 different unknown keys, which only raised limits
    /// allow, each further one costs a lookup in a tree with the feature `alloc`, and a pass over the text without.
    pub fn validate<'a>(&self, text: &'a str, mut sink: impl FnMut(Finding<'a>)) -> Verdict
    where
        's: 'a,
    {
        let mut verdict = Verdict::default();
        let _: ControlFlow<(), _> = self.run(text, &mut |finding| {
            match finding.severity {
                Severity::Error => verdict.errors += 1,
                Severity::Warning => verdict.warnings += 1,
            }
            sink(finding);
            ControlFlow::Continue(())
        });
        verdict
    }

    /// Whether the packet is valid. Stops at the first error.
    pub fn accepts(&self, text: &str) -> bool {
        self.parse(text).is_ok()
    }

    /// Parses a packet and rejects it at its first error.
    ///
    /// # Errors
    /// The first finding that is an error, as kind and span.
    pub fn parse<'a>(&self, text: &'a str) -> Result<Packet<'a>, Rejection> {
        let outcome = self.run(text, &mut |finding| match finding.severity {
            Severity::Error => ControlFlow::Break(Rejection { kind: finding.kind, span: finding.span }),
            Severity::Warning => ControlFlow::Continue(()),
        });
        match outcome {
            ControlFlow::Continue(Some(packet)) => Ok(packet),
            ControlFlow::Break(rejection) => Err(rejection),
            ControlFlow::Continue(None) => {
                Err(Rejection { kind: Kind::Empty, span: Span::new(0, text.len()) })
            }
        }
    }

    /// The packet and all findings. Available with the feature `alloc`.
    #[cfg(feature = "alloc")]
    pub fn report<'a>(&self, text: &'a str) -> crate::Report<'a>
    where
        's: 'a,
    {
        let mut findings = alloc::vec::Vec::new();
        let verdict = self.validate(text, |finding| findings.push(finding));
        crate::Report { text, packet: Packet::parse_with(text, self.limits).ok(), verdict, findings }
    }

    /// Runs the validation until `sink` stops it; returns the packet if the text can be parsed.
    ///
    /// Findings borrow from text and schema (`'f`); the packet borrows from the text only.
    fn run<'a: 'f, 'f, B>(
        &self,
        text: &'a str,
        sink: &mut impl FnMut(Finding<'f>) -> ControlFlow<B>,
    ) -> ControlFlow<B, Option<Packet<'a>>>
    where
        's: 'f,
    {
        // One pass over the whole text replaces a test of each field for most packets.
        let has_control = may_hold_control(text.as_bytes());
        let mut check = Check { profile: self.profile, schema: self.schema, text, has_control, sink };
        match Packet::parse_with(text, self.limits) {
            Ok(packet) => {
                check.head(&packet)?;
                check.fields(&packet, self.current)?;
                ControlFlow::Continue(Some(packet))
            }
            Err(error) => {
                let (kind, span) = match error {
                    ParseError::Empty => (Kind::Empty, Span::new(0, text.len())),
                    ParseError::TooShort { .. } => (Kind::TooShort, Span::new(0, text.len())),
                    ParseError::TooManyFields { at, .. } => (Kind::TooManyFields, Span::new(at, at)),
                    ParseError::TooLong { .. } => (Kind::TooLong, Span::new(0, text.len())),
                };
                check.error(kind, "", span)?;
                ControlFlow::Continue(None)
            }
        }
    }
}

/// One validation of one packet.
struct Check<'a, 'f, F> {
    profile: Profile,
    schema: Schema<'a>,
    text: &'a str,
    /// False only if the text contains no control character.
    has_control: bool,
    sink: &'f mut F,
}

impl<'a, B, F: FnMut(Finding<'a>) -> ControlFlow<B>> Check<'a, '_, F> {
    fn head(&mut self, packet: &Packet<'a>) -> ControlFlow<B> {
        let (task, domain) = (packet.task(), packet.domain());
        if task.is_empty() {
            self.error(Kind::EmptyTask, "TASK", packet.task_span())?;
        } else if !self.schema.has_task(task) {
            self.error(Kind::UnknownTask, "TASK", packet.task_span())?;
        }
        if domain.is_empty() {
            self.error(Kind::EmptyDomain, "DOM", packet.domain_span())?;
        } else if !self.schema.has_domain(domain) {
            self.error(Kind::UnknownDomain, "DOM", packet.domain_span())?;
        }
        if packet.body().len() != self.text.len() {
            self.strict(Kind::Padding, "", Span::new(0, self.text.len()))?;
        }
        let [task_slot, domain_slot] = packet.head_slots();
        for (field, slot, span) in
            [("TASK", task_slot, packet.task_span()), ("DOM", domain_slot, packet.domain_span())]
        {
            if slot != span {
                self.strict(Kind::Padding, field, slot)?;
            }
            self.control_characters(field, span)?;
        }
        ControlFlow::Continue(())
    }

    fn fields(&mut self, packet: &Packet<'a>, current: Version) -> ControlFlow<B> {
        let mut known = 0u64;
        let mut unknown = SeenKeys::new(self.text);
        let mut percent_encoded = false;
        // A 1.0 packet has ten slots in fixed order, and unused slots are empty.
        let positional = packet.field_count() >= 10;

        for field in packet.slots() {
            if field.is_empty() {
                if !(positional && field.position() < 10 && self.profile == Profile::Lenient) {
                    self.strict(Kind::EmptySlot, "", field.slot_span())?;
                }
                continue;
            }
            let Some((key, key_span)) = field.key().zip(field.key_span()) else {
                self.strict(Kind::BareField, "", field.span())?;
                self.shape(&field, "")?;
                continue;
            };
            match FieldName::from_key(key) {
                Some(name) => {
                    if known & name.bit() != 0 {
                        self.strict(Kind::DuplicateField, name.key(), field.span())?;
                    }
                    known |= name.bit();
                    self.value(name, &field, current)?;
                    percent_encoded |= name == FieldName::Encoding && field.value() == "pct";
                }
                None => {
                    let earlier = packet.fields().take_while(|other| other.position() < field.position());
                    if !unknown.insert(key, key_span.start, earlier.filter_map(|other| other.key())) {
                        self.strict(Kind::DuplicateField, key, field.span())?;
                    } else if key.is_empty() {
                        self.strict(Kind::EmptyKey, key, field.span())?;
                    } else if !self.schema.adds_key(key) {
                        self.warning(Kind::UnknownField, key, key_span)?;
                    }
                }
            }
            if self.profile == Profile::Strict && !key.is_empty() && !has_key_syntax(key.bytes()) {
                self.error(Kind::KeySyntax, key, key_span)?;
            }
            self.shape(&field, key)?;
        }

        if percent_encoded && self.profile == Profile::Strict {
            self.escapes(packet)?;
        }
        self.whole(packet, known)
    }

    /// Checks the value of a known field.
    fn value(&mut self, name: FieldName, field: &Field<'a>, current: Version) -> ControlFlow<B> {
        let (value, span) = (field.value(), field.value_span());
        match name {
            FieldName::Return if value.is_empty() => self.strict(Kind::EmptyReturn, name.key(), field.span()),
            FieldName::Priority if !matches!(value, "1" | "2" | "3") => {
                self.warning(Kind::OddPriority, name.key(), span)
            }
            FieldName::Version => match Version::from_text(value) {
                Some(version) if version == current => ControlFlow::Continue(()),
                Some(_) => self.warning(Kind::OtherVersion, name.key(), span),
                None => self.warning(Kind::UnknownVersion, name.key(), span),
            },
            FieldName::Encoding if value != "pct" => self.strict(Kind::UnknownEncoding, name.key(), span),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Checks the notation of a field.
    fn shape(&mut self, field: &Field<'a>, key: &'a str) -> ControlFlow<B> {
        if field.is_padded() {
            self.strict(Kind::Padding, key, field.slot_span())?;
        }
        self.control_characters(key, field.span())
    }

    fn control_characters(&mut self, field: &'a str, span: Span) -> ControlFlow<B> {
        if !self.has_control {
            return ControlFlow::Continue(());
        }
        let written = &self.text[span.range()];
        match written.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, c)) => {
                let start = span.start + at;
                self.strict(Kind::ControlCharacter, field, Span::new(start, start + c.len_utf8()))
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn escapes(&mut self, packet: &Packet<'a>) -> ControlFlow<B> {
        for field in packet.fields() {
            if let Some(at) = first_bad_escape(field.value()) {
                let start = field.value_span().start + at;
                self.error(Kind::BadEscape, field.key().unwrap_or(""), Span::new(start, start + 1))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Checks for missing fields.
    fn whole(&mut self, packet: &Packet<'a>, known: u64) -> ControlFlow<B> {
        let has = |name: FieldName| known & name.bit() != 0;
        let end = Span::new(packet.body().end, packet.body().end);
        if !has(FieldName::Return) {
            self.error(Kind::MissingReturn, "return", end)?;
        }
        if !has(FieldName::Version) {
            self.strict(Kind::MissingVersion, "aacp", end)?;
        }
        if has(FieldName::Sentiment) && !has(FieldName::Tone) {
            self.warning(Kind::SentimentWithoutTone, "sentiment", end)?;
        }
        if has(FieldName::Ltv) && !has(FieldName::Ccy) {
            self.warning(Kind::LtvWithoutCcy, "ltv", end)?;
        }
        ControlFlow::Continue(())
    }

    fn error(&mut self, kind: Kind, field: &'a str, span: Span) -> ControlFlow<B> {
        self.emit(kind, Severity::Error, field, span)
    }

    fn warning(&mut self, kind: Kind, field: &'a str, span: Span) -> ControlFlow<B> {
        self.emit(kind, Severity::Warning, field, span)
    }

    /// An error in the strict profile, a warning in the lenient one.
    fn strict(&mut self, kind: Kind, field: &'a str, span: Span) -> ControlFlow<B> {
        match self.profile {
            Profile::Strict => self.error(kind, field, span),
            Profile::Lenient => self.warning(kind, field, span),
        }
    }

    fn emit(&mut self, kind: Kind, severity: Severity, field: &'a str, span: Span) -> ControlFlow<B> {
        let written = &self.text[span.range()];
        (self.sink)(Finding { kind, severity, field, span, written, schema: self.schema })
    }
}

/// Whether a key has the syntax of the strict profile: `[a-z][a-z0-9_.-]*`.
pub(crate) fn has_key_syntax(mut key: impl Iterator<Item = u8>) -> bool {
    key.next().is_some_and(|first| first.is_ascii_lowercase())
        && key.all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'))
}

/// False only if no byte can be part of a control character: those of one byte, and those that start with C2.
fn may_hold_control(bytes: &[u8]) -> bool {
    // No early exit, so that the loop runs on vectors.
    bytes.iter().fold(false, |found, byte| found | (*byte < 0x20) | (*byte == 0x7f) | (*byte == 0xc2))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::Suggestion;
    use std::{format, string::String, string::ToString, vec::Vec};

    fn kinds(validator: Validator<'_>, text: &str) -> Vec<(Kind, Severity, String)> {
        let mut found = Vec::new();
        validator.validate(text, |finding| {
            found.push((finding.kind(), finding.severity(), text[finding.span().range()].to_string()));
        });
        found
    }

    fn lenient(text: &str) -> Vec<(Kind, Severity, String)> {
        kinds(Validator::lenient(), text)
    }

    fn strict_errors(text: &str) -> Vec<(Kind, String)> {
        let all = kinds(Validator::strict(), text).into_iter();
        all.filter(|found| found.1 == Severity::Error).map(|found| (found.0, found.2)).collect()
    }

    const GOOD: &str = "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary";

    #[test]
    fn a_good_packet_has_no_finding_in_either_profile() {
        assert_eq!(lenient(GOOD), []);
        assert_eq!(kinds(Validator::strict(), GOOD), []);
    }

    #[test]
    fn the_strict_profile_refuses_what_the_lenient_one_warns_of() {
        for (text, kind, written) in [
            ("SEND|HR|return:A|aacp:1.2|RES:x|res:y", Kind::DuplicateField, "res:y"),
            ("SEND|HR|return:A|aacp:1.2|x:1|x:2", Kind::DuplicateField, "x:2"),
            ("SEND|HR|return:|aacp:1.2", Kind::EmptyReturn, "return:"),
            ("SEND|HR|return:A", Kind::MissingVersion, ""),
            ("SEND|HR|return:A|aacp:1.2|bare", Kind::BareField, "bare"),
            ("SEND|HR|return:A|aacp:1.2|:x", Kind::EmptyKey, ":x"),
            ("SEND|HR|return:A||aacp:1.2", Kind::EmptySlot, ""),
            ("SEND|HR|return: A|aacp:1.2", Kind::Padding, "return: A"),
            ("SEND |HR|return:A|aacp:1.2", Kind::Padding, "SEND "),
            ("SEND|HR|return:A|aacp:1.2\n", Kind::Padding, "SEND|HR|return:A|aacp:1.2\n"),
            ("SEND|HR|return:A|aacp:1.2|subj:a\nb", Kind::ControlCharacter, "\n"),
            ("SEND|HR|return:A|aacp:1.2|subj:é\u{85}b", Kind::ControlCharacter, "\u{85}"),
            ("SEND|HR|return:A|aacp:1.2|enc:b64", Kind::UnknownEncoding, "b64"),
        ] {
            assert!(
                strict_errors(text).contains(&(kind, written.into())),
                "{text}: {:?}",
                strict_errors(text)
            );
            assert!(
                lenient(text).contains(&(kind, Severity::Warning, written.into())),
                "{text}: {:?}",
                lenient(text)
            );
            assert!(Validator::lenient().accepts(text), "{text}");
        }
    }

    #[test]
    fn the_strict_profile_alone_looks_at_key_syntax_and_escapes() {
        for (text, kind, written) in [
            ("SEND|HR|return:A|aacp:1.2|RES:x", Kind::KeySyntax, "RES"),
            ("SEND|HR|return:A|aacp:1.2|a b:x", Kind::KeySyntax, "a b"),
            ("SEND|HR|return:A|aacp:1.2|enc:pct|subj:5%", Kind::BadEscape, "%"),
            ("SEND|HR|return:A|aacp:1.2|enc:pct|subj:%C3x", Kind::BadEscape, "%"),
        ] {
            assert_eq!(strict_errors(text), [(kind, written.into())], "{text}");
            assert!(lenient(text).iter().all(|found| found.0 != kind), "{text}");
        }
        assert_eq!(
            strict_errors("SEND|HR|return:A|aacp:1.2|subj:5%"),
            [],
            "without enc:pct, % is a character"
        );
    }

    #[test]
    fn a_positional_packet_may_leave_slots_empty() {
        let text = "SEND|HR||||||return:A|p:1|aacp:1.0";
        assert_eq!(lenient(text), [(Kind::OtherVersion, Severity::Warning, "1.0".into())]);
        assert!(!Validator::strict().accepts(text));
        assert_eq!(kinds(Validator::lenient().current(Version::V1_0), text), []);
        assert_eq!(lenient("SEND|HR||return:A|aacp:1.2")[0].0, Kind::EmptySlot, "this one has no ten slots");
    }

    #[test]
    fn a_word_from_the_users_schema_is_as_good_as_a_standard_one() {
        let schema = Schema { tasks: &["AUDIT"], domains: &["OPS"], fields: &["Shard"] };
        let text = "AUDIT|OPS|return:A|aacp:1.2|sharD:7";
        assert_eq!(kinds(Validator::lenient().schema(schema), text), []);
        assert_eq!(lenient(text).len(), 3);
    }

    #[test]
    fn a_suggestion_names_the_word_most_likely_meant() {
        let mut suggestions = Vec::new();
        let schema = Schema { tasks: &["AUDIT"], ..Schema::STANDARD };
        let text = "adit|hr|retrun:A|aacp:1.2|sentment:x";
        Validator::lenient().schema(schema).validate(text, |finding| suggestions.push(finding.suggestion()));
        assert_eq!(
            suggestions,
            [
                Some(Suggestion::Replace("AUDIT")),
                Some(Suggestion::Replace("HR")),
                Some(Suggestion::Replace("return")),
                Some(Suggestion::Replace("sentiment")),
                Some(Suggestion::Append("return:")),
            ]
        );
    }

    #[test]
    fn what_is_suggested_for_blanks_and_control_characters_mends_them() {
        for (text, expected) in [
            ("SEND|HR|return:A|aacp:1.2\n", Some(Suggestion::Replace("SEND|HR|return:A|aacp:1.2"))),
            ("SEND|HR|return: A|aacp:1.2\n", Some(Suggestion::Replace("SEND|HR|return: A|aacp:1.2"))),
            ("SEND |HR|return:A|aacp:1.2", Some(Suggestion::Replace("SEND"))),
            ("SEND|HR|return:A |aacp:1.2", Some(Suggestion::Replace("return:A"))),
            ("SEND|HR|return: A|aacp:1.2", None),
            ("SEND|HR|return :A |aacp:1.2", None),
            ("SEND|HR|return:A|aacp:1.2|: x", None),
            ("SEND|HR|return:A|aacp:1.2| :x", Some(Suggestion::Replace(":x"))),
            ("SEND|HR|return:A|aacp:1.2|subj:a\nb", Some(Suggestion::PercentEncode)),
            ("SE\u{1}ND|HR|return:A|aacp:1.2", None),
        ] {
            let mut suggestions = Vec::new();
            Validator::strict().validate(text, |finding| {
                if matches!(finding.kind(), Kind::Padding | Kind::ControlCharacter) {
                    suggestions.push(finding.suggestion());
                }
            });
            assert_eq!(suggestions.first(), Some(&expected), "{text:?}");
        }
    }

    #[test]
    fn a_finding_reads_as_a_sentence_without_the_packets_values() {
        let mut text = String::new();
        Validator::lenient().validate("fetch|HR|return:A|aacp:1.2", |finding| text = finding.to_string());
        assert_eq!(text, "TASK: the task is unknown (bytes 0..5); did you mean `FETCH`?");
    }

    #[test]
    fn parse_gives_the_packet_or_its_first_error() {
        assert_eq!(Validator::strict().parse(GOOD).unwrap().task(), "FETCH");
        let rejection = Validator::lenient().parse("fetch|XX|return:A").unwrap_err();
        assert_eq!(rejection, Rejection { kind: Kind::UnknownTask, span: Span::new(0, 5) });
        assert_eq!(Validator::lenient().parse(" ").unwrap_err().kind, Kind::Empty);
        let tight = Limits { max_fields: 3, ..Limits::DEFAULT };
        assert_eq!(Validator::lenient().limits(tight).parse(GOOD).unwrap_err().kind, Kind::TooManyFields);
    }

    #[test]
    fn unknown_keys_are_told_apart_past_the_size_of_the_table() {
        let many: String = (0..600).map(|n| format!("|k{n}:1")).collect();
        let text = format!("SEND|HR|return:A|aacp:1.2{many}|K5:2|k599:2");
        let mut counts = (0, 0);
        Validator::lenient().limits(Limits::MAX).validate(&text, |finding| match finding.kind() {
            Kind::UnknownField => counts.0 += 1,
            Kind::DuplicateField => counts.1 += 1,
            other => panic!("{other:?}"),
        });
        assert_eq!(counts, (600, 2));
    }
}
