//! The report of a comparison per pipeline and mode, as JSON and as tables.

use std::{collections::BTreeMap, fmt};

use console::style;
use serde::Serialize;

use super::{
    answer::{Answer, Outcome},
    dataset::Task,
    html,
    plan::Pipeline,
    score::{Paired, Score, Share},
};
use crate::{
    mode::Mode,
    statistics::{median, rounded},
    table::{bytes, write_table},
};

/// The figures of [`Handoff`](super::Handoff): `Display` prints tables, `Serialize` every figure and answer.
#[derive(Serialize)]
pub struct Report {
    /// The release that measured.
    pub(super) avp: &'static str,
    pub(super) model: ModelFacts,
    /// Seed of the questions.
    pub(super) seed: u64,
    /// Threads of one run; 0 leaves the number to ONNX Runtime.
    pub(super) threads: usize,
    pub(super) pipelines: Vec<PipelineReport>,
}

/// The model that was measured.
#[derive(Serialize)]
pub(super) struct ModelFacts {
    pub(super) folder: String,
    pub(super) family: String,
    pub(super) hash: String,
    pub(super) num_layers: usize,
    pub(super) num_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) kv_dtype: String,
    pub(super) window: usize,
}

/// One pipeline in every mode.
#[derive(Serialize)]
pub(super) struct PipelineReport {
    pub(super) pipeline: Pipeline,
    pub(super) dataset: String,
    pub(super) questions: usize,
    /// The mode with which the others are compared question by question.
    pub(super) against: String,
    pub(super) modes: Vec<ModeReport>,
}

/// One mode: means over the answered questions, and medians of times.
#[derive(Serialize)]
pub(super) struct ModeReport {
    pub(super) mode: Mode,
    /// The mode with its steps, their form and where the context ends.
    pub(super) label: String,
    pub(super) steps: usize,
    pub(super) exact_match: Share,
    /// Answers that hold a reference in whole words.
    pub(super) contains: Share,
    /// By [`contains`](Self::contains), this mode first and [`PipelineReport::against`] second, on the questions that both answered.
    pub(super) paired: Option<Paired>,
    /// Mean F1, if the data set is scored by it.
    pub(super) f1: Option<f64>,
    /// Questions that did not fit the window, by reason.
    pub(super) skipped: BTreeMap<String, usize>,
    /// Answers that were cut off by the token limit or the window.
    pub(super) unfinished: usize,
    /// Tokens evaluated or generated and latent steps, of all agents.
    pub(super) tokens: f64,
    pub(super) handover_bytes: f64,
    pub(super) handover_ms: f64,
    /// The last agent's time to its first token, hand-over included.
    pub(super) first_token_ms: f64,
    pub(super) total_ms: f64,
    /// How many times as fast as text, by the medians.
    pub(super) speed_against_text: Option<f64>,
    /// The share of text's tokens that this mode saves; negative where it takes more.
    pub(super) tokens_saved_against_text: Option<f64>,
    pub(super) agents: Vec<AgentMeans>,
    pub(super) answers: Vec<Judged>,
}

/// One agent, as means over the questions in which it took part.
#[derive(Serialize)]
pub(super) struct AgentMeans {
    pub(super) agent: String,
    pub(super) tokens_read: f64,
    pub(super) tokens_written: f64,
    pub(super) latent_steps: f64,
    pub(super) ms: f64,
}

/// One answer, so that every score can be checked.
#[derive(Serialize)]
pub(super) struct Judged {
    /// The question's line or element.
    pub(super) number: usize,
    pub(super) text: String,
    #[serde(flatten)]
    pub(super) score: Score,
}

/// The answers of one mode so far.
pub(super) struct Tally {
    mode: Mode,
    answers: Vec<(Judged, Answer)>,
    skipped: BTreeMap<String, usize>,
}

