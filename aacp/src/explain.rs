//! Explaining a packet in English.

use alloc::{
    borrow::{Cow, ToOwned},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use crate::{FieldName, Packet};

/// A packet in English: one sentence for the task and one for each field.
///
/// ```
/// let packet = aacp::Packet::parse("SEND|HR|return:HR-Agent|p:2|aacp:1.2|to:fin_director|tone:formal")?;
/// let english = aacp::Explanation::of(&packet).to_string();
/// assert_eq!(english, "Send (Human Resources domain). Send to: fin_director. Use a formal, professional tone. \
///                      Priority: medium priority. Return to: HR-Agent.");
/// # Ok::<(), aacp::ParseError>(())
/// ```
///
/// The wording is that of the published decoder. DIFFERENCE: fields are found by name at any position, and every field
/// has a sentence. The published decoder skips `highlight`, `att`, `flag_msg`, `ltv`, a `ccy` without `amt`, and unknown
/// fields. Only `aacp`, `enc` and empty values have no sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Explanation<'a> {
    /// The sentences: task and domain, then known fields in the published order, then unknown fields in the packet's
    /// order, then priority and return.
    pub sentences: Vec<Sentence<'a>>,
    /// Whether the sentences cover the whole packet: it has no field without a key.
    pub complete: bool,
}

/// One sentence and its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Sentence<'a> {
    /// `TASK`, or the key of the field.
    pub field: &'a str,
    /// The sentence, with its full stop.
    pub text: String,
}

/// The order of the sentences: that of the published decoder for the fields that it explains.
const ORDER: &[FieldName] = &[
    FieldName::Res,
    FieldName::Period,
    FieldName::Filter,
    FieldName::Fields,
    FieldName::Fmt,
    FieldName::Src,
    FieldName::SrcPrev,
    FieldName::Rules,
    FieldName::Validate,
    FieldName::Tmpl,
    FieldName::DataPtr,
    FieldName::Amt,
    FieldName::Ccy,
    FieldName::Sup,
    FieldName::Match,
    FieldName::Terms,
    FieldName::Party,
    FieldName::Type,
    FieldName::Clause,
    FieldName::Issue,
    FieldName::Risk,
    FieldName::Block,
    FieldName::Flags,
    FieldName::FlagsInherit,
    FieldName::Req,
    FieldName::Highlight,
    FieldName::To,
    FieldName::Subj,
    FieldName::Att,
    FieldName::FlagMsg,
    FieldName::Sentiment,
    FieldName::Tone,
    FieldName::Ltv,
    FieldName::Loyalty,
    FieldName::Urgency,
    FieldName::Prog,
    FieldName::Status,
    FieldName::Actor,
    FieldName::Chain,
];

impl<'a> Explanation<'a> {
    /// Explains a packet, valid or not. If a known key occurs more than once, the last one counts.
    pub fn of(packet: &Packet<'a>) -> Self {
        let mut values: [Option<Cow<'a, str>>; FieldName::ALL.len()] = [const { None }; FieldName::ALL.len()];
        let mut unknown = Vec::new();
        let mut complete = true;
        for (field, value) in packet.fields_decoded() {
            let Some(key) = field.key() else {
                complete = false;
                continue;
            };
            let value = value.to_cow();
            match FieldName::from_key(key) {
                Some(name) => values[name as usize] = Some(value),
                None if value.is_empty() => {}
                None => unknown.push(Sentence { field: key, text: format!("{key}: {value}.") }),
            }
        }
        let value = |name: FieldName| values[name as usize].as_deref().filter(|value| !value.is_empty());

        let mut sentences = Vec::new();
        if let Some(text) = opening(packet.task(), packet.domain()) {
            sentences.push(Sentence { field: "TASK", text });
        }
        let mut say = |name: FieldName| {
            let Some(text) = value(name).and_then(|own| sentence(name, own, value(FieldName::Ccy))) else {
                return;
            };
            // The currency is part of the amount's sentence.
            if name != FieldName::Ccy || value(FieldName::Amt).is_none() {
                sentences.push(Sentence { field: name.key(), text });
            }
        };
        ORDER.iter().for_each(|name| say(*name));
        sentences.append(&mut unknown);
        for name in [FieldName::Priority, FieldName::Return] {
            if let Some(text) = value(name).and_then(|own| sentence(name, own, None)) {
                sentences.push(Sentence { field: name.key(), text });
            }
        }
        Self { sentences, complete }
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sentences.is_empty() {
            return f.write_str("Empty or unrecognised packet.");
        }
        for (n, sentence) in self.sentences.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { " " })?;
            f.write_str(&sentence.text)?;
        }
        Ok(())
    }
}

