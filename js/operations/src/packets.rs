//! AACP packets: parsed, validated, explained and built. Offsets count UTF-16 units, as JavaScript's strings do.

use aacp::{
    Builder, FieldName, Finding, Limits, ParseError, Profile, Schema, Suggestion, Validator, Version, peer,
};
use serde::{Deserialize, Serialize};

use crate::{
    argument::argument,
    fault::{Fault, Outcome},
    json::answer,
    utf16::Offsets,
};

/// Words beside AACP's own.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Vocabulary {
    tasks: Vec<String>,
    domains: Vec<String>,
    fields: Vec<String>,
}

/// The same words, borrowed as [`Schema`] needs them.
pub(crate) struct Words<'a>([Vec<&'a str>; 3]);

impl Vocabulary {
    pub(crate) fn words(&self) -> Words<'_> {
        Words(
            [&self.tasks, &self.domains, &self.fields].map(|list| list.iter().map(String::as_str).collect()),
        )
    }
}

impl Words<'_> {
    pub(crate) fn schema(&self) -> Schema<'_> {
        let [tasks, domains, fields] = &self.0;
        Schema { tasks, domains, fields }
    }
}

/// The published version with this number, or the default version.
pub(crate) fn version(number: Option<&str>) -> Outcome<Version> {
    match number {
        None => Ok(Version::default()),
        Some(number) => Version::from_text(number).ok_or_else(|| {
            Fault::packet("unknown_version", None, format_args!("no published version of AACP is {number}"))
        }),
    }
}

#[derive(Serialize)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn new(span: aacp::Span, offsets: &Offsets<'_>) -> Self {
        Self { start: offsets.of(span.start), end: offsets.of(span.end) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Packet<'a> {
    task: Word<'a>,
    domain: Word<'a>,
    fields: Vec<Field<'a>>,
    percent_encoded: bool,
}

#[derive(Serialize)]
struct Word<'a> {
    value: &'a str,
    span: Span,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Field<'a> {
    key: Option<&'a str>,
    name: Option<&'static str>,
    value: String,
    raw: &'a str,
    span: Span,
    value_span: Span,
}

