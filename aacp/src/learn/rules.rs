//! Rules: packets for known instructions, in the community's format.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
    string::String,
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use super::words::search_words;
use crate::{Kind, Schema, Validator};

/// A packet with its search terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The unique name of the rule.
    pub id: String,
    /// The title of the rule.
    #[serde(default)]
    pub name: String,
    /// The description of the rule.
    #[serde(default)]
    pub description: String,
    /// The task of the packet.
    #[serde(default)]
    pub task: String,
    /// The domain of the packet.
    #[serde(default)]
    pub dom: String,
    /// The packet.
    pub packet: String,
    /// Additional search terms.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The version of the protocol.
    #[serde(default)]
    pub version: String,
    /// The source of the rule.
    #[serde(default)]
    pub source: String,
    /// Whether the source has validated the rule.
    #[serde(default)]
    pub validated: bool,
}

/// The scope of a search: all rules, or those of a domain or a task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The domain, compared without regard to case.
    pub domain: Option<&'a str>,
    /// The task, compared without regard to case.
    pub task: Option<&'a str>,
}

/// The result of a search.
#[derive(Clone, Copy, Debug)]
pub struct Found<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The number of words in common with the query.
    pub score: usize,
}

/// A rule that was rejected on loading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the rule among those loaded together, from 0.
    pub index: usize,
    /// The error in its packet; `None` if its id is a duplicate.
    pub kind: Option<Kind>,
}

/// Rules that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// The text is not JSON in the community's format.
    Format {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A file or folder cannot be read.
    File {
        /// The path.
        path: PathBuf,
        /// The reason.
        kind: ErrorKind,
    },
    /// The URL cannot be read.
    #[cfg(feature = "http")]
    Http(super::ModelError),
}

impl RuleError {
    /// A stable name for programs to match on: `"bad_rules"`, `"unreadable_file"` or `"unreachable"`.
    pub const fn kind(&self) -> &'static str {
        match self {
            RuleError::Format { .. } => "bad_rules",
            RuleError::File { .. } => "unreadable_file",
            #[cfg(feature = "http")]
            RuleError::Http(_) => "unreachable",
        }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::Format { line, column } => {
                write!(f, "not a list of rules in the community's format: line {line}, column {column}")
            }
            RuleError::File { path, kind } => write!(f, "cannot read {}: {kind}", path.display()),
            #[cfg(feature = "http")]
            RuleError::Http(error) => write!(f, "cannot read the URL: {error}"),
        }
    }
}

impl std::error::Error for RuleError {}

/// Rules with full-text search.
///
/// The format is the community's: an object with a list under `rules`, or the bare list. A rule with a packet that is
/// invalid in the lenient profile, or with a duplicate id, is left out and listed in [`RuleRegistry::refused`].
#[derive(Clone, Debug, Default)]
pub struct RuleRegistry {
    rules: Vec<Rule>,
    /// The words of each rule, by index.
    words: Vec<BTreeSet<String>>,
    by_id: BTreeMap<String, usize>,
    refused: Vec<Refused>,
}

/// The object around a list of rules.
#[derive(Deserialize)]
struct RulesText {
    rules: Vec<Rule>,
}

