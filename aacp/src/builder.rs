//! Building packets.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{
    error::Error,
    fmt::{self, Display, Write},
};

use crate::{
    Encoded, FieldName, Limits, Profile, Rejection, Schema, Validator, Version,
    pct::needs_encoding,
    text::{Folded, trim},
    validate::has_key_syntax,
};

/// The priority of a packet, its `p` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// `p:1`.
    Critical,
    /// `p:2`.
    Medium,
    /// `p:3`.
    Low,
}

impl Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Priority::Critical => "1",
            Priority::Medium => "2",
            Priority::Low => "3",
        })
    }
}

/// Builds a packet that the strict profile accepts.
///
/// ```
/// use aacp::{Builder, Priority};
/// let packet = Builder::new("FETCH", "HR", "HR-Agent").priority(Priority::Critical).period("2024-08").build()?;
/// assert_eq!(packet, "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|period:2024-08");
/// # Ok::<(), aacp::BuildError>(())
/// ```
///
/// Fields are written in the order in which they were added, after `return`, `p` and `aacp`. A value can be any text: if
/// one contains `|`, `%`, a control character, or blanks at an end, all values are percent-encoded and the packet states
/// `enc:pct`. An empty value is written as an empty value; to leave a field out, do not add it.
#[must_use]
#[derive(Clone, Debug)]
pub struct Builder<'s> {
    task: String,
    domain: String,
    version: Version,
    schema: Schema<'s>,
    return_agent: String,
    priority: Option<String>,
    fields: Vec<(String, String)>,
}

/// A packet that cannot be built. `field` is the index of an added field, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The task is not a word: it is empty, or contains `|`, blanks at an end, or a control character.
    Task,
    /// The domain is not a word.
    Domain,
    /// The key is not a lower-case letter followed by lower-case letters, digits, `_`, `-` or `.`.
    Key {
        /// Which field.
        field: usize,
    },
    /// The key is reserved for the builder: `return`, `p`, `aacp` or `enc`.
    ReservedKey {
        /// Which field.
        field: usize,
    },
    /// The key was added before.
    DuplicateKey {
        /// Which field.
        field: usize,
    },
    /// The packet is not valid; the span is in its text.
    Rejected(Rejection),
}

impl BuildError {
    /// A stable name for programs to match on, such as `"duplicate_key"`; for [`BuildError::Rejected`] that of the
    /// finding.
    pub const fn kind(&self) -> &'static str {
        match self {
            BuildError::Task => "bad_task",
            BuildError::Domain => "bad_domain",
            BuildError::Key { .. } => "bad_key",
            BuildError::ReservedKey { .. } => "reserved_key",
            BuildError::DuplicateKey { .. } => "duplicate_key",
            BuildError::Rejected(rejection) => rejection.kind.as_str(),
        }
    }
}

impl Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Task => {
                f.write_str("invalid task: expected text without `|`, control characters or blanks at an end")
            }
            BuildError::Domain => f.write_str(
                "invalid domain: expected text without `|`, control characters or blanks at an end",
            ),
            BuildError::Key { field } => write!(
                f,
                "invalid key of field {field}: expected a lower-case letter, then lower-case letters, digits, `_`, `-` or `.`"
            ),
            BuildError::ReservedKey { field } => {
                write!(f, "reserved key of field {field}: the builder writes `return`, `p`, `aacp` and `enc`")
            }
            BuildError::DuplicateKey { field } => write!(f, "duplicate key of field {field}"),
            BuildError::Rejected(rejection) => write!(f, "invalid packet: {rejection}"),
        }
    }
}

impl Error for BuildError {}

impl<'s> Builder<'s> {
    /// Starts a packet with its task, its domain and the agent that receives the answer.
    pub fn new(task: impl Into<String>, domain: impl Into<String>, return_agent: impl Display) -> Self {
        Self {
            task: task.into(),
            domain: domain.into(),
            version: Version::default(),
            schema: Schema::STANDARD,
            return_agent: return_agent.to_string(),
            priority: None,
            fields: Vec::new(),
        }
    }

