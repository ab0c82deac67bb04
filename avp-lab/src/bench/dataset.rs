//! Questions: read from a file in its published form, or generated for the embedded model.
//!
//! One JSON object per line with `question` and `answer`: GSM8K, whose reference ends in `#### 42`, or any other. With
//! `context`, `[[title, [sentence, …]], …]`, it is HotpotQA, whose own files are one JSON array; both forms are read.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};
use serde::Deserialize;
use serde_json::Value;

use super::score::Metric;
use crate::world::{Hops, World};

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    /// Line or element of the file, from 1.
    pub(super) number: usize,
    pub(super) question: String,
    /// The context of the question; can be empty.
    pub(super) paragraphs: Vec<String>,
    /// The references, any of which is right; at least one.
    pub(super) answers: Vec<String>,
    pub(super) metric: Metric,
}

/// Questions and their origin.
#[derive(Debug, Clone)]
pub(super) struct Dataset {
    pub(super) name: String,
    pub(super) tasks: Vec<Task>,
}

/// A record, as published; other fields, such as `supporting_facts`, are ignored.
#[derive(Deserialize)]
struct Record {
    question: String,
    #[serde(alias = "answers")]
    answer: References,
    #[serde(default)]
    context: Option<Texts>,
    #[serde(default)]
    supporting_facts: Option<Facts>,
}

/// One reference, or several that are equally right.
#[derive(Deserialize)]
#[serde(untagged)]
enum References {
    One(String),
    Several(Vec<String>),
}

/// Titles of the paragraphs that an answer needs: in pairs with a sentence, or as a column.
#[derive(Deserialize)]
#[serde(untagged)]
enum Facts {
    Listed(Vec<(String, usize)>),
    Columns { title: Vec<String> },
}

/// The paragraphs of a question that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paragraphs {
    /// All that the data set gives, most of which do not matter: HotpotQA's distractor setting.
    All,
    /// Those that `supporting_facts` names.
    Gold,
}

/// HotpotQA's own form, and the columns that data-set libraries convert it to.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    Listed(Vec<(String, Vec<String>)>),
    Columns { title: Vec<String>, sentences: Vec<Vec<String>> },
}

impl Dataset {
    /// Reads a file of questions.
    ///
    /// # Errors
    /// When it cannot be read, has no questions, or a record is malformed; names the file and the line or element.
    pub(super) fn read(path: &Path, paragraphs: Paragraphs) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let records =
            if text.trim_ascii_start().starts_with(b"[") { array(path, text)? } else { lines(path, text)? };
        let tasks = records.into_iter().map(|(number, record)| record.into_task(number, paragraphs));
        let tasks = tasks.collect::<Result<Vec<Task>>>().with_context(|| path.display().to_string())?;
        if tasks.is_empty() {
            bail!("{} has no questions", path.display());
        }
        Ok(Self { name: path.display().to_string(), tasks })
    }

    /// Generates `count` questions over documents of `world`: half of them in one hop and half in two, or all in two.
    pub(super) fn generate(world: &World, count: usize, seed: u64, kind: Generated) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tasks = (0..count)
            .map(|index| {
                let (hops, metric) = match kind {
                    Generated::Mixed if index % 2 == 0 => (Hops::One, Metric::Verbatim),
                    Generated::Mixed => (Hops::Two, Metric::Verbatim),
                    Generated::Reading => (Hops::Two, Metric::Words),
                };
                let task = world.task(&mut rng, hops)?;
                Ok(Task {
                    number: index + 1,
                    question: task.question,
                    paragraphs: vec![task.document],
                    answers: vec![task.answer],
                    metric,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { name: kind.to_string(), tasks })
    }

    /// Keeps `limit` questions, drawn with `seed`.
    pub(super) fn draw(&mut self, limit: usize, seed: u64) {
        self.tasks.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        self.tasks.truncate(limit);
    }

    /// Whether every question has a context.
    pub(super) fn has_documents(&self) -> bool {
        self.tasks.iter().all(|task| !task.paragraphs.is_empty())
    }
}

/// The kinds of generated questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generated {
    /// Questions in one hop and in two, scored by the whole sentence.
    Mixed,
    /// Questions in two hops, scored like HotpotQA.
    Reading,
}

