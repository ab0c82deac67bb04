//! Reports: all findings of a packet.

use alloc::{string::String, string::ToString, vec::Vec};

use crate::{Finding, Packet, Severity, Verdict};

/// A packet with all its findings; see [`crate::Validator::report`]. Available with the feature `alloc`.
///
/// ```
/// let report = aacp::Validator::lenient().report("fetch|HR|return:A|aacp:1.2");
/// assert!(!report.is_valid());
/// assert_eq!(report.errors(), ["TASK: the task is unknown (bytes 0..5); did you mean `FETCH`?"]);
/// ```
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The validated text.
    pub text: &'a str,
    /// The packet, if the text can be parsed; it may still be invalid.
    pub packet: Option<Packet<'a>>,
    /// The number of findings.
    pub verdict: Verdict,
    /// The findings, in the order of [`crate::Validator::validate`].
    pub findings: Vec<Finding<'a>>,
}

impl Report<'_> {
    /// Whether the packet has no error.
    pub fn is_valid(&self) -> bool {
        self.verdict.is_valid()
    }

    /// The errors as sentences.
    pub fn errors(&self) -> Vec<String> {
        self.sentences(Severity::Error)
    }

    /// The warnings as sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.sentences(Severity::Warning)
    }

    fn sentences(&self, severity: Severity) -> Vec<String> {
        self.findings
            .iter()
            .filter(|finding| finding.severity() == severity)
            .map(|finding| finding.to_string())
            .collect()
    }
}
