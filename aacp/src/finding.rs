//! Findings of a validator.

use core::{error::Error, fmt};

use crate::{Schema, Span, suggest::nearest};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Severity {
    /// The packet is still valid.
    Warning,
    /// The packet is invalid.
    Error,
}

impl Severity {
    /// `warning` or `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares [`Kind`]: one line per kind with its variant, its name and its message.
macro_rules! kinds {
    ($($variant:ident $name:literal $message:literal,)*) => {
        /// The kind of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`: ", $message, ".")] $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];

            /// A stable name for programs to match on.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// The finding in words.
            pub const fn message(self) -> &'static str {
                match self { $(Kind::$variant => $message,)* }
            }
        }
    };
}

kinds! {
    Empty "empty" "the packet is empty",
    TooShort "too_short" "a packet has at least a task, a domain and one field",
    TooManyFields "too_many_fields" "more fields than the limit allows",
    TooLong "too_long" "more text than the limit allows",
    EmptyTask "empty_task" "the task is empty",
    UnknownTask "unknown_task" "the task is unknown",
    EmptyDomain "empty_domain" "the domain is empty",
    UnknownDomain "unknown_domain" "the domain is unknown",
    MissingReturn "missing_return" "the `return` field is missing",
    EmptyReturn "empty_return" "the `return` field is empty",
    MissingVersion "missing_version" "the `aacp` field with the version is missing",
    OtherVersion "other_version" "the version is not the current one",
    UnknownVersion "unknown_version" "the version is unknown",
    OddPriority "odd_priority" "the priority is not 1, 2 or 3",
    UnknownField "unknown_field" "the field is unknown; it may be an extension",
    DuplicateField "duplicate_field" "the field is a duplicate",
    BareField "bare_field" "the field has no key",
    EmptyKey "empty_key" "the key is empty",
    KeySyntax "key_syntax" "a key is a lower-case letter, then lower-case letters, digits, `_`, `-` or `.`",
    EmptySlot "empty_slot" "the slot between two pipes is empty",
    Padding "padding" "blank characters surround a part",
    ControlCharacter "control_character" "control character, such as a newline",
    UnknownEncoding "unknown_encoding" "the `enc` field names an encoding other than `pct`",
    BadEscape "bad_escape" "`%` does not start the escape of a character",
    SentimentWithoutTone "sentiment_without_tone" "`sentiment` without `tone`",
    LtvWithoutCcy "ltv_without_ccy" "`ltv` without `ccy`",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// One finding of a validator: kind, severity, place, and a suggestion.
///
/// ```
/// use aacp::{Kind, Suggestion, Validator};
/// let mut found = None;
/// Validator::lenient().validate("fetch|HR|return:A|aacp:1.2", |finding| found = Some(finding));
/// let finding = found.unwrap();
/// assert_eq!((finding.kind(), finding.span().range()), (Kind::UnknownTask, 0..5));
/// assert_eq!(finding.suggestion(), Some(Suggestion::Replace("FETCH")));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Finding<'a> {
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    pub(crate) field: &'a str,
    pub(crate) span: Span,
    /// The text of `span`.
    pub(crate) written: &'a str,
    pub(crate) schema: Schema<'a>,
}

/// A change that corrects a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suggestion<'a> {
    /// Replace the span with this text.
    Replace(&'a str),
    /// Write the span's text in lower case.
    Lowercase,
    /// Append a field that starts with this text.
    Append(&'static str),
    /// Remove the span and one adjacent pipe.
    Remove,
    /// Percent-encode the packet's values and add `enc:pct`.
    PercentEncode,
}

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suggestion::Replace(text) => write!(f, "did you mean `{text}`?"),
            Suggestion::Lowercase => f.write_str("write it in lower case"),
            Suggestion::Append(start) => write!(f, "add `{start}`"),
            Suggestion::Remove => f.write_str("remove it"),
            Suggestion::PercentEncode => f.write_str("percent-encode it and add `enc:pct`"),
        }
    }
}

impl<'a> Finding<'a> {
    /// The kind of the finding.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The severity of the finding.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Whether the finding makes the packet invalid.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The field concerned: `TASK`, `DOM` or a key; empty for the packet as a whole and for a bare word.
    pub fn field(&self) -> &'a str {
        self.field
    }

    /// The place, in bytes of the text; a missing field has an empty span at the end of the packet.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The change that corrects it, if one is known. Computed on each call.
    pub fn suggestion(&self) -> Option<Suggestion<'a>> {
        match self.kind {
            Kind::UnknownTask => nearest(self.written, self.schema.all_tasks()).map(Suggestion::Replace),
            Kind::UnknownDomain => nearest(self.written, self.schema.all_domains()).map(Suggestion::Replace),
            Kind::UnknownField => nearest(self.written, self.schema.all_keys()).map(Suggestion::Replace),
            Kind::MissingReturn => Some(Suggestion::Append("return:")),
            Kind::MissingVersion => Some(Suggestion::Append("aacp:")),
            Kind::SentimentWithoutTone => Some(Suggestion::Append("tone:")),
            Kind::LtvWithoutCcy => Some(Suggestion::Append("ccy:")),
            Kind::KeySyntax if has_key_syntax_once_lowered(self.written) => Some(Suggestion::Lowercase),
            Kind::DuplicateField | Kind::EmptySlot => Some(Suggestion::Remove),
            Kind::Padding => without_padding(self.field, self.written).map(Suggestion::Replace),
            // Only values are decoded.
            Kind::ControlCharacter => {
                (!matches!(self.field, "" | "TASK" | "DOM")).then_some(Suggestion::PercentEncode)
            }
            Kind::UnknownEncoding => Some(Suggestion::Replace("pct")),
            Kind::BadEscape => Some(Suggestion::Replace("%25")),
            _ => None,
        }
    }
}

/// The packet or the slot without the blanks around it. `None` if there are also blanks around a slot's colon: the rest
/// is not contiguous.
fn without_padding<'a>(key: &str, written: &'a str) -> Option<&'a str> {
    let trimmed = crate::text::trim(written).1;
    let is_padded = |part: &str| crate::text::trim(part).1.len() != part.len();
    match trimmed.split_once(':') {
        // Without a key it is a slot that starts with its colon, or the whole packet.
        Some((before, value)) if before.is_empty() || !key.is_empty() => {
            (!is_padded(before) && !is_padded(value)).then_some(trimmed)
        }
        _ => Some(trimmed),
    }
}

fn has_key_syntax_once_lowered(key: &str) -> bool {
    crate::validate::has_key_syntax(key.bytes().map(|byte| byte.to_ascii_lowercase()))
}

impl fmt::Debug for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finding")
            .field("kind", &self.kind)
            .field("severity", &self.severity)
            .field("field", &self.field)
            .field("span", &self.span)
            .field("suggestion", &self.suggestion())
            .finish()
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            "" => write!(f, "{} (bytes {})", self.kind, self.span)?,
            field => write!(f, "{field}: {} (bytes {})", self.kind, self.span)?,
        }
        match self.suggestion() {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// The first error of a rejected packet: kind and place, without the packet's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The kind of the finding.
    pub kind: Kind,
    /// The place, in bytes of the text.
    pub span: Span,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (bytes {})", self.kind, self.span)
    }
}

impl Error for Rejection {}