impl fmt::Display for Generated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Mixed => "generated: facts in one hop and in two",
            Self::Reading => "generated: facts in two hops",
        })
    }
}

impl Record {
    fn into_task(self, number: usize, paragraphs: Paragraphs) -> Result<Task> {
        let answers = match self.answer {
            References::One(answer) => vec![answer],
            References::Several(answers) => answers,
        };
        if answers.iter().all(|answer| answer.trim().is_empty()) {
            bail!("question {number} has no answer");
        }
        let is_number = self.context.is_none() && answers.iter().any(|answer| answer.contains("####"));
        let texts: Vec<(String, Vec<String>)> = match self.context {
            None => Vec::new(),
            Some(Texts::Listed(listed)) => listed,
            Some(Texts::Columns { title, sentences }) => title.into_iter().zip(sentences).collect(),
        };
        let gold: Vec<String> = match (paragraphs, self.supporting_facts) {
            (Paragraphs::All, _) => texts.iter().map(|(title, _)| title.clone()).collect(),
            (Paragraphs::Gold, Some(Facts::Listed(facts))) => {
                facts.into_iter().map(|(title, _)| title).collect()
            }
            (Paragraphs::Gold, Some(Facts::Columns { title })) => title,
            (Paragraphs::Gold, None) => {
                bail!("question {number} has no `supporting_facts`, which name its gold paragraphs")
            }
        };
        Ok(Task {
            number,
            question: self.question,
            paragraphs: texts
                .into_iter()
                .filter(|(title, _)| gold.contains(title))
                .map(|(title, sentences)| format!("{title}: {}", sentences.concat()))
                .collect(),
            answers,
            metric: if is_number { Metric::Number } else { Metric::Words },
        })
    }
}

fn lines(path: &Path, text: &[u8]) -> Result<Vec<(usize, Record)>> {
    text.split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(number, line)| {
            let record = serde_json::from_slice(line).map_err(|error| BadRecord {
                path: path.to_owned(),
                place: format!("line {number}, column {}", error.column()),
                why: without_place(&error),
            })?;
            Ok((number, record))
        })
        .collect()
}

fn array(path: &Path, text: &[u8]) -> Result<Vec<(usize, Record)>> {
    let values: Vec<Value> = serde_json::from_slice(text).map_err(|error| BadRecord {
        path: path.to_owned(),
        place: format!("line {}, column {}", error.line(), error.column()),
        why: without_place(&error),
    })?;
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            let record = serde_json::from_value(value).map_err(|error| BadRecord {
                path: path.to_owned(),
                place: format!("element {}", index + 1),
                why: error.to_string(),
            })?;
            Ok((index + 1, record))
        })
        .collect()
}

#[derive(Debug)]
struct BadRecord {
    path: PathBuf,
    place: String,
    why: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}: {}", self.path.display(), self.place, self.why)
    }
}

impl std::error::Error for BadRecord {}

