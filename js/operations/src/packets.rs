//! AACP packets: parsed, checked, explained and built, with places counted as JavaScript counts them.

use aacp::{
    Builder, Explanation, FieldName, Finding, Limits, Packet, ParseError, Profile, Schema, Span, Suggestion,
    Validator, Version, peer,
};

use crate::{
    border::{Answer, Request},
    fault::{Fault, Outcome},
    utf16::Offsets,
};

/// Tasks, domains and fields of a user's own, as a request lists them.
pub(crate) struct Words<'a> {
    lists: [Vec<&'a str>; 3],
}

impl<'a> Words<'a> {
    pub(crate) fn read(request: &mut Request<'a>) -> Outcome<Self> {
        Ok(Self { lists: [request.texts()?, request.texts()?, request.texts()?] })
    }

    pub(crate) fn schema(&self) -> Schema<'_> {
        let [tasks, domains, fields] = &self.lists;
        Schema { tasks, domains, fields }
    }
}

/// The version that a request names; the newest common one where it names none.
pub(crate) fn version(request: &mut Request<'_>) -> Outcome<Version> {
    match request.option(Request::text)? {
        None => Ok(Version::default()),
        Some(text) => Version::from_text(text).ok_or_else(|| {
            Fault::packet("unknown_version", None, "no published version of AACP has this number")
        }),
    }
}

/// A packet and its parts. A task, a domain and a bare word have no key; `name` is null unless AACP defines the key.
pub(crate) fn parse(text: &str, answer: &mut Answer) -> Outcome<()> {
    let packet = Packet::parse(text).map_err(|error| parse_error(error, text))?;
    let offsets = Offsets::new(text);
    answer.object(|answer| {
        for (key, word, span) in
            [("task", packet.task(), packet.task_span()), ("domain", packet.domain(), packet.domain_span())]
        {
            answer.key(key).object(|answer| {
                answer.key("value").text(word);
                write_span(answer.key("span"), span, &offsets);
            });
        }
        answer.key("fields").array(|answer| {
            for field in packet.fields() {
                answer.object(|answer| {
                    answer.key("key").optional_text(field.key());
                    answer.key("name").optional_text(field.name().map(FieldName::key));
                    answer.key("value").text(&packet.decode(field.value()).to_cow());
                    answer.key("raw").text(field.value());
                    write_span(answer.key("span"), field.span(), &offsets);
                    write_span(answer.key("valueSpan"), field.value_span(), &offsets);
                });
            }
        });
        answer.key("percentEncoded").flag(packet.is_percent_encoded());
    });
    Ok(())
}

/// Checks a text; the request holds it, whether to be strict, the current version, a release of the Python package to
/// ask too, the most fields, and further words.
pub(crate) fn validate(mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let text = request.text()?;
    let profile = if request.flag()? { Profile::Strict } else { Profile::Lenient };
    let current = version(&mut request)?;
    let release = match request.option(Request::text)? {
        None => None,
        Some(name) => Some(peer::Release::from_text(name).ok_or_else(|| {
            Fault::packet("unknown_release", None, "no release of the Python package is known by this number")
        })?),
    };
    let mut limits = Limits::DEFAULT;
    if let Some(max_fields) = request.option(Request::number)? {
        limits.max_fields = max_fields as usize;
    }
    let words = Words::read(&mut request)?;
    let peer = match release {
        Some(release) => Some(peer::report(text, release, limits).map_err(|error| parse_error(error, text))?),
        None => None,
    };
    let offsets = Offsets::new(text);
    let validator = Validator::new(profile).schema(words.schema()).current(current).limits(limits);
    answer.object(|answer| {
        let mut valid = true;
        answer.key("findings").array(|answer| {
            let write = |finding: Finding<'_>| write_finding(&finding, text, &offsets, answer);
            valid = validator.validate(text, write).is_valid();
        });
        answer.key("valid").flag(valid).key("peer");
        match peer {
            None => _ = answer.null(),
            Some(peer) => {
                answer.object(|answer| {
                    answer.key("valid").flag(peer.valid);
                    answer.key("errors").texts(peer.errors.iter().map(String::as_str));
                    answer.key("warnings").texts(peer.warnings.iter().map(String::as_str));
                });
            }
        }
    });
    Ok(())
}

