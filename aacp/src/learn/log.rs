//! The pattern log: an append-only file, shared by threads and processes.
//!
//! Each line is one JSON record, written at once under the file's lock: a new pattern, or a repetition of one. A crash in
//! the middle of a write leaves a line without a newline; the next writer adds the newline, and readers skip the line. A
//! crash therefore loses at most one record. Nothing is rewritten.
//!
//! An embedded store is not used: it would have a format of its own, and most allow one process at a time.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    string::String,
    sync::{Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use super::{
    Pattern,
    words::{crucial_words, instruction_id, keywords},
};

/// An error of the pattern log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be read or written. A partly written record was removed.
    File(ErrorKind),
    /// The file to import is not a list of patterns.
    Format {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::File(kind) => write!(f, "pattern log: {kind}"),
            LogError::Format { line, column } => {
                write!(f, "not a list of patterns: line {line}, column {column}")
            }
        }
    }
}

impl std::error::Error for LogError {}

impl From<std::io::Error> for LogError {
    fn from(error: std::io::Error) -> Self {
        LogError::File(error.kind())
    }
}

/// A pattern log in a file.
///
/// ```
/// use aacp::learn::{Loss, Pattern, PatternLog};
/// # let folder = tempfile::tempdir()?;
/// let log = PatternLog::open(folder.path().join("patterns.log"))?;
/// log.record(&Pattern::new("Run payroll", "HR", "PROC|HR|return:A|aacp:1.2", Loss::None, None))?;
/// assert_eq!(log.lookup("run  PAYROLL", "HR")?.map(|pattern| pattern.times_seen), Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The key of a pattern is its instruction and its domain. Any number of threads and processes can use one file, and each
/// sees the records of the others.
#[derive(Debug)]
pub struct PatternLog {
    path: PathBuf,
    state: Mutex<State>,
}

/// The contents of the file.
#[derive(Debug, Default)]
struct State {
    patterns: Vec<Pattern>,
    /// Position in `patterns` by id and domain.
    by_key: HashMap<(String, String), usize>,
    /// The offset in bytes up to which the file has been read; the start of a line.
    read_to: u64,
    /// The number of unreadable lines.
    damaged: usize,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Record {
    /// A new pattern.
    Pattern(Pattern),
    /// A repetition of a pattern.
    Seen { id: String, domain: String },
}

impl PatternLog {
    /// Opens a log; creates the file if it does not exist.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LogError> {
        let log = Self { path: path.into(), state: Mutex::default() };
        drop(log.update(|_| Vec::new())?);
        Ok(log)
    }