fn opening(task: &str, domain: &str) -> Option<String> {
    let verb = word_for(TASK_WORDS, task).unwrap_or(task);
    match (task, domain) {
        ("", _) => None,
        (_, "") => Some(format!("{verb}.")),
        _ => Some(format!("{verb} ({} domain).", word_for(DOMAIN_WORDS, domain).unwrap_or(domain))),
    }
}

/// The sentence on one field; `ccy` is the packet's currency.
fn sentence(name: FieldName, value: &str, ccy: Option<&str>) -> Option<String> {
    let words = |value: &str| value.replace('_', " ");
    let names = |value: &str| value.replace('-', " ");
    let list = |value: &str| value.replace(',', " ");
    let known = |table, value| word_for(table, value).unwrap_or(value).to_owned();
    let (label, text) = match name {
        FieldName::Version | FieldName::Encoding => return None,
        FieldName::Tone => match word_for(TONE_WORDS, value) {
            Some(sentence) => return Some(sentence.to_owned()),
            None => ("Tone", value.to_owned()),
        },
        FieldName::Amt => ("Amount", ccy.map_or_else(|| value.to_owned(), |ccy| format!("{ccy} {value}"))),
        FieldName::Prog => ("Progress", percent(value)),
        FieldName::Res => ("Resource", words(value)),
        FieldName::Period => ("For period", value.to_owned()),
        FieldName::Filter => ("Filter", value.replace('=', " = ")),
        FieldName::Fields => ("Return fields", list(value)),
        FieldName::Fmt => ("Format", crate::text::upper(value)),
        FieldName::Src => ("Source", value.to_owned()),
        FieldName::SrcPrev => ("Prior period", value.to_owned()),
        FieldName::Rules => ("Apply rules", words(value)),
        FieldName::Validate => ("Validate against", value.to_owned()),
        FieldName::Tmpl => ("Template", words(value)),
        FieldName::DataPtr => ("Data reference", value.to_owned()),
        FieldName::Ccy => ("Currency", value.to_owned()),
        FieldName::Sup => ("Supplier", names(value)),
        FieldName::Match => ("Match against", value.to_owned()),
        FieldName::Terms => ("Terms", value.replace("net", "Net ")),
        FieldName::Party => ("Counterparty", names(value)),
        FieldName::Type => ("Document type", value.to_owned()),
        FieldName::Clause => ("Clause", value.to_owned()),
        FieldName::Issue => ("Issue", words(value)),
        FieldName::Risk => ("Risk", known(RISK_WORDS, value)),
        FieldName::Block => ("Blocked pending", value.to_owned()),
        FieldName::Flags => ("Flags", list(value)),
        FieldName::FlagsInherit => ("Inherited flags", list(value)),
        FieldName::Req => ("Required actions", list(value)),
        FieldName::Highlight => ("Highlight", words(value)),
        FieldName::To => ("Send to", value.replace(',', " and ")),
        FieldName::Subj => ("Subject", words(value)),
        FieldName::Att => ("Attachment", value.to_owned()),
        FieldName::FlagMsg => ("Message", words(value)),
        FieldName::Sentiment => ("Sentiment", value.to_owned()),
        FieldName::Ltv => ("Lifetime value", value.to_owned()),
        FieldName::Loyalty => ("Loyalty", words(value)),
        FieldName::Urgency => ("Urgency", words(value)),
        FieldName::Status => ("Status", known(STATUS_WORDS, value)),
        FieldName::Actor => ("Initiated by", value.to_owned()),
        FieldName::Chain => ("Agent chain", value.replace(',', " > ")),
        FieldName::Priority => ("Priority", known(PRIORITY_WORDS, value)),
        FieldName::Return => ("Return to", value.to_owned()),
    };
    Some(format!("{label}: {text}."))
}

/// `0.5` as `50%`; any other text unchanged.
fn percent(value: &str) -> String {
    match float(value) {
        Some(part) if part.is_finite() => format!("{:.0}%", part * 100.0),
        _ => value.to_string(),
    }
}

#[cfg(not(feature = "compact"))]
fn float(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(feature = "compact")]
fn float(text: &str) -> Option<f64> {
    lexical_parse_float::FromLexical::from_lexical(text.as_bytes()).ok()
}

type Words = &'static [(&'static str, &'static str)];

fn word_for(words: Words, value: &str) -> Option<&'static str> {
    words.iter().find(|(code, _)| *code == value).map(|(_, word)| *word)
}

