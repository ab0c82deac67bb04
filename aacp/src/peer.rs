//! Verdicts and messages of the published Python packages, word for word.
//!
//! They serve compatibility with programs that match on these messages, and test the lenient profile, which accepts every
//! packet that the Python package accepts.

use core::fmt;

use crate::{
    FieldName, Limits, Packet, ParseError,
    schema::{DOMAINS, PRIORITIES, TASKS, is_standard_domain, is_standard_task},
    seen::SeenKeys,
    text::Folded,
};

/// A release of the Python package `aacp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Release {
    /// 1.1.0, whose current protocol version is 1.1.
    V1_1_0,
    /// 1.4.0, whose current protocol version is 1.2.
    V1_4_0,
}

impl Release {
    /// Every release, oldest first.
    pub const ALL: &'static [Release] = &[Release::V1_1_0, Release::V1_4_0];

    /// The release with this number, such as `1.4.0`.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|release| release.as_str() == text)
    }

    /// The number, such as `1.4.0`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Release::V1_1_0 => "1.1.0",
            Release::V1_4_0 => "1.4.0",
        }
    }

    /// The current protocol version of the release.
    pub const fn current(self) -> crate::Version {
        match self {
            Release::V1_1_0 => crate::Version::V1_1,
            Release::V1_4_0 => crate::Version::V1_2,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One message of the Python package's validator; `Display` gives its text.
///
/// Unlike the errors of this crate, it quotes the packet.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a>(Text<'a>);

#[derive(Clone, Copy, Debug)]
enum Text<'a> {
    Empty,
    TooShort,
    EmptyTask,
    UnknownTask(&'a str),
    EmptyDomain,
    UnknownDomain(&'a str),
    MissingReturn,
    MissingVersion,
    OtherVersion { got: &'a str, current: crate::Version },
    OddPriority(&'a str),
    UnknownField(Folded<'a>),
    SentimentWithoutTone,
    LtvWithoutCcy,
}

impl Message<'_> {
    /// Whether it is an error. Otherwise it is a warning.
    pub const fn is_error(&self) -> bool {
        matches!(
            self.0,
            Text::Empty
                | Text::TooShort
                | Text::EmptyTask
                | Text::UnknownTask(_)
                | Text::EmptyDomain
                | Text::UnknownDomain(_)
                | Text::MissingReturn
        )
    }
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Text::Empty => f.write_str("Empty packet."),
            Text::TooShort => f.write_str("Packet too short — minimum: TASK|DOM|...|return:AGENT|p:N|aacp:1.0"),
            Text::EmptyTask => f.write_str("Field 0 (TASK) is empty."),
            Text::UnknownTask(task) => write!(f, "Unknown TASK '{task}'. Valid: {}", Listed(TASKS)),
            Text::EmptyDomain => f.write_str("Field 1 (DOM) is empty."),
            Text::UnknownDomain(domain) => write!(f, "Unknown DOM '{domain}'. Valid: {}", Listed(DOMAINS)),
            Text::MissingReturn => f.write_str("Missing return: field. Must specify receiving agent."),
            Text::MissingVersion => {
                f.write_str("Missing aacp: version tag. Add aacp:1.0 for compatibility.")
            }
            Text::OtherVersion { got, current } => write!(f, "AACP version '{got}' — current is {current}."),
            Text::OddPriority(priority) => {
                write!(f, "Priority '{priority}' non-standard. Expected 1, 2, or 3.")
            }
            Text::UnknownField(key) => write!(f, "Unknown field '{key}'. May be valid extension."),
            Text::SentimentWithoutTone => f.write_str(
                "sentiment field present without tone. Add tone:empathetic|formal|terse for human-facing tasks.",
            ),
            Text::LtvWithoutCcy => f.write_str("ltv field present without ccy — add currency context."),
        }
    }
}

/// Words separated by a comma and a space.
struct Listed(&'static [&'static str]);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, word) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { ", " })?;
            f.write_str(word)?;
        }
        Ok(())
    }
}

/// Calls `sink` with each message of the release, errors and warnings each in the package's order, and returns whether the
/// packet is valid for that release.
///
/// ```
/// use aacp::peer::{Release, validate};
/// let valid = validate("FETCH|HR|return:A", Release::V1_4_0, Default::default(), |message| {
///     assert_eq!(message.to_string(), "Missing aacp: version tag. Add aacp:1.0 for compatibility.");
/// })?;
/// assert!(valid);
/// # Ok::<(), aacp::ParseError>(())
/// ```
///
/// # Errors
/// [`ParseError::TooManyFields`] and [`ParseError::TooLong`] beyond `limits`. The package has no limits.
pub fn validate<'a>(
    text: &'a str,
    release: Release,
    limits: Limits,
    mut sink: impl FnMut(Message<'a>),
) -> Result<bool, ParseError> {
    let mut valid = true;
    let mut say = |text| {
        let message = Message(text);
        valid &= !message.is_error();
        sink(message);
    };
    match Packet::parse_with(text, limits) {
        Ok(packet) => validate_packet(&packet, release, &mut say),
        Err(ParseError::Empty) => say(Text::Empty),
        Err(ParseError::TooShort { .. }) => say(Text::TooShort),
        Err(limit) => return Err(limit),
    }
    Ok(valid)
}