    /// The pattern with the same instruction; its count is incremented.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn lookup(&self, english: &str, domain: &str) -> Result<Option<Pattern>, LogError> {
        let key = (instruction_id(english), crate::text::upper(domain));
        let state = self.update(|state| {
            let known = state.by_key.contains_key(&key);
            let seen = || Record::Seen { id: key.0.clone(), domain: key.1.clone() };
            known.then(seen).into_iter().collect()
        })?;
        Ok(state.by_key.get(&key).map(|position| state.patterns[*position].clone()))
    }

    /// The pattern with the most similar instruction in the same domain, and the similarity, from 0 to 1.
    ///
    /// The similarity is the number of common keywords divided by the larger number of keywords. Words with digits and
    /// negations must all be equal, so that a packet for one month is not used for another.
    ///
    /// DIFFERENCE: the Python package divides by the number of keywords of the logged instruction and ignores digits, so
    /// that a longer instruction matches a shorter one.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn similar(
        &self,
        english: &str,
        domain: &str,
        least: f64,
    ) -> Result<Option<(Pattern, f64)>, LogError> {
        let domain = crate::text::upper(domain);
        let (words, crucial) =
            (keywords(english).into_iter().collect::<BTreeSet<_>>(), crucial_words(english));
        let state = self.update(|_| Vec::new())?;
        let mut best: Option<(&Pattern, f64)> = None;
        for pattern in state.patterns.iter().filter(|pattern| pattern.domain == domain) {
            let own: BTreeSet<String> = pattern.keywords.iter().cloned().collect();
            let most = own.len().max(words.len());
            if most == 0 {
                continue;
            }
            let likeness = own.intersection(&words).count() as f64 / most as f64;
            let better = best.is_none_or(|(_, so_far)| likeness > so_far);
            if likeness >= least && better && crucial_words(&pattern.english) == crucial {
                best = Some((pattern, likeness));
            }
        }
        Ok(best.map(|(pattern, likeness)| (pattern.clone(), likeness)))
    }

    /// Logs a pattern, or increments its count; true if it is new.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn record(&self, pattern: &Pattern) -> Result<bool, LogError> {
        let mut new = false;
        drop(self.update(|state| {
            new = !state.by_key.contains_key(&key_of(pattern));
            Vec::from([if new {
                Record::Pattern(pattern.clone())
            } else {
                Record::Seen { id: pattern.id.clone(), domain: pattern.domain.clone() }
            }])
        })?);
        Ok(new)
    }

    /// All patterns, in the order in which they were first logged.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn patterns(&self) -> Result<Vec<Pattern>, LogError> {
        Ok(self.update(|_| Vec::new())?.patterns.clone())
    }

    /// The number of unreadable lines: records truncated by a crash.
    pub fn damaged_lines(&self) -> usize {
        self.lock_state().damaged
    }

    /// Imports the new patterns of the Python package's `unknown_patterns.json` and returns their number.
    ///
    /// # Errors
    /// [`LogError::File`], [`LogError::Format`]. Nothing is imported then.
    pub fn import(&self, path: impl AsRef<Path>) -> Result<usize, LogError> {
        let text = std::fs::read_to_string(path)?;
        let patterns: Vec<Pattern> = serde_json::from_str(&text)
            .map_err(|error| LogError::Format { line: error.line(), column: error.column() })?;
        let mut count = 0;
        drop(self.update(|state| {
            let mut taken = BTreeSet::new();
            let new = patterns.into_iter().filter(|pattern| {
                let key = key_of(pattern);
                !state.by_key.contains_key(&key) && taken.insert(key)
            });
            let records: Vec<Record> = new.map(Record::Pattern).collect();
            count = records.len();
            records
        })?);
        Ok(count)
    }

    /// Writes all patterns as the Python package's `unknown_patterns.json`, atomically.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn export(&self, path: impl AsRef<Path>) -> Result<(), LogError> {
        let path = path.as_ref();
        let text = serde_json::to_string_pretty(&self.patterns()?).map_err(std::io::Error::from)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Under the file's lock: reads the records of others, then writes the records that `decide` returns.
    fn update(&self, decide: impl FnOnce(&State) -> Vec<Record>) -> Result<MutexGuard<'_, State>, LogError> {
        let mut state = self.lock_state();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        file.lock()?;
        state.read_on(&mut file)?;
        let records = decide(&state);
        if !records.is_empty() {
            append(&mut file, &records)?;
            state.read_on(&mut file)?;
        }
        // Closing the file releases its lock.
        drop(file);
        Ok(state)
    }

    /// The state contains only whole records, so it is consistent even if a thread panicked while it held the lock.
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads the lines added since the last call.
    fn read_on(&mut self, file: &mut File) -> Result<(), LogError> {
        let len = file.metadata()?.len();
        if len < self.read_to {
            // The file was replaced: start over.
            *self = Self::default();
        }
        if len == self.read_to {
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.read_to))?;
        file.read_to_end(&mut bytes)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            self.read_to += line.len() as u64 + 1;
            match serde_json::from_slice(line) {
                Ok(record) => self.apply(record),
                Err(_) if line.is_empty() => {}
                Err(_) => self.damaged += 1,
            }
        }
        Ok(())
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Pattern(pattern) => {
                let position = self.patterns.len();
                if *self.by_key.entry(key_of(&pattern)).or_insert(position) == position {
                    self.patterns.push(pattern);
                }
            }
            Record::Seen { id, domain } => {
                if let Some(position) = self.by_key.get(&(id, domain)) {
                    let seen = &mut self.patterns[*position].times_seen;
                    *seen = seen.saturating_add(1);
                }
            }
        }
    }
}

fn key_of(pattern: &Pattern) -> (String, String) {
    (pattern.id.clone(), pattern.domain.clone())
}