fn write_finding(finding: &Finding<'_>, text: &str, offsets: &Offsets<'_>, answer: &mut Answer) {
    answer.object(|answer| {
        answer.key("code").text(finding.kind().as_str());
        answer.key("severity").text(if finding.is_error() { "error" } else { "warning" });
        answer.key("field").text(finding.field());
        write_span(answer.key("span"), finding.span(), offsets);
        // The finding's own sentence counts in bytes.
        answer.key("message").text(&match finding.field() {
            "" => finding.kind().to_string(),
            field => format!("{field}: {}", finding.kind()),
        });
        answer.key("fix");
        let Some(suggestion) = finding.suggestion() else {
            answer.null();
            return;
        };
        let lowered;
        let (action, new) = match suggestion {
            Suggestion::Replace(new) => ("replace", Some(new)),
            Suggestion::Lowercase => {
                lowered = text[finding.span().range()].to_ascii_lowercase();
                ("replace", Some(lowered.as_str()))
            }
            Suggestion::Append(new) => ("append", Some(new)),
            Suggestion::Remove => ("remove", None),
            _ => ("encode", None),
        };
        answer.object(|answer| {
            answer.key("action").text(action).key("text").optional_text(new);
            answer.key("message").text(&suggestion.to_string());
        });
    });
}

pub(crate) fn explain(text: &str, answer: &mut Answer) -> Outcome<()> {
    let packet = Packet::parse(text).map_err(|error| parse_error(error, text))?;
    let explanation = Explanation::of(&packet);
    answer.object(|answer| {
        answer.key("text").text(&explanation.to_string());
        answer.key("sentences").array(|answer| {
            for sentence in &explanation.sentences {
                answer.object(|answer| {
                    answer.key("field").text(sentence.field).key("text").text(&sentence.text);
                });
            }
        });
        answer.key("complete").flag(explanation.complete);
    });
    Ok(())
}

/// The request holds task, domain, return agent, priority, version, fields and further words.
pub(crate) fn build(mut request: Request<'_>, answer: &mut Answer) -> Outcome<()> {
    let [task, domain, return_agent] = [request.text()?, request.text()?, request.text()?];
    let priority = request.option(Request::text)?;
    let version = version(&mut request)?;
    let fields = request.pairs()?;
    let words = Words::read(&mut request)?;
    let mut builder = Builder::new(task, domain, return_agent).schema(words.schema()).version(version);
    if let Some(priority) = priority {
        builder = builder.priority_text(priority);
    }
    for (key, value) in fields {
        builder = builder.field(key, value);
    }
    answer.text(&builder.build().map_err(|error| Fault::packet(error.kind(), None, error))?);
    Ok(())
}

/// AACP's own tasks, domains, fields with what each holds, and versions.
pub(crate) fn vocabulary(answer: &mut Answer) {
    answer.object(|answer| {
        answer.key("tasks").texts(aacp::TASKS.iter().copied());
        answer.key("domains").texts(aacp::DOMAINS.iter().copied());
        answer.key("fields").array(|answer| {
            for name in FieldName::ALL {
                answer
                    .object(|answer| _ = answer.key("key").text(name.key()).key("about").text(name.about()));
            }
        });
        answer.key("versions").texts(Version::ALL.iter().map(|version| version.as_str()));
    });
}

fn write_span(answer: &mut Answer, span: Span, offsets: &Offsets<'_>) {
    let (start, end) = (offsets.of(span.start) as u64, offsets.of(span.end) as u64);
    answer.object(|answer| _ = answer.key("start").whole(start).key("end").whole(end));
}

fn parse_error(error: ParseError, text: &str) -> Fault {
    let at = match error {
        ParseError::TooManyFields { at, .. } => at,
        _ => 0,
    };
    Fault::packet(error.kind(), Some(Offsets::new(text).of(at)), error)
}
