//! The progress of a transfer on a terminal.

use std::io::{IsTerminal as _, stderr};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar, shown only on a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Result<Self> {
        let bar = if stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
        Ok(Self(bar.with_style(ProgressStyle::with_template(style)?)))
    }

    /// The callback of a transfer, with the bytes transferred and the total.
    pub(super) fn observer(&self) -> impl Fn(u64, u64) + Send + Sync + 'static {
        let bar = self.0.clone();
        move |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