const TASK_WORDS: Words = &[
    ("FETCH", "Retrieve"),
    ("PROC", "Process"),
    ("FLAG", "Flag for review"),
    ("RESOLVE", "Resolve"),
    ("LOG", "Log to audit trail"),
    ("SEND", "Send"),
    ("BUILD", "Build"),
    ("MERGE", "Merge"),
    ("CALC", "Calculate"),
    ("REPORT", "Generate report"),
    ("ACK", "Acknowledge"),
    ("SYNC", "Synchronise"),
];

const DOMAIN_WORDS: Words = &[
    ("HR", "Human Resources"),
    ("FIN", "Finance"),
    ("SALES", "Sales"),
    ("LEGAL", "Legal"),
    ("IT", "IT & Infrastructure"),
    ("CS", "Customer Services"),
    ("MKT", "Marketing"),
];

const RISK_WORDS: Words = &[
    ("low", "low risk"),
    ("medium", "medium risk"),
    ("high", "high risk — review required"),
    ("critical", "critical risk — do not proceed without approval"),
];

const STATUS_WORDS: Words = &[
    ("ok", "completed successfully"),
    ("review_required", "completed — review required before proceeding"),
    ("error", "failed — error encountered"),
    ("blocked", "blocked — cannot proceed"),
    ("negotiate", "recommend negotiation"),
    ("approve", "approved to proceed"),
];

const PRIORITY_WORDS: Words = &[("1", "critical priority"), ("2", "medium priority"), ("3", "low priority")];

const TONE_WORDS: Words = &[
    ("empathetic", "Use an empathetic, supportive tone."),
    ("formal", "Use a formal, professional tone."),
    ("terse", "Be concise and direct."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn explain(text: &str) -> String {
        Explanation::of(&Packet::parse(text).unwrap()).to_string()
    }

    #[test]
    fn the_documented_packet_is_explained_by_name_not_by_place() {
        let expected = "Retrieve (Human Resources domain). Resource: emp salary. For period: 2024-08. \
                        Filter: status = active. Format: JSON. Priority: critical priority. Return to: HR-Agent.";
        let compact = "FETCH|HR|return:HR-Agent|p:1|aacp:1.1|res:emp_salary|period:2024-08|filter:status=active|fmt:json";
        let slots = "FETCH|HR|res:emp_salary|period:2024-08|filter:status=active||fmt:json|return:HR-Agent|p:1|aacp:1.0";
        assert_eq!(explain(compact), expected);
        assert_eq!(explain(slots), expected);
    }

    #[test]
    fn every_field_with_a_value_has_a_sentence() {
        let fields: String = FieldName::ALL.iter().map(|name| format!("|{name}:v1")).collect();
        let text = format!("SEND|HR{fields}");
        let explanation = Explanation::of(&Packet::parse(&text).unwrap());
        let silent = [FieldName::Version, FieldName::Encoding, FieldName::Ccy];
        for name in FieldName::ALL {
            let said = explanation.sentences.iter().filter(|sentence| sentence.field == name.key()).count();
            assert_eq!(said, usize::from(!silent.contains(name)), "{name}");
        }
    }

    #[test]
    fn unknown_fields_are_told_as_written_and_bare_words_are_owned_up_to() {
        let packet = Packet::parse("SEND|HR|return:A|Shard:7|word").unwrap();
        let explanation = Explanation::of(&packet);
        assert_eq!(explanation.to_string(), "Send (Human Resources domain). Shard: 7. Return to: A.");
        assert!(!explanation.complete);
        assert_eq!(explain("||return:"), "Empty or unrecognised packet.");
    }

    #[test]
    fn amounts_progress_and_escapes_read_as_meant() {
        assert_eq!(explain("PROC||return:A|amt:42"), "Process. Amount: 42. Return to: A.");
        assert_eq!(
            explain("PROC||return:A|ccy:GBP|amt:42|ltv:7"),
            "Process. Amount: GBP 42. Lifetime value: 7. Return to: A."
        );
        assert_eq!(explain("PROC||return:A|prog:0.505"), "Process. Progress: 50%. Return to: A.");
        assert_eq!(explain("PROC||return:A|prog:half"), "Process. Progress: half. Return to: A.");
        assert_eq!(explain("PROC||return:A|enc:pct|subj:a%7Cb"), "Process. Subject: a|b. Return to: A.");
    }

    proptest! {
        /// With `compact`, another library reads them.
        #[test]
        fn parts_are_those_of_the_standard_library(
            text in "[+-]?[0-9]{0,3}\\.?[0-9]{0,3}([eE]-?[0-9]{0,2})?|inf|nan|x"
        ) {
            let expected = match text.parse::<f64>() {
                Ok(part) if part.is_finite() => format!("{:.0}%", part * 100.0),
                _ => text.clone(),
            };
            prop_assert_eq!(percent(&text), expected);
        }
    }
}
