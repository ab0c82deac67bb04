//! The named fields that AACP defines.

use core::fmt;

use crate::text::Folded;

/// Declares [`FieldName`]: one line per field with its variant, its key and its description.
macro_rules! field_names {
    ($($variant:ident $wire:literal $about:literal,)*) => {
        /// A field that AACP defines.
        ///
        /// ```
        /// use aacp::FieldName;
        /// assert_eq!(FieldName::from_key("Src_Prev"), Some(FieldName::SrcPrev));
        /// assert_eq!(FieldName::SrcPrev.key(), "src_prev");
        /// ```
        ///
        /// The order of the variants is the order in which the published encoders write the fields.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum FieldName {
            $(#[doc = concat!("`", $wire, "`: ", $about, ".")] $variant,)*
        }

        impl FieldName {
            /// Every field, in the order in which the published encoders write them.
            pub const ALL: &'static [FieldName] = &[$(FieldName::$variant),*];

            /// The key on the wire.
            pub const fn key(self) -> &'static str {
                match self { $(FieldName::$variant => $wire,)* }
            }

            /// The field with exactly this key.
            ///
            /// This compiles to a test of the length and a few comparisons of whole words, which is faster than a hash
            /// table.
            fn exactly(key: &str) -> Option<Self> {
                match key { $($wire => Some(FieldName::$variant),)* _ => None }
            }

            /// A short description of the field.
            pub const fn about(self) -> &'static str {
                match self { $(FieldName::$variant => $about,)* }
            }
        }
    };
}

field_names! {
    Return "return" "the agent that receives the answer",
    Priority "p" "priority: 1 critical, 2 medium, 3 low",
    Version "aacp" "the protocol version of the packet",
    Encoding "enc" "the encoding of values; `pct` is percent-encoding",
    Res "res" "the resource",
    Period "period" "the period, such as 2024-08",
    Filter "filter" "the condition on records, such as status=active",
    Fields "fields" "the fields to return, comma-separated",
    Fmt "fmt" "the format of the answer",
    Src "src" "sources, comma-separated",
    SrcPrev "src_prev" "the source of the previous period",
    Rules "rules" "the rules to apply",
    Validate "validate" "the reference to validate against",
    Tmpl "tmpl" "the template to use",
    DataPtr "data_ptr" "the location of the data",
    Amt "amt" "an amount of money",
    Ccy "ccy" "the currency of the amounts",
    Sup "sup" "a supplier",
    Match "match" "the document to match against, such as a purchase order",
    Terms "terms" "payment terms, such as net30",
    Type "type" "the type of document",
    Party "party" "the counterparty",
    Clause "clause" "a clause of the document",
    Issue "issue" "the problem",
    Risk "risk" "the level of risk",
    Block "block" "the step that is blocked by this issue",
    Flags "flags" "flags, comma-separated",
    FlagsInherit "flags_inherit" "flags inherited from the previous step, comma-separated",
    Req "req" "required actions, comma-separated",
    Highlight "highlight" "the items to highlight",
    Status "status" "the status",
    To "to" "the recipients, comma-separated",
    Subj "subj" "the subject of a message",
    Att "att" "an attachment",
    FlagMsg "flag_msg" "a message for the flag",
    Sentiment "sentiment" "the customer's sentiment",
    Tone "tone" "the tone to use",
    Prog "prog" "progress from 0 to 1",
    Actor "actor" "the initiator",
    Chain "chain" "the agents passed through, comma-separated",
    Ltv "ltv" "a customer's lifetime value",
    Loyalty "loyalty" "a customer's loyalty level",
    Urgency "urgency" "the urgency",
}

impl FieldName {
    /// The field with this key, compared without regard to case.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::exactly(key).or_else(|| Self::folded(key))
    }

    /// Whether the published Python packages (1.1.0 to 1.4.0) know the field.
    pub const fn known_to_peers(self) -> bool {
        !matches!(self, FieldName::Encoding | FieldName::FlagsInherit)
    }

    /// This field's bit in a set of fields.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// The field with this key in lower case.
    ///
    /// A few characters outside ASCII have an ASCII lower case (KELVIN SIGN); the peers accept them in a known key.
    fn folded(key: &str) -> Option<Self> {
        let is_folded = key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        if is_folded {
            return None;
        }
        let mut folded = [0u8; LONGEST_KEY];
        let mut len = 0;
        for c in Folded(key).chars() {
            *folded.get_mut(len)? = u8::try_from(c).ok().filter(u8::is_ascii)?;
            len += 1;
        }
        core::str::from_utf8(&folded[..len]).ok().and_then(Self::exactly)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Length of the longest key, in bytes.
const LONGEST_KEY: usize = {
    let (mut longest, mut n) = (0, 0);
    while n < FieldName::ALL.len() {
        let len = FieldName::ALL[n].key().len();
        if len > longest {
            longest = len;
        }
        n += 1;
    }
    longest
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn every_key_is_found_in_any_case_and_no_other_is() {
        for name in FieldName::ALL {
            assert_eq!(FieldName::from_key(name.key()), Some(*name));
            assert_eq!(FieldName::from_key(&name.key().to_uppercase()), Some(*name));
        }
        for stranger in ["", "x", "returns", "src-prev", "flags_inherited_by_all", "é", "p\0"] {
            assert_eq!(FieldName::from_key(stranger), None, "{stranger:?}");
        }
        assert_eq!(FieldName::from_key("ris\u{212a}"), Some(FieldName::Risk), "KELVIN SIGN is a capital k");
    }

    #[test]
    fn every_field_has_a_bit_of_its_own() {
        let all = FieldName::ALL.iter().fold(0u64, |set, name| {
            assert_eq!(set & name.bit(), 0);
            set | name.bit()
        });
        assert_eq!(all.count_ones() as usize, FieldName::ALL.len());
    }
}
