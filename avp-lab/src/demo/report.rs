//! The report of a comparison, as a table and as JSON.

use std::fmt;

use console::style;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    mode::Mode,
    statistics::{median, rounded},
    table::write_table,
    world::{Hops, Task},
};

/// The figures of [`Demo`](super::Demo): `Display` prints a table, `Serialize` every figure.
#[derive(Serialize)]
pub struct Report {
    pub(super) questions: usize,
    pub(super) seed: u64,
    pub(super) modes: Vec<ModeReport>,
}

/// One answered question.
pub(super) struct Outcome {
    pub(super) right: bool,
    pub(super) tokens_a: usize,
    pub(super) tokens_b: usize,
    pub(super) handover_bytes: usize,
    pub(super) first_token_ms: f64,
    pub(super) total_ms: f64,
}

/// One row of the table: sums over all questions, and the times to B's first token.
pub(super) struct ModeReport {
    pub(super) mode: Mode,
    one_hop: Score,
    two_hop: Score,
    tokens: Tokens,
    handover_bytes: usize,
    first_token_ms: Vec<f64>,
    total_ms: f64,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Score {
    right: usize,
    total: usize,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Tokens {
    a: usize,
    b: usize,
}

impl ModeReport {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            one_hop: Score::default(),
            two_hop: Score::default(),
            tokens: Tokens::default(),
            handover_bytes: 0,
            first_token_ms: Vec::new(),
            total_ms: 0.0,
        }
    }

    pub(super) fn add(&mut self, task: &Task, outcome: Outcome) {
        let score = match task.hops {
            Hops::One => &mut self.one_hop,
            Hops::Two => &mut self.two_hop,
        };
        score.total += 1;
        score.right += usize::from(outcome.right);
        self.tokens.a += outcome.tokens_a;
        self.tokens.b += outcome.tokens_b;
        self.handover_bytes += outcome.handover_bytes;
        self.first_token_ms.push(outcome.first_token_ms);
        self.total_ms += outcome.total_ms;
    }

    fn median_first_token_ms(&self) -> f64 {
        median(self.first_token_ms.iter().copied()).unwrap_or(0.0)
    }
}

impl Serialize for ModeReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut mode = serializer.serialize_struct("Mode", 8)?;
        mode.serialize_field("mode", self.mode.name())?;
        mode.serialize_field("steps", &self.mode.steps())?;
        mode.serialize_field("one_hop", &self.one_hop)?;
        mode.serialize_field("two_hop", &self.two_hop)?;
        mode.serialize_field("tokens", &self.tokens)?;
        mode.serialize_field("handover_bytes", &self.handover_bytes)?;
        mode.serialize_field("b_first_token_ms", &rounded(self.median_first_token_ms()))?;
        mode.serialize_field("total_ms", &rounded(self.total_ms))?;
        mode.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = format!("{} questions in each mode, seed {}", self.questions, self.seed);
        writeln!(formatter, "{}\n", style(heading).bold())?;
        let text_ms = self.modes.iter().find(|mode| mode.mode == Mode::Text).map(|mode| mode.total_ms);
        let rows: Vec<[String; 9]> = self.modes.iter().map(|mode| row(mode, text_ms)).collect();
        write_table(formatter, &HEADER, &rows)?;
        writeln!(formatter, "\n{LEGEND}")
    }
}

const HEADER: [&str; 9] = [
    "mode",
    "one hop",
    "two hops",
    "A tokens",
    "B tokens",
    "handed over",
    "B first token",
    "total",
    "vs text",
];

const LEGEND: &str = "\
nothing B gets the question alone        direct  B reads the document itself
text    A summarises, B reads it         latent  B takes over A's KV-cache
tokens: evaluated or generated; handed over: bytes; B first token: median; all other columns: sums";

fn row(mode: &ModeReport, text_ms: Option<f64>) -> [String; 9] {
    let score = |score: Score| format!("{}/{}", score.right, score.total);
    [
        mode.mode.label(),
        score(mode.one_hop),
        score(mode.two_hop),
        mode.tokens.a.to_string(),
        mode.tokens.b.to_string(),
        mode.handover_bytes.to_string(),
        format!("{:.1} ms", mode.median_first_token_ms()),
        format!("{:.0} ms", mode.total_ms),
        text_ms.map_or_else(String::new, |text| format!("{:.2}x", text / mode.total_ms)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(mode: Mode, times: &[f64]) -> ModeReport {
        let mut report = ModeReport::new(mode);
        for (index, &time) in times.iter().enumerate() {
            let hops = if index % 2 == 0 { Hops::One } else { Hops::Two };
            let task = Task { document: String::new(), question: String::new(), answer: String::new(), hops };
            let outcome = Outcome {
                right: index == 0,
                tokens_a: 10,
                tokens_b: 2,
                handover_bytes: 100,
                first_token_ms: time,
                total_ms: 2.0 * time,
            };
            report.add(&task, outcome);
        }
        report
    }

    #[test]
    fn json_has_the_documented_keys() {
        let modes = vec![mode(Mode::latent(8), &[4.0, 1.0, 3.0])];
        let json = serde_json::to_value(Report { questions: 3, seed: 9, modes }).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"questions": 3, "seed": 9, "modes": [{
                "mode": "latent", "steps": 8,
                "one_hop": {"right": 1, "total": 2}, "two_hop": {"right": 0, "total": 1},
                "tokens": {"a": 30, "b": 6}, "handover_bytes": 300,
                "b_first_token_ms": 3.0, "total_ms": 16.0,
            }]})
        );
    }

    #[test]
    fn the_table_compares_every_mode_with_text() {
        let modes = vec![mode(Mode::Text, &[4.0, 4.0]), mode(Mode::latent(0), &[2.0, 2.0])];
        let table = Report { questions: 2, seed: 1, modes }.to_string();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
        assert!(rows[1].starts_with("| text ") && rows[1].ends_with(" 1.00x |"), "{table}");
        assert!(rows[2].starts_with("| latent, 0 steps ") && rows[2].ends_with(" 2.00x |"), "{table}");
    }
}
