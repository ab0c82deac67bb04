//! `avp ping`: the result of a handshake, and round-trip times.

use std::{
    io::{Write as _, stdout},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use avp_transport::client::Session;
use clap::Args;
use serde_json::json;

use super::remote::RemoteArgs;
use crate::output::printable;

/// Perform a handshake with a server, and measure round trips
#[derive(Args)]
pub(crate) struct Ping {
    /// The server's URL, such as `https://agent-b.example:8790`
    #[arg(value_name = "URL")]
    url: String,
    /// Model of the handshake; without one, the mode cannot be latent
    #[arg(long, value_name = "MODEL_DIR")]
    model: Option<PathBuf>,
    /// Number of small requests to measure after the handshake
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Ping {
    pub(crate) fn run(&self) -> Result<()> {
        let client = self.remote.client(self.url.as_str().into(), self.model.as_deref())?;
        let (session, handshake) = timed(|| client.handshake());
        let session = session.context("handshake")?;
        let mut trips = Vec::new();
        for _ in 0..self.count {
            let (answer, trip) = timed(|| client.health());
            answer?;
            trips.push(trip);
        }
        let times = Times::of(trips, handshake);
        let mut out = stdout().lock();
        if self.json {
            return Ok(writeln!(out, "{}", record(&session, &times))?);
        }
        let dialect = session.dialect.as_str();
        writeln!(out, "agent      {}", printable(&session.remote.agent_id))?;
        writeln!(out, "mode       {}", session.mode)?;
        writeln!(out, "by rule    {}", session.rule)?;
        if !session.avp_map_id.is_empty() {
            writeln!(out, "with map   {}", printable(&session.avp_map_id))?;
        }
        writeln!(out, "dialect    {dialect}")?;
        writeln!(out, "handshake  {} with the connection", shown(times.handshake))?;
        let Times { min, median, max, count, .. } = times;
        writeln!(
            out,
            "round trip {} / {} / {} min / median / max of {count}",
            shown(min),
            shown(median),
            shown(max)
        )?;
        Ok(())
    }
}

/// Measured times.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    handshake: Duration,
    min: Duration,
    median: Duration,
    max: Duration,
    count: usize,
}

impl Times {
    fn of(mut trips: Vec<Duration>, handshake: Duration) -> Self {
        trips.sort_unstable();
        let at = |place: usize| trips.get(place).copied().unwrap_or_default();
        let count = trips.len();
        // Of an even number, the mean of the two in the middle.
        let median = (at(count.saturating_sub(1) / 2) + at(count / 2)) / 2;
        Self { handshake, min: at(0), median, max: at(count.saturating_sub(1)), count }
    }
}

fn timed<T>(deed: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = deed();
    (done, start.elapsed())
}

fn record(session: &Session, times: &Times) -> serde_json::Value {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    json!({
        "agent_id": session.remote.agent_id,
        "mode": session.mode,
        "resolution_path": session.rule,
        "avp_map_id": session.avp_map_id,
        "dialect": session.dialect.as_str(),
        "handshake_ms": milliseconds(times.handshake),
        "round_trip_ms": {
            "min": milliseconds(times.min),
            "median": milliseconds(times.median),
            "max": milliseconds(times.max),
            "count": times.count,
        },
    })
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        let times = |trips: &[u64]| {
            let Times { min, median, max, .. } =
                Times::of(trips.iter().map(|ms| Duration::from_millis(*ms)).collect(), Duration::ZERO);
            [min, median, max].map(|time| time.as_millis())
        };
        assert_eq!(times(&[3, 1, 2]), [1, 2, 3]);
        assert_eq!(times(&[4, 1, 2, 8]), [1, 3, 8]);
        assert_eq!(times(&[5]), [5, 5, 5]);
    }
}
