//! What a comparison found, as a table and as JSON.

use std::fmt;

use console::style;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::world::{Hops, Task};

/// The whole comparison.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) questions: usize,
    pub(super) seed: u64,
    pub(super) modes: Vec<Mode>,
}

/// How agent B comes to know what agent A has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It reads the document itself.
    Direct,
    /// It reads A's summary.
    Text,
    /// It takes A's KV-cache, behind which A took some latent steps.
    Latent { steps: usize },
}

/// One question, answered.
pub(super) struct Outcome {
    pub(super) right: bool,
    pub(super) tokens_a: usize,
    pub(super) tokens_b: usize,
    pub(super) handover_bytes: usize,
    pub(super) first_token_ms: f64,
    pub(super) total_ms: f64,
}

/// One row of the table: sums over all questions, and the times to B's first token.
pub(super) struct Mode {
    pub(super) way: Way,
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

impl Mode {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
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
        let mut times = self.first_token_ms.clone();
        times.sort_by(f64::total_cmp);
        match (times.len(), times.len() / 2) {
            (0, _) => 0.0,
            (length, half) if length % 2 == 1 => times[half],
            (_, half) => f64::midpoint(times[half - 1], times[half]),
        }
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Text => "text",
            Self::Latent { .. } => "latent",
        }
    }

    fn steps(self) -> usize {
        match self {
            Self::Direct | Self::Text => 0,
            Self::Latent { steps } => steps,
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut mode = serializer.serialize_struct("Mode", 8)?;
        mode.serialize_field("mode", self.way.name())?;
        mode.serialize_field("steps", &self.way.steps())?;
        mode.serialize_field("one_hop", &self.one_hop)?;
        mode.serialize_field("two_hop", &self.two_hop)?;
        mode.serialize_field("tokens", &self.tokens)?;
        mode.serialize_field("handover_bytes", &self.handover_bytes)?;
        mode.serialize_field("b_first_token_ms", &round(self.median_first_token_ms()))?;
        mode.serialize_field("total_ms", &round(self.total_ms))?;
        mode.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = format!("{} questions in each mode, seed {}", self.questions, self.seed);
        writeln!(formatter, "{}\n", style(heading).bold())?;
        let text_ms = self.modes.iter().find(|mode| mode.way == Way::Text).map(|mode| mode.total_ms);
        let rows: Vec<[String; 9]> = self.modes.iter().map(|mode| row(mode, text_ms)).collect();
        let header = HEADER.map(str::to_owned);
        let widths: [usize; 9] = std::array::from_fn(|column| {
            rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        writeln!(formatter, "{}", style(line(&header, &widths)).bold())?;
        writeln!(formatter, "{}", rule(&widths))?;
        for row in &rows {
            writeln!(formatter, "{}", line(row, &widths))?;
        }
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
direct  B reads the document itself      text    A summarises, B reads the summary
latent  B takes A's KV-cache, after so many latent steps of A
tokens are those a model evaluated or generated; handed over is bytes; B's first token is a median, the rest are sums";

fn row(mode: &Mode, text_ms: Option<f64>) -> [String; 9] {
    let name = match mode.way {
        Way::Latent { steps } => format!("latent, {steps} steps"),
        way => way.name().to_owned(),
    };
    let score = |score: Score| format!("{}/{}", score.right, score.total);
    [
        name,
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

/// A line of a Markdown table, so that it can be pasted as it is; numbers stand to the right.
fn line(cells: &[String; 9], widths: &[usize; 9]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(
            |(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            },
        )
        .collect();
    format!("| {} |", cells.join(" | "))
}

fn rule(widths: &[usize; 9]) -> String {
    let cells: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, &width)| {
            let dashes = "-".repeat(width + 1);
            if column == 0 { format!(":{dashes}") } else { format!("{dashes}:") }
        })
        .collect();
    format!("|{}|", cells.join("|"))
}

/// Microseconds are as fine as these clocks are worth.
fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(way: Way, times: &[f64]) -> Mode {
        let mut mode = Mode::new(way);
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
            mode.add(&task, outcome);
        }
        mode
    }

    #[test]
    fn json_has_the_documented_keys() {
        let modes = vec![mode(Way::Latent { steps: 8 }, &[4.0, 1.0, 3.0])];
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
        let modes = vec![mode(Way::Text, &[4.0, 4.0]), mode(Way::Latent { steps: 0 }, &[2.0, 2.0])];
        let table = Report { questions: 2, seed: 1, modes }.to_string();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
        assert!(rows[1].starts_with("| text ") && rows[1].ends_with(" 1.00x |"), "{table}");
        assert!(rows[2].starts_with("| latent, 0 steps ") && rows[2].ends_with(" 2.00x |"), "{table}");
    }

    #[test]
    fn an_even_number_of_times_has_the_mean_of_the_middle_two_as_median() {
        assert_eq!(mode(Way::Direct, &[1.0, 9.0, 2.0, 4.0]).median_first_token_ms(), 3.0);
    }
}
