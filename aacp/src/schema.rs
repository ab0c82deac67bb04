//! What tasks, domains and fields a packet may use: AACP's own, and a user's on top.

use crate::{FieldName, text::Folded};

/// The tasks that AACP defines, in alphabetical order.
pub const TASKS: &[&str] =
    &["ACK", "BUILD", "CALC", "FETCH", "FLAG", "LOG", "MERGE", "PROC", "REPORT", "RESOLVE", "SEND", "SYNC"];

/// The domains that AACP defines, in alphabetical order.
pub const DOMAINS: &[&str] = &["CS", "FIN", "HR", "IT", "LEGAL", "MKT", "SALES"];

/// The priorities that AACP defines: 1 critical, 2 medium, 3 low.
pub const PRIORITIES: &[&str] = &["1", "2", "3"];

/// AACP's vocabulary together with a user's own tasks, domains and fields.
///
/// ```
/// use aacp::{Schema, Validator};
/// let schema = Schema { tasks: &["AUDIT"], domains: &["OPS"], fields: &["shard"] };
/// assert!(Validator::lenient().schema(schema).accepts("AUDIT|OPS|return:A|aacp:1.2|shard:7"));
/// ```
///
/// It borrows the lists, so that a schema costs nothing; build them at start-up from wherever they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schema<'s> {
    /// Further tasks, compared exactly.
    pub tasks: &'s [&'s str],
    /// Further domains, compared exactly.
    pub domains: &'s [&'s str],
    /// Keys of further fields, compared without regard to case.
    pub fields: &'s [&'s str],
}

impl<'s> Schema<'s> {
    /// AACP's own vocabulary and nothing else.
    pub const STANDARD: Schema<'static> = Schema { tasks: &[], domains: &[], fields: &[] };

    /// Every task: AACP's, then the user's.
    pub fn all_tasks(&self) -> impl Iterator<Item = &'s str> + Clone {
        TASKS.iter().chain(self.tasks).copied()
    }

    /// Every domain: AACP's, then the user's.
    pub fn all_domains(&self) -> impl Iterator<Item = &'s str> + Clone {
        DOMAINS.iter().chain(self.domains).copied()
    }

    /// Every key: AACP's, then the user's.
    pub fn all_keys(&self) -> impl Iterator<Item = &'s str> + Clone {
        FieldName::ALL.iter().map(|name| name.key()).chain(self.fields.iter().copied())
    }

    /// Whether this is a known task.
    pub fn has_task(&self, task: &str) -> bool {
        is_standard_task(task) || self.tasks.contains(&task)
    }

    /// Whether this is a known domain.
    pub fn has_domain(&self, domain: &str) -> bool {
        is_standard_domain(domain) || self.domains.contains(&domain)
    }

    /// Whether this is a known key.
    pub fn has_key(&self, key: &str) -> bool {
        FieldName::from_key(key).is_some() || self.adds_key(key)
    }

    /// Whether the user's part of the schema has this key.
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