/// Parses a packet.
///
/// # Errors
/// [`ParseError`]'s codes.
pub fn parse(text: &str) -> Outcome<String> {
    let packet = aacp::Packet::parse(text).map_err(|error| parse_error(error, text))?;
    let offsets = Offsets::new(text);
    let span = |span| Span::new(span, &offsets);
    let fields = packet.fields().map(|field| Field {
        key: field.key(),
        name: field.name().map(FieldName::key),
        value: packet.decode(field.value()).to_cow().into_owned(),
        raw: field.value(),
        span: span(field.span()),
        value_span: span(field.value_span()),
    });
    answer(&Packet {
        task: Word { value: packet.task(), span: span(packet.task_span()) },
        domain: Word { value: packet.domain(), span: span(packet.domain_span()) },
        fields: fields.collect(),
        percent_encoded: packet.is_percent_encoded(),
    })
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValidateOptions {
    profile: Strictness,
    version: Option<String>,
    peer: Option<String>,
    max_fields: Option<u64>,
    vocabulary: Vocabulary,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strictness {
    #[default]
    Lenient,
    Strict,
}

#[derive(Serialize)]
struct Validation {
    valid: bool,
    findings: Vec<FoundAt>,
    peer: Option<PeerReport>,
}

#[derive(Serialize)]
struct FoundAt {
    code: &'static str,
    severity: &'static str,
    field: String,
    span: Span,
    message: String,
    fix: Option<Fix>,
}

#[derive(Serialize)]
struct Fix {
    action: &'static str,
    text: Option<String>,
    message: String,
}

#[derive(Serialize)]
struct PeerReport {
    valid: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Validates a text. `None` is a valid packet without findings, and without a report of the peer.
///
/// # Errors
/// `unknown_version`, `unknown_release`, or an argument that is wrong.
pub fn validate(text: &str, options: Option<&str>) -> Outcome<Option<String>> {
    let options: ValidateOptions = match options {
        Some(options) => argument(options, "options")?,
        None => ValidateOptions::default(),
    };
    let profile = match options.profile {
        Strictness::Lenient => Profile::Lenient,
        Strictness::Strict => Profile::Strict,
    };
    let current = version(options.version.as_deref())?;
    let mut limits = Limits::DEFAULT;
    if let Some(max_fields) = options.max_fields {
        limits.max_fields = usize::try_from(max_fields).unwrap_or(usize::MAX);
    }
    let peer = options.peer.map(|release| peer_report(text, &release, limits)).transpose()?;
    let (offsets, mut findings) = (Offsets::new(text), Vec::new());
    let words = options.vocabulary.words();
    let validator = Validator::new(profile).schema(words.schema()).current(current).limits(limits);
    let report = validator.validate(text, |finding| findings.push(found_at(&finding, text, &offsets)));
    if report.is_valid() && findings.is_empty() && peer.is_none() {
        return Ok(None);
    }
    answer(&Validation { valid: report.is_valid(), findings, peer }).map(Some)
}

fn peer_report(text: &str, release: &str, limits: Limits) -> Outcome<PeerReport> {
    let release = peer::Release::from_text(release).ok_or_else(|| {
        let message = format!("no known release of the Python package is {release}");
        Fault::packet("unknown_release", None, message)
    })?;
    let peer = peer::report(text, release, limits).map_err(|error| parse_error(error, text))?;
    Ok(PeerReport { valid: peer.valid, errors: peer.errors, warnings: peer.warnings })
}

fn found_at(finding: &Finding<'_>, text: &str, offsets: &Offsets<'_>) -> FoundAt {
    let fix = finding.suggestion().map(|suggestion| {
        let (action, new) = match suggestion {
            Suggestion::Replace(new) => ("replace", Some(new.to_owned())),
            Suggestion::Lowercase => ("replace", Some(text[finding.span().range()].to_ascii_lowercase())),
            Suggestion::Append(new) => ("append", Some(new.to_owned())),
            Suggestion::Remove => ("remove", None),
            _ => ("encode", None),
        };
        Fix { action, text: new, message: suggestion.to_string() }
    });
    FoundAt {
        code: finding.kind().as_str(),
        severity: if finding.is_error() { "error" } else { "warning" },
        field: finding.field().to_owned(),
        span: Span::new(finding.span(), offsets),
        // `Display` of the finding would add an offset in bytes.
        message: match finding.field() {
            "" => finding.kind().to_string(),
            field => format!("{field}: {}", finding.kind()),
        },
        fix,
    }
}

/// Explains a packet in English.
///
/// # Errors
/// [`ParseError`]'s codes.
pub fn explain(text: &str) -> Outcome<String> {
    #[derive(Serialize)]
    struct Explanation<'a> {
        text: String,
        sentences: &'a [aacp::Sentence<'a>],
        complete: bool,
    }

    let packet = aacp::Packet::parse(text).map_err(|error| parse_error(error, text))?;
    let explanation = aacp::Explanation::of(&packet);
    answer(&Explanation {
        text: explanation.to_string(),
        sentences: &explanation.sentences,
        complete: explanation.complete,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PacketInit {
    task: String,
    domain: String,
    return_agent: String,
    priority: Option<String>,
    version: Option<String>,
    /// Keys and values, in the order to write them.
    fields: Vec<(String, String)>,
    #[serde(default)]
    vocabulary: Vocabulary,
}

/// Builds a packet.
///
/// # Errors
/// The builder's codes, `unknown_version`, or an argument that is wrong.
pub fn build(init: &str) -> Outcome<String> {
    let init: PacketInit = argument(init, "init")?;
    let words = init.vocabulary.words();
    let mut builder = Builder::new(&init.task, &init.domain, &init.return_agent)
        .schema(words.schema())
        .version(version(init.version.as_deref())?);
    if let Some(priority) = &init.priority {
        builder = builder.priority_text(priority);
    }
    for (key, value) in &init.fields {
        builder = builder.field(key, value);
    }
    answer(&builder.build().map_err(|error| Fault::packet(error.kind(), None, error))?)
}

/// AACP's own tasks, domains, fields and versions.
///
/// # Errors
/// None.
pub fn standard_vocabulary() -> Outcome<String> {
    #[derive(Serialize)]
    struct StandardVocabulary {
        tasks: &'static [&'static str],
        domains: &'static [&'static str],
        fields: Vec<AboutField>,
        versions: Vec<&'static str>,
    }
    #[derive(Serialize)]
    struct AboutField {
        key: &'static str,
        about: &'static str,
    }

    answer(&StandardVocabulary {
        tasks: aacp::TASKS,
        domains: aacp::DOMAINS,
        fields: FieldName::ALL
            .iter()
            .map(|name| AboutField { key: name.key(), about: name.about() })
            .collect(),
        versions: Version::ALL.iter().map(|version| version.as_str()).collect(),
    })
}

fn parse_error(error: ParseError, text: &str) -> Fault {
    let at = match error {
        ParseError::TooManyFields { at, .. } => at,
        _ => 0,
    };
    Fault::packet(error.kind(), Some(Offsets::new(text).of(at)), error)
}