    /// Sets the version of the packet. Default: [`Version::V1_2`].
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets the schema of task and domain. Default: [`Schema::STANDARD`].
    pub fn schema<'t>(self, schema: Schema<'t>) -> Builder<'t> {
        let Self { task, domain, version, return_agent, priority, fields, .. } = self;
        Builder { task, domain, version, schema, return_agent, priority, fields }
    }

    /// Sets the priority. Default: no `p` field.
    pub fn priority(self, priority: Priority) -> Self {
        self.priority_text(priority)
    }

    /// Sets a priority outside the three that AACP defines.
    pub fn priority_text(mut self, priority: impl Display) -> Self {
        self.priority = Some(priority.to_string());
        self
    }

    /// Adds a field.
    pub fn field(mut self, key: impl Into<String>, value: impl Display) -> Self {
        self.fields.push((key.into(), value.to_string()));
        self
    }

    /// Adds a field of comma-separated items.
    pub fn list<I>(self, key: impl Into<String>, items: I) -> Self
    where
        I: IntoIterator<Item: Display>,
    {
        let mut value = String::new();
        for (n, item) in items.into_iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            // Writing to a `String` cannot fail.
            let _ = write!(value, "{comma}{item}");
        }
        self.field(key, value)
    }

    /// Writes the packet.
    ///
    /// # Errors
    /// - [`BuildError::Task`], [`BuildError::Domain`] for text that is not a word;
    /// - [`BuildError::Key`], [`BuildError::ReservedKey`], [`BuildError::DuplicateKey`] for a field's key;
    /// - [`BuildError::Rejected`] for a packet that is not valid: unknown task or domain, empty `return`.
    pub fn build(&self) -> Result<String, BuildError> {
        if !is_word(&self.task) {
            return Err(BuildError::Task);
        }
        if !is_word(&self.domain) {
            return Err(BuildError::Domain);
        }
        self.check_keys()?;
        let packet = self.write();
        let strict =
            Validator::new(Profile::Strict).schema(self.schema).current(self.version).limits(Limits::MAX);
        strict.parse(&packet).map_err(BuildError::Rejected)?;
        Ok(packet)
    }

    fn check_keys(&self) -> Result<(), BuildError> {
        let mut seen = alloc::collections::BTreeSet::new();
        for (field, (key, _)) in self.fields.iter().enumerate() {
            if !has_key_syntax(key.bytes()) {
                return Err(BuildError::Key { field });
            }
            let reserved = [FieldName::Return, FieldName::Priority, FieldName::Version, FieldName::Encoding];
            if FieldName::from_key(key).is_some_and(|name| reserved.contains(&name)) {
                return Err(BuildError::ReservedKey { field });
            }
            if !seen.insert(Folded(key)) {
                return Err(BuildError::DuplicateKey { field });
            }
        }
        Ok(())
    }

    fn write(&self) -> String {
        let version = self.version.as_str();
        let head = [
            ("return", Some(self.return_agent.as_str())),
            ("p", self.priority.as_deref()),
            ("aacp", Some(version)),
        ];
        let head = head.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let fields = self.fields.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let encode = head.clone().chain(fields.clone()).any(|(_, value)| needs_encoding(value));

        let mut packet = String::new();
        packet.push_str(&self.task);
        packet.push('|');
        packet.push_str(&self.domain);
        for (key, value) in head.chain(encode.then_some(("enc", "pct"))).chain(fields) {
            packet.push('|');
            packet.push_str(key);
            packet.push(':');
            if encode {
                // Writing to a `String` cannot fail.
                let _ = write!(packet, "{}", Encoded(value));
            } else {
                packet.push_str(value);
            }
        }
        packet
    }
}

/// Declares a builder method for each field: one value each, or a list.
macro_rules! field_methods {
    (values { $($method:ident $name:ident,)* } lists { $($list:ident $list_name:ident,)* }) => {
        impl Builder<'_> {
            $(
                #[doc = concat!("Adds [`FieldName::", stringify!($name), "`].")]
                pub fn $method(self, value: impl Display) -> Self {
                    self.field(FieldName::$name.key(), value)
                }
            )*
            $(
                #[doc = concat!("Adds [`FieldName::", stringify!($list_name), "`], comma-separated.")]
                pub fn $list(self, items: impl IntoIterator<Item: Display>) -> Self {
                    self.list(FieldName::$list_name.key(), items)
                }
            )*
        }
    };
}