impl RuleRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads rules from JSON.
    ///
    /// # Errors
    /// [`RuleError::Format`].
    pub fn from_json(text: &str) -> Result<Self, RuleError> {
        let mut registry = Self::new();
        registry.add_json(text, Schema::STANDARD)?;
        Ok(registry)
    }

    /// Reads rules from a file.
    ///
    /// # Errors
    /// [`RuleError::File`], [`RuleError::Format`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, RuleError> {
        Self::from_json(&read(path.as_ref())?)
    }

    /// Reads rules from all `.json` files of a folder and its subfolders, in the order of their paths.
    ///
    /// # Errors
    /// [`RuleError::File`], [`RuleError::Format`].
    pub fn from_folder(path: impl AsRef<Path>) -> Result<Self, RuleError> {
        let mut registry = Self::new();
        let mut folders = Vec::from([path.as_ref().to_path_buf()]);
        let mut files = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            let failed = |error: std::io::Error| RuleError::File { path: folder.clone(), kind: error.kind() };
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                // The type of the entry itself: links to folders are not followed, so there are no cycles.
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(entry.path());
                } else if entry.path().extension().is_some_and(|extension| extension == "json") {
                    files.insert(entry.path());
                }
            }
        }
        for file in files {
            registry.add_json(&read(&file)?, Schema::STANDARD)?;
        }
        Ok(registry)
    }

    /// Reads rules from a URL, such as the community's `index.json`. Available with the feature `http`.
    ///
    /// # Errors
    /// [`RuleError::Http`], [`RuleError::Format`].
    #[cfg(feature = "http")]
    pub fn from_url(url: &str) -> Result<Self, RuleError> {
        Self::from_json(&super::http::get(url).map_err(RuleError::Http)?)
    }

    /// Adds rules from JSON and returns their number. Packets are validated with `schema`.
    ///
    /// # Errors
    /// [`RuleError::Format`]. Nothing is added then.
    pub fn add_json(&mut self, text: &str, schema: Schema<'_>) -> Result<usize, RuleError> {
        let format =
            |error: serde_json::Error| RuleError::Format { line: error.line(), column: error.column() };
        let is_list = text.trim_start().starts_with('[');
        let rules = if is_list {
            serde_json::from_str(text)
        } else {
            serde_json::from_str(text).map(|RulesText { rules }| rules)
        };
        Ok(self.add_rules(rules.map_err(format)?, schema))
    }

    /// Adds rules and returns their number. Packets are validated with `schema`; rejected rules are listed in
    /// [`RuleRegistry::refused`].
    pub fn add_rules(&mut self, rules: impl IntoIterator<Item = Rule>, schema: Schema<'_>) -> usize {
        let before = self.rules.len();
        for (index, rule) in rules.into_iter().enumerate() {
            match Validator::lenient().schema(schema).parse(&rule.packet) {
                Err(rejection) => self.refused.push(Refused { index, kind: Some(rejection.kind) }),
                Ok(_) if self.by_id.contains_key(&rule.id) => {
                    self.refused.push(Refused { index, kind: None })
                }
                Ok(_) => self.add(rule),
            }
        }
        self.rules.len() - before
    }

    fn add(&mut self, rule: Rule) {
        let texts = [&rule.name, &rule.description].into_iter().chain(&rule.tags);
        self.words.push(texts.flat_map(|text| search_words(text)).collect());
        self.by_id.insert(rule.id.clone(), self.rules.len());
        self.rules.push(rule);
    }

    /// The rules, in the order in which they were loaded.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rejected rules.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// The rule with this id.
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.by_id.get(id).map(|position| &self.rules[*position])
    }

    /// The rule with the most words of the query; among equals, the one loaded first.
    ///
    /// DIFFERENCE: words are runs of letters and digits, and stop words are ignored. The Python package splits at spaces
    /// and matches stop words such as `the`.
    pub fn find(&self, query: &str, scope: Scope<'_>) -> Option<Found<'_>> {
        self.find_all(query, scope, 1).pop()
    }

    /// The `limit` rules with the most words of the query, best first; among equals, the one loaded first.
    pub fn find_all(&self, query: &str, scope: Scope<'_>, limit: usize) -> Vec<Found<'_>> {
        let query = search_words(query);
        let mut found: Vec<Found<'_>> = self
            .within(scope)
            .map(|(rule, words)| Found { rule, score: words.intersection(&query).count() })
            .filter(|found| found.score > 0)
            .collect();
        // A stable sort keeps the loading order among equals.
        found.sort_by_key(|found| core::cmp::Reverse(found.score));
        found.truncate(limit);
        found
    }

    /// The rules in a scope with their words.
    pub(super) fn within(&self, scope: Scope<'_>) -> impl Iterator<Item = (&Rule, &BTreeSet<String>)> {
        let fits =
            |filter: Option<&str>, own: &str| filter.is_none_or(|filter| filter.eq_ignore_ascii_case(own));
        self.rules
            .iter()
            .zip(&self.words)
            .filter(move |(rule, _)| fits(scope.domain, &rule.dom) && fits(scope.task, &rule.task))
    }
}

fn read(path: &Path) -> Result<String, RuleError> {
    std::fs::read_to_string(path).map_err(|error| RuleError::File { path: path.into(), kind: error.kind() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn rule(id: &str, packet: &str) -> String {
        format!(
            "{{\"id\":\"{id}\",\"name\":\"{id}\",\"packet\":\"{packet}\",\"dom\":\"HR\",\"task\":\"SEND\"}}"
        )
    }

    #[test]
    fn a_rule_that_cannot_be_sent_or_told_apart_is_left_out_and_told_of() {
        let good = rule("a", "SEND|HR|return:A");
        let text = format!("[{good},{},{good}]", rule("b", "NUKE|HR|return:A"));
        let registry = RuleRegistry::from_json(&text).unwrap();
        assert_eq!(registry.rules().len(), 1);
        let refused = [Refused { index: 1, kind: Some(Kind::UnknownTask) }, Refused { index: 2, kind: None }];
        assert_eq!(registry.refused(), refused);
        assert!(matches!(RuleRegistry::from_json("{\"rules\":3}"), Err(RuleError::Format { .. })));
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for (name, id) in
            [("c.json", "third"), ("a.json", "first"), ("b/x.json", "second"), ("notes.txt", "none")]
        {
            std::fs::write(folder.path().join(name), format!("[{}]", rule(id, "SEND|HR|return:A"))).unwrap();
        }
        let registry = RuleRegistry::from_folder(folder.path()).unwrap();
        let ids: Vec<&str> = registry.rules().iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["first", "second", "third"]);
        assert!(matches!(RuleRegistry::from_folder(folder.path().join("no")), Err(RuleError::File { .. })));
    }
}