impl Tally {
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, answers: Vec::new(), skipped: BTreeMap::new() }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn add(&mut self, task: &Task, outcome: Outcome) {
        match outcome {
            Outcome::Skipped(reason) => *self.skipped.entry(reason.into_owned()).or_default() += 1,
            Outcome::Answered(answer) => {
                let score = task.metric.score(&answer.text, &task.answers);
                self.answers.push((Judged { number: task.number, text: answer.text.clone(), score }, answer));
            }
        }
    }

    fn sum_up(self) -> ModeReport {
        let answers = || self.answers.iter().map(|(_, answer)| answer);
        let count = self.answers.len();
        let mean = |sum: f64| rounded(sum / count.max(1) as f64);
        let middle = |time: fn(&Answer) -> std::time::Duration| {
            rounded(median(answers().map(|answer| time(answer).as_secs_f64() * 1e3)).unwrap_or(0.0))
        };
        let tokens: usize = answers()
            .flat_map(|answer| &answer.agents)
            .map(|part| part.tokens_read + part.tokens_written + part.latent_steps)
            .sum();
        let f1: Vec<f64> = self.answers.iter().filter_map(|(judged, _)| judged.score.f1).collect();
        let exact = self.answers.iter().filter(|(judged, _)| judged.score.exact).count();
        let contains = self.answers.iter().filter(|(judged, _)| judged.score.contains).count();
        ModeReport {
            mode: self.mode,
            label: self.mode.label(),
            steps: self.mode.steps(),
            exact_match: Share::new(exact, count),
            contains: Share::new(contains, count),
            paired: None,
            f1: (!f1.is_empty()).then(|| rounded(f1.iter().sum::<f64>() / f1.len() as f64)),
            unfinished: answers().filter(|answer| !answer.finished).count(),
            tokens: mean(tokens as f64),
            handover_bytes: mean(answers().map(|answer| answer.handover_bytes as f64).sum()),
            handover_ms: middle(|answer| answer.handover_time),
            first_token_ms: middle(|answer| answer.first_token_time),
            total_ms: middle(|answer| answer.total_time),
            speed_against_text: None,
            tokens_saved_against_text: None,
            agents: agents_of(answers()),
            skipped: self.skipped,
            answers: self.answers.into_iter().map(|(judged, _)| judged).collect(),
        }
    }
}

impl PipelineReport {
    /// A report whose modes are compared question by question with the one labelled `against`, if it is among them.
    pub(super) fn new(
        pipeline: Pipeline,
        dataset: String,
        questions: usize,
        tallies: Vec<Tally>,
        against: &str,
    ) -> Self {
        let mut modes: Vec<ModeReport> = tallies.into_iter().map(Tally::sum_up).collect();
        let text = modes.iter().find(|mode| mode.mode == Mode::Text && mode.exact_match.total > 0);
        if let Some((text_ms, text_tokens)) = text.map(|text| (text.total_ms, text.tokens)) {
            for mode in modes.iter_mut().filter(|mode| mode.exact_match.total > 0) {
                mode.speed_against_text = Some(rounded(text_ms / mode.total_ms));
                mode.tokens_saved_against_text = Some(rounded(1.0 - mode.tokens / text_tokens));
            }
        }
        if let Some(baseline) = modes.iter().find(|mode| mode.label == against).map(ModeReport::held) {
            for mode in modes.iter_mut().filter(|mode| mode.label != against) {
                let held = mode.held();
                let only = |here: bool| {
                    let differs =
                        |number: &usize| held[number] == here && baseline.get(number) == Some(&!here);
                    held.keys().filter(|number| differs(number)).count()
                };
                mode.paired = Some(Paired::new(only(true), only(false)));
            }
        }
        Self { pipeline, dataset, questions, against: against.to_owned(), modes }
    }
}

/// Agents in the order of their turns; a fan-out over few sentences has fewer of them.
fn agents_of<'a>(answers: impl Iterator<Item = &'a Answer>) -> Vec<AgentMeans> {
    let mut sums: Vec<(AgentMeans, f64)> = Vec::new();
    for answer in answers {
        for (position, part) in answer.agents.iter().enumerate() {
            let known = sums.iter().position(|(sum, _)| sum.agent == part.agent);
            let index = known.unwrap_or_else(|| {
                let new = AgentMeans {
                    agent: part.agent.clone(),
                    tokens_read: 0.0,
                    tokens_written: 0.0,
                    latent_steps: 0.0,
                    ms: 0.0,
                };
                let index = position.min(sums.len());
                sums.insert(index, (new, 0.0));
                index
            });
            let (sum, count) = &mut sums[index];
            sum.tokens_read += part.tokens_read as f64;
            sum.tokens_written += part.tokens_written as f64;
            sum.latent_steps += part.latent_steps as f64;
            sum.ms += part.time.as_secs_f64() * 1e3;
            *count += 1.0;
        }
    }
    let mean = |(sum, count): (AgentMeans, f64)| AgentMeans {
        agent: sum.agent,
        tokens_read: rounded(sum.tokens_read / count),
        tokens_written: rounded(sum.tokens_written / count),
        latent_steps: rounded(sum.latent_steps / count),
        ms: rounded(sum.ms / count),
    };
    sums.into_iter().map(mean).collect()
}