/// Appends records to the locked file, or leaves it unchanged.
fn append(file: &mut File, records: &[Record]) -> Result<(), LogError> {
    let len = file.metadata()?.len();
    let mut lines = Vec::new();
    if len > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(len - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            // A writer crashed in this line. End it, so that this record starts a new one.
            lines.push(b'\n');
        }
    }
    for record in records {
        serde_json::to_writer(&mut lines, record).map_err(std::io::Error::from)?;
        lines.push(b'\n');
    }
    let written = file.write_all(&lines).and_then(|()| {
        // A pattern can cost a model's call, so it is synced. A count is left to the system's cache.
        if records.iter().any(|record| matches!(record, Record::Pattern(_))) {
            file.sync_data()
        } else {
            Ok(())
        }
    });
    if let Err(error) = written {
        // Remove the partial record; if that fails too, the next writer ends its line.
        let _ = file.set_len(len);
        return Err(error.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Loss;
    use std::{format, sync::Arc, thread};

    fn pattern(english: &str) -> Pattern {
        Pattern::new(english, "hr", "SEND|HR|return:A|aacp:1.2", Loss::Minor, None)
    }

    fn log_in(folder: &tempfile::TempDir) -> PatternLog {
        PatternLog::open(folder.path().join("log")).unwrap()
    }

    #[test]
    fn a_pattern_is_logged_once_and_counted_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let log = log_in(&folder);
        assert!(log.record(&pattern("Run payroll")).unwrap());
        assert!(!log.record(&pattern(" run PAYROLL")).unwrap());
        assert_eq!(log.lookup("run payroll", "HR").unwrap().unwrap().times_seen, 3);
        assert!(log.lookup("run payroll", "FIN").unwrap().is_none(), "another domain is another pattern");
        assert_eq!(log_in(&folder).patterns().unwrap(), log.patterns().unwrap());
        assert_eq!(log.patterns().unwrap().len(), 1);
    }

    #[test]
    fn many_writers_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let shared = Arc::new(PatternLog::open(&path).unwrap());
        let threads: Vec<_> = (0..8)
            .map(|n| {
                // Half of the threads share a log, half have one of their own on the same file, as processes would.
                let log =
                    if n % 2 == 0 { shared.clone() } else { Arc::new(PatternLog::open(&path).unwrap()) };
                thread::spawn(move || {
                    for m in 0..20 {
                        log.record(&pattern(&format!("instruction {m}"))).unwrap();
                        log.record(&pattern(&format!("instruction {m} of {n}"))).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let patterns = PatternLog::open(&path).unwrap().patterns().unwrap();
        assert_eq!(patterns.len(), 20 + 8 * 20);
        assert_eq!(patterns.iter().map(|pattern| pattern.times_seen).sum::<u64>(), 2 * 8 * 20);
        assert_eq!(patterns, shared.patterns().unwrap());
    }

    #[test]
    fn a_file_cut_at_any_byte_keeps_every_whole_record_and_takes_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = PatternLog::open(&path).unwrap();
        log.record(&pattern("one")).unwrap();
        let first = std::fs::metadata(&path).unwrap().len() as usize;
        log.record(&pattern("two")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        // Every byte around the ends of the records, every ninth elsewhere: each cut waits for the disk.
        let near_an_end = |cut: usize| cut < 3 || cut.abs_diff(first) < 3 || cut + 3 > whole.len();
        for cut in (0..whole.len()).filter(|cut| near_an_end(*cut) || cut % 9 == 0) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let log = PatternLog::open(&path).unwrap();
            assert!(log.record(&pattern("three")).unwrap());
            let read: Vec<String> =
                PatternLog::open(&path).unwrap().patterns().unwrap().into_iter().map(|p| p.english).collect();
            // A line cut short of its end alone is whole again once the next writer has ended it.
            let survivors: &[&str] = match cut {
                cut if cut + 1 < first => &[],
                cut if cut + 1 < whole.len() => &["one"],
                _ => &["one", "two"],
            };
            assert_eq!(read, [survivors, &["three"]].concat(), "cut at {cut}");
        }
    }

    #[test]
    fn zeros_left_by_a_power_cut_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, [0u8; 100]).unwrap();
        let log = PatternLog::open(&path).unwrap();
        log.record(&pattern("one")).unwrap();
        assert_eq!((log.patterns().unwrap().len(), log.damaged_lines()), (1, 1));
    }

    #[test]
    fn a_like_instruction_is_found_unless_a_number_or_a_negation_differs() {
        let folder = tempfile::tempdir().unwrap();
        let log = log_in(&folder);
        log.record(&pattern("Send the payroll report for 2024-08 to the finance director")).unwrap();
        let likeness = |english| log.similar(english, "HR", 0.75).unwrap().map(|(_, likeness)| likeness);
        assert_eq!(likeness("please send payroll report, for 2024-08, to finance director!"), Some(1.0));
        assert_eq!(likeness("Send the payroll report for 2024-09 to the finance director"), None);
        assert_eq!(likeness("Do not send the payroll report for 2024-08 to the finance director"), None);
        assert_eq!(
            likeness("Send payroll report 2024-08 finance director and delete every single account there"),
            None
        );
        assert_eq!(log.similar("send payroll report 2024-08 finance director", "FIN", 0.75).unwrap(), None);
    }

    #[test]
    fn export_and_import_give_back_the_same_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let log = log_in(&folder);
        log.record(&pattern("one")).unwrap();
        log.record(&pattern("two")).unwrap();
        log.record(&pattern("two")).unwrap();
        let file = folder.path().join("unknown_patterns.json");
        log.export(&file).unwrap();
        let other = PatternLog::open(folder.path().join("other")).unwrap();
        assert_eq!(other.import(&file).unwrap(), 2);
        assert_eq!(other.import(&file).unwrap(), 0, "known ones are not taken twice");
        assert_eq!(other.patterns().unwrap(), log.patterns().unwrap());
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(other.import(&file), Err(LogError::Format { line: 1, column: 0 }));
    }
}
