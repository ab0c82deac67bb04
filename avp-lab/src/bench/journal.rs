//! A file of answers as they come, so that a run that was stopped can be taken up again.
//!
//! Its first line says what is measured, each further one holds one answer. A line that was being written when the run stopped is
//! dropped.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::answer::Outcome;

/// The answers that are there, and the file for further ones.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    known: HashMap<Key, Outcome>,
}

/// What is measured: an answer of another model, or to another prompt, must not be taken for one of this run.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) avp: String,
    pub(super) model: String,
    pub(super) dataset: String,
    pub(super) seed: u64,
    pub(super) specialists: usize,
    pub(super) max_tokens: [usize; 2],
}

/// One question in one mode.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) pipeline: String,
    pub(super) question: usize,
    pub(super) mode: String,
}

#[derive(Serialize)]
struct Line<'l> {
    #[serde(flatten)]
    key: &'l Key,
    outcome: &'l Outcome,
}

#[derive(Deserialize)]
struct OwnedLine {
    #[serde(flatten)]
    key: Key,
    outcome: Outcome,
}

impl Journal {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be read or written, is no such file, or was begun with another subject.
    pub(super) fn open(path: &Path, subject: &Subject) -> Result<Self> {
        let what = || format!("cannot keep answers in {}", path.display());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut journal =
            Self { path: path.to_owned(), file: file.with_context(what)?, known: HashMap::new() };
        let mut reader = BufReader::new(&journal.file);
        let mut whole = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).with_context(what)? > 0 && line.ends_with('\n') {
            let other = || {
                format!("{} at byte {whole} is no line of kept answers: name another file", path.display())
            };
            if whole == 0 {
                let begun: Subject = serde_json::from_str(&line).with_context(other)?;
                ensure!(
                    begun == *subject,
                    "{} has answers of another run ({begun:?}, now {subject:?}): name another file",
                    path.display()
                );
            } else {
                let OwnedLine { key, outcome } = serde_json::from_str(&line).with_context(other)?;
                journal.known.insert(key, outcome);
            }
            whole += line.len() as u64;
            line.clear();
        }
        journal.file.set_len(whole).with_context(what)?;
        journal.file.seek(SeekFrom::End(0)).with_context(what)?;
        if whole == 0 {
            journal.write(subject)?;
        }
        Ok(journal)
    }

    /// The answer of an earlier run.
    pub(super) fn take(&mut self, key: &Key) -> Option<Outcome> {
        self.known.remove(key)
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn add(&mut self, key: &Key, outcome: &Outcome) -> Result<()> {
        self.write(&Line { key, outcome })
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text).with_context(|| format!("cannot keep answers in {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(seed: u64) -> Subject {
        Subject {
            avp: "0".into(),
            model: "m".into(),
            dataset: "d".into(),
            seed,
            specialists: 3,
            max_tokens: [1, 2],
        }
    }

    fn key(question: usize) -> Key {
        Key { pipeline: "reading".into(), question, mode: "text".into() }
    }

    fn skipped(reason: &str) -> Outcome {
        Outcome::Skipped(reason.to_owned().into())
    }

    #[test]
    fn a_run_that_was_stopped_within_a_line_goes_on_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let mut journal = Journal::open(&path, &subject(1)).unwrap();
        journal.add(&key(1), &skipped("long")).unwrap();
        journal.add(&key(2), &skipped("long")).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();

        let mut again = Journal::open(&path, &subject(1)).unwrap();
        assert!(matches!(again.take(&key(1)), Some(Outcome::Skipped(reason)) if reason == "long"));
        assert!(again.take(&key(2)).is_none());
        again.add(&key(2), &skipped("long")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn answers_of_another_run_and_other_files_are_refused_and_left_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        drop(Journal::open(&path, &subject(1)).unwrap());
        let before = std::fs::read(&path).unwrap();
        let error = format!("{:#}", Journal::open(&path, &subject(2)).err().unwrap());
        assert!(error.contains("another run"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "my notes\nof today\n").unwrap();
        let error = format!("{:#}", Journal::open(&path, &subject(1)).err().unwrap());
        assert!(error.contains("no line of kept answers"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"my notes\nof today\n");
    }
}