fn validate_packet<'a>(packet: &Packet<'a>, release: Release, say: &mut impl FnMut(Text<'a>)) {
    match packet.task() {
        "" => say(Text::EmptyTask),
        task if !is_standard_task(task) => say(Text::UnknownTask(task)),
        _ => {}
    }
    match packet.domain() {
        "" => say(Text::EmptyDomain),
        domain if !is_standard_domain(domain) => say(Text::UnknownDomain(domain)),
        _ => {}
    }

    let mut present = 0u64;
    let mut any_unknown = false;
    let (mut version, mut priority) = (None, None);
    for field in packet.fields() {
        let Some(key) = field.key() else { continue };
        match peer_field(key) {
            Some(name) => {
                present |= name.bit();
                match name {
                    FieldName::Version => version = Some(field.value()),
                    FieldName::Priority => priority = Some(field.value()),
                    _ => {}
                }
            }
            None => any_unknown = true,
        }
    }
    let has = |name: FieldName| present & name.bit() != 0;

    if !has(FieldName::Return) {
        say(Text::MissingReturn);
    }
    let current = release.current();
    match version {
        None => say(Text::MissingVersion),
        Some(got) if got != current.as_str() => say(Text::OtherVersion { got, current }),
        Some(_) => {}
    }
    if let Some(priority) = priority.filter(|priority| !PRIORITIES.contains(priority)) {
        say(Text::OddPriority(priority));
    }
    if any_unknown {
        unknown_fields(packet, say);
    }
    if has(FieldName::Sentiment) && !has(FieldName::Tone) {
        say(Text::SentimentWithoutTone);
    }
    if has(FieldName::Ltv) && !has(FieldName::Ccy) {
        say(Text::LtvWithoutCcy);
    }
}

/// One message for each unknown key, at its first occurrence.
fn unknown_fields<'a>(packet: &Packet<'a>, say: &mut impl FnMut(Text<'a>)) {
    let mut seen = SeenKeys::new(packet.as_str());
    for field in packet.fields() {
        let Some((key, span)) = field.key().zip(field.key_span()) else { continue };
        if peer_field(key).is_some() {
            continue;
        }
        let earlier = packet.fields().take_while(|other| other.position() < field.position());
        if seen.insert(key, span.start, earlier.filter_map(|other| other.key())) {
            say(Text::UnknownField(Folded(key)));
        }
    }
}

fn peer_field(key: &str) -> Option<FieldName> {
    FieldName::from_key(key).filter(|name| name.known_to_peers())
}

/// All messages of a release for a packet. Available with the feature `alloc`.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerReport {
    /// Whether the packet is valid for the release.
    pub valid: bool,
    /// The errors, in the package's order.
    pub errors: alloc::vec::Vec<alloc::string::String>,
    /// The warnings, in the package's order.
    pub warnings: alloc::vec::Vec<alloc::string::String>,
}

/// Collects all messages of a release for a packet; see [`validate`]. Available with the feature `alloc`.
///
/// # Errors
/// As [`validate`].
#[cfg(feature = "alloc")]
pub fn report(text: &str, release: Release, limits: Limits) -> Result<PeerReport, ParseError> {
    use alloc::{string::ToString, vec::Vec};

    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let valid = validate(text, release, limits, |message| {
        let list = if message.is_error() { &mut errors } else { &mut warnings };
        list.push(message.to_string());
    })?;
    Ok(PeerReport { valid, errors, warnings })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{string::String, string::ToString, vec::Vec};

    fn said(text: &str, release: Release) -> Vec<String> {
        let mut said = Vec::new();
        validate(text, release, Limits::DEFAULT, |message| said.push(message.to_string())).unwrap();
        said
    }

    #[test]
    fn each_release_has_its_own_current_version() {
        let text = "SEND|HR|return:A|aacp:1.1";
        assert_eq!(said(text, Release::V1_1_0), Vec::<String>::new());
        assert_eq!(said(text, Release::V1_4_0), ["AACP version '1.1' — current is 1.2."]);
        assert_eq!(Release::from_text("1.4.0"), Some(Release::V1_4_0));
        assert_eq!(Release::from_text("1.2"), None);
    }

    #[test]
    fn fields_of_ours_that_the_package_does_not_know_are_unknown_once() {
        let text = "SEND|HR|return:A|aacp:1.2|ENC:pct|enc:pct|flags_inherit:x";
        assert_eq!(
            said(text, Release::V1_4_0),
            [
                "Unknown field 'enc'. May be valid extension.",
                "Unknown field 'flags_inherit'. May be valid extension."
            ]
        );
    }
}