impl ModeReport {
    /// The name and the latent steps.
    pub(super) fn label(&self) -> String {
        self.label.clone()
    }

    /// Whether the answer to each question holds a reference.
    fn held(&self) -> BTreeMap<usize, bool> {
        self.answers.iter().map(|judged| (judged.number, judged.score.contains)).collect()
    }

    pub(super) fn skipped_count(&self) -> usize {
        self.skipped.values().sum()
    }
}

/// The columns of the table, in the terminal and on the page.
pub(super) const HEADER: [&str; 12] = [
    "mode",
    "contains",
    "95 % interval",
    "paired",
    "exact",
    "F1",
    "tokens",
    "handed over",
    "first token",
    "total",
    "vs text",
    "skipped",
];

/// A mode in those columns.
pub(super) fn row(mode: &ModeReport) -> [String; 12] {
    let Share { right, total, low, high, .. } = mode.contains;
    [
        mode.label(),
        format!("{right}/{total}"),
        if total == 0 { String::new() } else { format!("{:.0} to {:.0} %", low * 100.0, high * 100.0) },
        mode.paired.map_or_else(String::new, |Paired { only_first, only_second, p }| {
            let p = if p < 0.01 { "p < 0.01".to_owned() } else { format!("p {p:.2}") };
            format!("+{only_first} -{only_second}, {p}")
        }),
        mode.exact_match.right.to_string(),
        mode.f1.map_or_else(String::new, |f1| format!("{f1:.3}")),
        format!("{:.0}", mode.tokens),
        bytes(mode.handover_bytes),
        format!("{:.1} ms", mode.first_token_ms),
        format!("{:.0} ms", mode.total_ms),
        mode.speed_against_text.map_or_else(String::new, |speed| format!("{speed:.2}x")),
        mode.skipped_count().to_string(),
    ]
}

pub(super) const LEGEND: &str = "\
nothing the last agent gets its own prompt and nothing of the others: what it knows or guesses
direct  one agent reads and answers alone
text    each agent reads what those before it have written
latent  each agent takes over the KV-cache of the one before it, which has run the given number of latent steps;
        closed: it goes on in the conversation, else its prompt begins anew in the assistant's opened turn
contains: answers that hold a reference in whole words; paired: questions that only this mode, and only the one named above,
answered right by that measure, with McNemar's exact p-value
tokens: evaluated or generated by all agents for one question, latent steps included; tokens and bytes are means,
times are medians; first token: of the last agent, hand-over included; every hand-over is a frame, written and read";

