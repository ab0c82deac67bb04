//! Progress on standard error: a bar in a terminal, elsewhere a line at each tenth of a run that takes more than ten seconds.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress {
    bar: ProgressBar,
    unit: &'static str,
    start: Instant,
    in_terminal: bool,
}

impl Progress {
    /// Progress towards `total` of what `unit` names in the plural.
    pub(super) fn new(total: usize, unit: &'static str) -> Result<Self> {
        let template = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left");
        let bar = ProgressBar::new(total as u64).with_style(ProgressStyle::with_template(&template)?);
        Ok(Self { bar, unit, start: Instant::now(), in_terminal: stderr().is_terminal() })
    }

    pub(super) fn name(&self, part: impl Into<std::borrow::Cow<'static, str>>) {
        self.bar.set_message(part);
    }

    /// One more is done.
    pub(super) fn done(&self) {
        self.bar.inc(1);
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0).max(1));
        // A run of seconds needs no lines.
        let is_long = self.start.elapsed() > Duration::from_secs(10);
        if !self.in_terminal && is_long && done * 10 / all > done.saturating_sub(1) * 10 / all {
            let seconds = self.start.elapsed().as_secs_f64();
            eprintln!("avp: {done} of {all} {} after {seconds:.0} s", self.unit);
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
