//! Reports as one line of JSON.

use alloc::{
    borrow::Cow,
    string::{String, ToString},
    vec::Vec,
};

use serde::Serialize;

use crate::{Limits, ParseError, Report, Severity, Span, peer};

/// A [`Report`] for serialization: keys `packet`, `valid`, `errors`, `warnings`, `findings`, `fields`. Available with the
/// feature `serde`.
///
/// ```
/// let line = aacp::Validator::lenient().report("ACK|HR|return:A").line();
/// let json = serde_json::to_value(&line)?;
/// assert_eq!(json["findings"][0]["kind"], "missing_version");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportLine<'a> {
    /// The validated text.
    pub packet: &'a str,
    /// Whether the packet has no error.
    pub valid: bool,
    /// The errors as sentences, or as the peer's messages.
    pub errors: Vec<String>,
    /// The warnings as sentences, or as the peer's messages.
    pub warnings: Vec<String>,
    /// The findings of this crate.
    pub findings: Vec<FindingLine<'a>>,
    /// All parts of the packet in order; empty if the text is not a packet.
    pub fields: Vec<FieldLine<'a>>,
}

/// A [`crate::Finding`] for serialization.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FindingLine<'a> {
    /// [`crate::Kind::as_str`].
    pub kind: &'static str,
    /// `error` or `warning`.
    pub severity: Severity,
    /// `TASK`, `DOM`, a key, or empty for the packet as a whole.
    pub field: &'a str,
    /// The place, in bytes of `packet`.
    pub span: Span,
    /// The finding as a sentence.
    pub message: String,
    /// The suggestion, if there is one.
    pub suggestion: Option<String>,
}

/// A part of a packet for serialization.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldLine<'a> {
    /// `TASK`, `DOM`, or the key as written; null for a bare word.
    pub key: Option<&'a str>,
    /// The value, decoded if the packet is percent-encoded (`enc:pct`).
    pub value: Cow<'a, str>,
    /// The place, in bytes of `packet`.
    pub span: Span,
}

impl<'a> Report<'a> {
    /// The report for serialization. Available with the feature `serde`.
    pub fn line(&self) -> ReportLine<'a> {
        let findings = self.findings.iter().map(|finding| FindingLine {
            kind: finding.kind().as_str(),
            severity: finding.severity(),
            field: finding.field(),
            span: finding.span(),
            message: finding.to_string(),
            suggestion: finding.suggestion().map(|suggestion| suggestion.to_string()),
        });
        let mut fields = Vec::new();
        if let Some(packet) = &self.packet {
            let part = |key, value, span| FieldLine { key: Some(key), value: Cow::Borrowed(value), span };
            fields.push(part("TASK", packet.task(), packet.task_span()));
            fields.push(part("DOM", packet.domain(), packet.domain_span()));
            let encoded = packet.is_percent_encoded();
            fields.extend(packet.fields().map(|field| FieldLine {
                key: field.key(),
                value: crate::Decoded::new(field.value(), encoded).to_cow(),
                span: field.span(),
            }));
        }
        ReportLine {
            packet: self.text,
            valid: self.is_valid(),
            errors: self.errors(),
            warnings: self.warnings(),
            findings: findings.collect(),
            fields,
        }
    }
}

impl ReportLine<'_> {
    /// The same line with the verdict, errors and warnings of a release of the Python package.
    ///
    /// # Errors
    /// As [`peer::validate`].
    pub fn as_peer(mut self, release: peer::Release, limits: Limits) -> Result<Self, ParseError> {
        let peer::PeerReport { valid, errors, warnings } = peer::report(self.packet, release, limits)?;
        (self.valid, self.errors, self.warnings) = (valid, errors, warnings);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validator;
    use serde_json::json;

    #[test]
    fn a_line_has_the_six_keys_and_all_parts() {
        let text = "fetch|HR|return:A|aacp:1.2|enc:pct|subj:a%7Cb|word";
        let line = serde_json::to_value(Validator::lenient().report(text).line()).unwrap();
        assert_eq!(
            line,
            json!({
                "packet": text,
                "valid": false,
                "errors": ["TASK: the task is unknown (bytes 0..5); did you mean `FETCH`?"],
                "warnings": ["the field has no key (bytes 46..50)"],
                "findings": [
                    {"kind": "unknown_task", "severity": "error", "field": "TASK", "span": {"start": 0, "end": 5},
                     "message": "TASK: the task is unknown (bytes 0..5); did you mean `FETCH`?",
                     "suggestion": "did you mean `FETCH`?"},
                    {"kind": "bare_field", "severity": "warning", "field": "", "span": {"start": 46, "end": 50},
                     "message": "the field has no key (bytes 46..50)", "suggestion": null},
                ],
                "fields": [
                    {"key": "TASK", "value": "fetch", "span": {"start": 0, "end": 5}},
                    {"key": "DOM", "value": "HR", "span": {"start": 6, "end": 8}},
                    {"key": "return", "value": "A", "span": {"start": 9, "end": 17}},
                    {"key": "aacp", "value": "1.2", "span": {"start": 18, "end": 26}},
                    {"key": "enc", "value": "pct", "span": {"start": 27, "end": 34}},
                    {"key": "subj", "value": "a|b", "span": {"start": 35, "end": 45}},
                    {"key": null, "value": "word", "span": {"start": 46, "end": 50}},
                ],
            })
        );
    }

    #[test]
    fn the_peers_words_replace_ours_and_nothing_else() {
        let own = Validator::lenient().report("FETCH|HR|return:A").line();
        let peer = own.clone().as_peer(peer::Release::V1_1_0, Limits::DEFAULT).unwrap();
        assert_eq!(peer.warnings, ["Missing aacp: version tag. Add aacp:1.0 for compatibility."]);
        assert_eq!((peer.findings, peer.fields), (own.findings, own.fields));
    }
}