/// The message without the position that serde_json appends, which counts within one line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        std::fs::write(&path, text).unwrap();
        Dataset::read(&path, Paragraphs::All)
    }

    fn refused(text: &str) -> String {
        format!("{:#}", read(text).unwrap_err())
    }

    #[test]
    fn gsm8k_is_read_as_published() {
        let data = read("{\"question\": \"How many?\", \"answer\": \"<<1+1=2>>2\\n#### 2\"}\n\n").unwrap();
        assert_eq!(data.tasks.len(), 1);
        assert_eq!((data.tasks[0].metric, data.has_documents()), (Metric::Number, false));
    }

    #[test]
    fn hotpotqa_is_read_from_its_array_from_lines_and_from_columns() {
        let listed = r#"{"_id":"x","question":"Where?","answer":"Rome","supporting_facts":[["A",0]],
            "context":[["A",["One."," Two."]],["B",[]]],"type":"bridge","level":"hard"}"#
            .replace('\n', "");
        let columns = r#"{"question":"Where?","answer":"Rome",
            "context":{"title":["A","B"],"sentences":[["One."," Two."],[]]}}"#
            .replace('\n', "");
        for text in [format!("[{listed}]"), listed, format!("{columns}\r\n")] {
            let data = read(&text).unwrap();
            assert_eq!(data.tasks[0].paragraphs, ["A: One. Two.", "B: "]);
            assert_eq!((data.tasks[0].metric, data.has_documents()), (Metric::Words, true));
        }
    }

    #[test]
    fn gold_paragraphs_are_those_that_the_facts_name() {
        let listed = r#"{"question":"Where?","answer":"Rome","supporting_facts":[["B",0],["B",1]],
            "context":[["A",["One."]],["B",["Two."]]]}"#
            .replace('\n', "");
        let columns =
            r#"{"question":"Where?","answer":"Rome","supporting_facts":{"title":["B"],"sent_id":[0]},
            "context":{"title":["A","B"],"sentences":[["One."],["Two."]]}}"#
                .replace('\n', "");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        for text in [listed, columns] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Dataset::read(&path, Paragraphs::Gold).unwrap().tasks[0].paragraphs, ["B: Two."]);
        }
        std::fs::write(&path, r#"{"question":"q","answer":"a"}"#).unwrap();
        let error = format!("{:#}", Dataset::read(&path, Paragraphs::Gold).unwrap_err());
        assert!(error.contains("question 1 has no `supporting_facts`"), "{error}");
    }

    #[test]
    fn answers_may_be_several_but_not_none() {
        for answers in [r#""answer":["a","b"]"#, r#""answers":["a","b"]"#] {
            let data = read(&format!("{{\"question\":\"q\",{answers}}}")).unwrap();
            assert_eq!(data.tasks[0].answers, ["a", "b"]);
        }
        for answers in [r#""answer":[]"#, r#""answer":"""#, r#""answers":[" "]"#] {
            let message = refused(&format!("{{\"question\":\"q\",{answers}}}"));
            assert!(message.contains("question 1 has no answer"), "{message}");
        }
    }

    #[test]
    fn a_bad_record_is_named_by_file_and_line() {
        let good = r#"{"question":"q","answer":"a"}"#;
        let message = refused(&format!("{good}\n{{\"question\": \"q\"}}\n"));
        assert!(message.contains("data.jsonl, line 2,") && message.contains("`answer`"), "{message}");
        assert!(refused(&format!("{good}\n{good}\nnot json\n")).contains("line 3"));
        assert!(refused(&format!("[{good}, 7]")).contains("element 2"));
        assert!(refused("[\n{\"question\": \n").contains("line 3"));
        let message = format!("{:#}", {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data.jsonl");
            std::fs::write(&path, b"{\"question\": \"\xff\"}").unwrap();
            Dataset::read(&path, Paragraphs::All).unwrap_err()
        });
        assert!(message.contains("line 1"), "{message}");
    }

    #[test]
    fn a_file_without_questions_is_an_error() {
        assert!(refused("").contains("has no questions"));
        assert!(refused("\n[]").contains("has no questions"));
        let error = Dataset::read(Path::new("/no/such/file"), Paragraphs::All).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/file"));
    }

    #[test]
    fn the_same_seed_draws_the_same_questions() {
        let text: String = (0..50).map(|n| format!("{{\"question\":\"{n}\",\"answer\":\"a\"}}\n")).collect();
        let draw = |seed| {
            let mut data = read(&text).unwrap();
            data.draw(5, seed);
            data.tasks.iter().map(|task| task.number).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
