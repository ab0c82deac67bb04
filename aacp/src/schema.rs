//! The vocabulary of packets: tasks, domains and fields of AACP, and additional ones of a user.

use crate::{FieldName, text::Folded};

/// The tasks that AACP defines, in alphabetical order.
pub const TASKS: &[&str] =
    &["ACK", "BUILD", "CALC", "FETCH", "FLAG", "LOG", "MERGE", "PROC", "REPORT", "RESOLVE", "SEND", "SYNC"];

/// The domains that AACP defines, in alphabetical order.
pub const DOMAINS: &[&str] = &["CS", "FIN", "HR", "IT", "LEGAL", "MKT", "SALES"];

/// The priorities that AACP defines: 1 critical, 2 medium, 3 low.
pub const PRIORITIES: &[&str] = &["1", "2", "3"];

/// The vocabulary of AACP, extended by a user's tasks, domains and fields.
///
/// ```
/// use aacp::{Schema, Validator};
/// let schema = Schema { tasks: &["AUDIT"], domains: &["OPS"], fields: &["shard"] };
/// assert!(Validator::lenient().schema(schema).accepts("AUDIT|OPS|return:A|aacp:1.2|shard:7"));
/// ```
///
/// A schema borrows its lists and is cheap to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schema<'s> {
    /// Additional tasks, compared exactly.
    pub tasks: &'s [&'s str],
    /// Additional domains, compared exactly.
    pub domains: &'s [&'s str],
    /// Keys of additional fields, compared without regard to case.
    pub fields: &'s [&'s str],
}

impl<'s> Schema<'s> {
    /// The vocabulary of AACP without additions.
    pub const STANDARD: Schema<'static> = Schema { tasks: &[], domains: &[], fields: &[] };

    /// All tasks: those of AACP, then the additional ones.
    pub fn all_tasks(&self) -> impl Iterator<Item = &'s str> + Clone {
        TASKS.iter().chain(self.tasks).copied()
    }

    /// All domains: those of AACP, then the additional ones.
    pub fn all_domains(&self) -> impl Iterator<Item = &'s str> + Clone {
        DOMAINS.iter().chain(self.domains).copied()
    }

    /// All keys: those of AACP, then the additional ones.
    pub fn all_keys(&self) -> impl Iterator<Item = &'s str> + Clone {
        FieldName::ALL.iter().map(|name| name.key()).chain(self.fields.iter().copied())
    }

    /// Whether the schema has this task.
    pub fn has_task(&self, task: &str) -> bool {
        is_standard_task(task) || self.tasks.contains(&task)
    }

    /// Whether the schema has this domain.
    pub fn has_domain(&self, domain: &str) -> bool {
        is_standard_domain(domain) || self.domains.contains(&domain)
    }

    /// Whether the schema has this key.
    pub fn has_key(&self, key: &str) -> bool {
        FieldName::from_key(key).is_some() || self.adds_key(key)
    }

    /// Whether the additional fields have this key.
    pub(crate) fn adds_key(&self, key: &str) -> bool {
        self.fields.iter().any(|field| Folded(field) == Folded(key))
    }
}

pub(crate) fn is_standard_task(task: &str) -> bool {
    // A `match` compiles to a comparison of lengths and words; searching the list would call `memcmp` twelve times.
    matches!(
        task,
        "ACK"
            | "BUILD"
            | "CALC"
            | "FETCH"
            | "FLAG"
            | "LOG"
            | "MERGE"
            | "PROC"
            | "REPORT"
            | "RESOLVE"
            | "SEND"
            | "SYNC"
    )
}

pub(crate) fn is_standard_domain(domain: &str) -> bool {
    matches!(domain, "CS" | "FIN" | "HR" | "IT" | "LEGAL" | "MKT" | "SALES")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_and_the_lookups_agree() {
        assert!(TASKS.iter().all(|task| is_standard_task(task)));
        assert!(DOMAINS.iter().all(|domain| is_standard_domain(domain)));
        assert!(!is_standard_task("fetch") && !is_standard_domain("hr"));
        assert!(TASKS.is_sorted() && DOMAINS.is_sorted(), "the peers' messages list them sorted");
    }

    #[test]
    fn a_users_words_join_the_standard_ones_without_replacing_them() {
        let schema = Schema { tasks: &["AUDIT"], domains: &["OPS"], fields: &["Shard"] };
        assert!(schema.has_task("AUDIT") && schema.has_task("FETCH") && !schema.has_task("audit"));
        assert!(schema.has_domain("OPS") && schema.has_domain("HR"));
        assert!(schema.has_key("sHARD") && schema.has_key("res") && !schema.has_key("zzz"));
    }
}
