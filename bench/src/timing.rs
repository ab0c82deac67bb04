//! Medians of repeated runs.

use std::{
    convert::Infallible,
    hint::black_box,
    time::{Duration, Instant},
};

/// A batch is at least this long, so that the clock's own cost does not show.
const BATCH: Duration = Duration::from_millis(5);
const BUDGET: Duration = Duration::from_secs(1);
const MIN_SAMPLES: usize = 5;
const MAX_SAMPLES: usize = 101;

/// The median time of one run of `work`, in seconds, over at least five batches and about a second.
///
/// # Errors
/// When the work fails the first time: the time of a failure is meaningless.
pub(crate) fn median_seconds<T, E: Into<anyhow::Error>>(
    mut work: impl FnMut() -> Result<T, E>,
) -> anyhow::Result<f64> {
    let start = Instant::now();
    black_box(work().map_err(Into::into)?);
    let once = start.elapsed().max(Duration::from_nanos(1));
    let batch = (BATCH.as_nanos() / once.as_nanos()).clamp(1, 1_000_000) as u32;
    let mut samples = Vec::new();
    let begin = Instant::now();
    while samples.len() < MIN_SAMPLES || (begin.elapsed() < BUDGET && samples.len() < MAX_SAMPLES) {
        let start = Instant::now();
        for _ in 0..batch {
            let _done = black_box(work());
        }
        samples.push(start.elapsed().as_secs_f64() / f64::from(batch));
    }
    Ok(median(samples))
}

/// The median of `samples`; NaN without samples.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median time of copying `source` to `target`, which are of one length: what memory allows.
pub(crate) fn memcpy_seconds(source: &[u8], target: &mut [u8]) -> anyhow::Result<f64> {
    median_seconds(|| {
        target.copy_from_slice(source);
        Ok::<_, Infallible>(())
    })
}