impl Report {
    /// The report as an HTML page with charts, complete in one file.
    pub fn html(&self) -> String {
        html::page(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pipeline in &self.pipelines {
            let heading = format!(
                "{}: {} questions, {}, seed {}; paired with {}",
                pipeline.pipeline.title(),
                pipeline.questions,
                pipeline.dataset,
                self.seed,
                pipeline.against,
            );
            writeln!(formatter, "{}\n", style(heading).bold())?;
            write_table(formatter, &HEADER, &pipeline.modes.iter().map(row).collect::<Vec<_>>())?;
            for mode in &pipeline.modes {
                for (reason, count) in &mode.skipped {
                    writeln!(formatter, "{}: {count} skipped: {reason}", mode.label())?;
                }
                if mode.unfinished > 0 {
                    writeln!(formatter, "{}: {} answers were cut off", mode.label(), mode.unfinished)?;
                }
            }
            writeln!(formatter)?;
        }
        writeln!(formatter, "{LEGEND}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::{
        super::{answer::Part, score::Metric},
        *,
    };

    pub(in super::super) fn answer(text: &str, ms: u64, tokens: usize) -> Outcome {
        let part = |agent: &str| Part {
            agent: agent.into(),
            tokens_read: tokens,
            tokens_written: 1,
            latent_steps: 0,
            time: Duration::from_millis(ms / 2),
        };
        Outcome::Answered(Answer {
            text: text.into(),
            finished: true,
            agents: vec![part("reader"), part("solver")],
            handover_bytes: 100,
            handover_time: Duration::from_millis(1),
            first_token_time: Duration::from_millis(ms / 4),
            total_time: Duration::from_millis(ms),
        })
    }

    pub(in super::super) fn report() -> Report {
        let task = Task {
            number: 7,
            question: "Where?".into(),
            paragraphs: Vec::new(),
            answers: vec!["Rome".into()],
            metric: Metric::Words,
        };
        let mut text = Tally::new(Mode::Text);
        text.add(&task, answer("Rome", 40, 9));
        text.add(&task, answer("<b>in Rome</b>", 40, 9));
        let mut latent = Tally::new(Mode::latent(10));
        latent.add(&task, answer("rome.", 20, 4));
        latent.add(&task, Outcome::Skipped("a prompt is longer than the window".into()));
        Report {
            avp: "0",
            model: ModelFacts {
                folder: "dir/<model>".into(),
                family: "qwen2".into(),
                hash: "ab".into(),
                num_layers: 2,
                num_kv_heads: 1,
                head_dim: 8,
                kv_dtype: "float32".into(),
                window: 64,
            },
            seed: 3,
            threads: 0,
            pipelines: vec![PipelineReport::new(
                Pipeline::Reading,
                "data".into(),
                2,
                vec![text, latent],
                "text",
            )],
        }
    }

    #[test]
    fn modes_are_compared_with_text_over_what_they_answered() {
        let report = report();
        let [text, latent] = &report.pipelines[0].modes[..] else { panic!() };
        assert_eq!((text.exact_match.right, text.exact_match.total), (1, 2));
        assert_eq!((latent.exact_match.right, latent.exact_match.total, latent.skipped_count()), (1, 1, 1));
        assert_eq!((latent.speed_against_text, latent.tokens_saved_against_text), (Some(2.0), Some(0.5)));
        assert_eq!(latent.f1, Some(1.0));
        assert_eq!(text.agents.len(), 2);
        assert_eq!((text.agents[0].tokens_read, text.agents[1].tokens_written), (9.0, 1.0));
    }

    #[test]
    fn modes_are_paired_over_the_questions_that_both_answered() {
        let task = |number| Task {
            number,
            question: "Where?".into(),
            paragraphs: Vec::new(),
            answers: vec!["Rome".into()],
            metric: Metric::Words,
        };
        let mut tallies = [Tally::new(Mode::Text), Tally::new(Mode::Nothing)];
        for (number, in_text, alone) in
            [(1, "Rome", "?"), (2, "?", "Rome"), (3, "Rome", "?"), (4, "Rome", "Rome")]
        {
            tallies[0].add(&task(number), answer(in_text, 1, 1));
            tallies[1].add(&task(number), answer(alone, 1, 1));
        }
        tallies[1].add(&task(5), answer("Rome", 1, 1));
        let report = PipelineReport::new(Pipeline::Reading, "data".into(), 5, tallies.into(), "text");
        assert!(report.modes[0].paired.is_none());
        let paired = report.modes[1].paired.unwrap();
        assert_eq!((paired.only_first, paired.only_second), (1, 2));
    }

    #[test]
    fn json_has_the_documented_keys() {
        let json = serde_json::to_value(report()).unwrap();
        let mode = &json["pipelines"][0]["modes"][1];
        assert_eq!((&mode["mode"], &mode["steps"]), (&"latent".into(), &10.into()));
        assert_eq!(mode["skipped"]["a prompt is longer than the window"], 1);
        assert_eq!(
            mode["answers"][0],
            serde_json::json!({"number": 7, "text": "rome.", "exact": true, "contains": true, "f1": 1.0})
        );
        assert_eq!(json["pipelines"][0]["pipeline"], "reading");
    }

    #[test]
    fn the_table_says_what_was_skipped_and_why() {
        let shown = report().to_string();
        assert!(shown.contains("| latent, 10 steps |"), "{shown}");
        assert!(shown.contains("latent, 10 steps: 1 skipped: a prompt is longer than the window"), "{shown}");
    }
}