field_methods! {
values {
    res Res,
    period Period,
    filter Filter,
    fmt Fmt,
    src_prev SrcPrev,
    rules Rules,
    validate Validate,
    tmpl Tmpl,
    data_ptr DataPtr,
    amt Amt,
    ccy Ccy,
    sup Sup,
    match_with Match,
    terms Terms,
    doc_type Type,
    party Party,
    clause Clause,
    issue Issue,
    risk Risk,
    block Block,
    highlight Highlight,
    status Status,
    subj Subj,
    att Att,
    flag_msg FlagMsg,
    sentiment Sentiment,
    tone Tone,
    prog Prog,
    actor Actor,
    ltv Ltv,
    loyalty Loyalty,
    urgency Urgency,
}
lists {
    return_fields Fields,
    src Src,
    flags Flags,
    flags_inherit FlagsInherit,
    req Req,
    to To,
    chain Chain,
}
}

/// Whether a task or a domain can be written. Both are never encoded.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c == '|' || c.is_control())
        && trim(text).1.len() == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Packet};

    #[test]
    fn fields_come_in_the_order_added_and_there_is_a_method_for_each() {
        let packet = Builder::new("PROC", "FIN", "FIN-Agent")
            .priority(Priority::Medium)
            .version(Version::V1_1)
            .res("invoice")
            .amt(4200.5)
            .ccy("GBP")
            .req(["validate", "schedule_pay"])
            .match_with("PO-441")
            .build();
        let expected = "PROC|FIN|return:FIN-Agent|p:2|aacp:1.1|res:invoice|amt:4200.5|ccy:GBP|req:validate,schedule_pay|match:PO-441";
        assert_eq!(packet.as_deref(), Ok(expected));
    }

    #[test]
    fn a_value_that_cannot_stand_plainly_is_encoded_and_says_so() {
        let packet = Builder::new("SEND", "HR", "A|B").subj("5% off\n").att("x").build().unwrap();
        assert_eq!(packet, "SEND|HR|return:A%7CB|aacp:1.2|enc:pct|subj:5%25 off%0A|att:x");
        let packet = Packet::parse(&packet).unwrap();
        let values: Vec<String> = packet.fields_decoded().map(|(_, value)| value.to_string()).collect();
        assert_eq!(values, ["A|B", "1.2", "5% off\n", "x"]);
    }

    #[test]
    fn what_no_strict_packet_can_say_is_refused() {
        let good = || Builder::new("SEND", "HR", "A");
        assert_eq!(Builder::new("SE|ND", "HR", "A").build(), Err(BuildError::Task));
        assert_eq!(Builder::new("SEND", " HR", "A").build(), Err(BuildError::Domain));
        assert_eq!(good().field("a", 1).field("a b", 2).build(), Err(BuildError::Key { field: 1 }));
        assert_eq!(good().field("aacp", "1.0").build(), Err(BuildError::ReservedKey { field: 0 }));
        assert_eq!(good().field("x", 1).field("x", 2).build(), Err(BuildError::DuplicateKey { field: 1 }));
        let kind = |built: Result<String, BuildError>| match built {
            Err(BuildError::Rejected(rejection)) => rejection.kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(Builder::new("NUKE", "HR", "A").build()), Kind::UnknownTask);
        assert_eq!(kind(Builder::new("SEND", "HR", "").build()), Kind::EmptyReturn);
    }

    #[test]
    fn a_users_schema_opens_new_words() {
        let schema = Schema { tasks: &["AUDIT"], domains: &["OPS"], fields: &["shard"] };
        let packet = Builder::new("AUDIT", "OPS", "A").schema(schema).field("shard", 7).build();
        assert_eq!(packet.as_deref(), Ok("AUDIT|OPS|return:A|aacp:1.2|shard:7"));
    }
}
