//! `avp bench`: what hand-overs are worth and what they cost, measured on any model folder.

mod answer;
mod chart;
mod dataset;
mod handoff;
mod html;
mod memory;
mod plan;
mod report;
mod score;
mod speed;

use std::io::Write;

use anyhow::{Result, ensure};
use clap::Subcommand;
use serde::Serialize;

use crate::output::Output;

/// Measure hand-overs: how well agents answer behind them, and how fast they are
#[derive(Subcommand)]
pub(crate) enum Bench {
    Handoff(handoff::Handoff),
    Speed(speed::Speed),
}

/// The model that ships with the source.
const EMBEDDED_MODEL: &str = "models/facts";

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Handoff(handoff) => handoff.run(),
            Self::Speed(speed) => speed.run(),
        }
    }
}

/// Fails before the measuring where a report could not be written behind it.
fn check_folder(output: Option<&Output>) -> Result<()> {
    // Text may go to a terminal, so only a file has anything to check.
    output.filter(|output| matches!(output, Output::File(_))).map_or(Ok(()), Output::check)
}

/// Writes a report as one JSON object.
fn write_json(output: &Output, report: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    output.write(&json)
}

/// Writes the report for people, unless standard output has the JSON.
fn print_unless_json(json: Option<&Output>, report: &impl std::fmt::Display) -> Result<()> {
    if json != Some(&Output::Stdout) {
        write!(std::io::stdout().lock(), "{report}")?;
    }
    Ok(())
}

/// The middle one of `values`, or the mean of the middle two; `None` of none.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// `values` without repetition, in the order first named.
fn distinct<T: PartialEq + Copy>(values: &[T]) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(value) {
            kept.push(*value);
        }
    }
    kept
}

/// A number of repetitions that a median can be taken of.
fn at_least_one(name: &str, value: usize) -> Result<()> {
    ensure!(value > 0, "--{name} must be at least 1");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 9.0, 2.0]), Some(3.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn what_is_named_twice_is_measured_once() {
        assert_eq!(distinct(&[10, 0, 10, 20, 0]), [10, 0, 20]);
    }
}
