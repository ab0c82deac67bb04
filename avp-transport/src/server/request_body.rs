//! The bytes of a request's body, within timeouts.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep};

use super::BodyError;

/// How long to wait for bodies: for a request's to arrive, and for a client to read a response's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyTimeouts {
    /// The longest time without a byte. Default: 30 s.
    pub idle: Duration,
    /// The minimum average rate once [`grace_period`](Self::grace_period) has passed, in bytes per second. Default: 16 KiB.
    pub min_rate: u64,
    /// How long a sender may be slower than that. Default: 20 s. So a body of `len` bytes takes at most this time and `len / min_rate`
    /// seconds.
    pub grace_period: Duration,
}

impl Default for BodyTimeouts {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), min_rate: 16 << 10, grace_period: Duration::from_secs(20) }
    }
}

impl BodyTimeouts {
    /// How long `len` bytes take at the minimum rate; `None` where there is no minimum.
    pub(super) fn time_at_min_rate(&self, len: u64) -> Option<Duration> {
        let millis = (u128::from(len) * 1000).checked_div(self.min_rate.into())?;
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// A request's body, read within [`BodyTimeouts`].
pub(super) struct RequestBody {
    /// `None` after the end or an error.
    body: Option<Body>,
    timeouts: BodyTimeouts,
    started: Instant,
    received: u64,
    idle: Pin<Box<Sleep>>,
}

impl RequestBody {
    pub(super) fn new(body: Body, timeouts: BodyTimeouts) -> Self {
        let idle = Box::pin(sleep(timeouts.idle));
        Self { body: Some(body), timeouts, started: Instant::now(), received: 0, idle }
    }

    /// The next bytes, never empty; `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(body) = self.body.as_mut() else { return Ok(None) };
        let (timeouts, started, received) = (self.timeouts, self.started, self.received);
        let too_late = rate_deadline(&timeouts, started, received);
        let (idle, after) = (&mut self.idle, timeouts.idle);
        // The timer is set only when the body is pending: most often the next bytes have already arrived.
        let mut is_set = false;
        let outcome = poll_fn(|context| {
            loop {
                match Pin::new(&mut *body).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Ok(Some(bytes))),
                        // Trailers, or an empty chunk.
                        _ => {}
                    },
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(BodyError::Broken)),
                    Poll::Ready(None) => return Poll::Ready(Ok(None)),
                    Poll::Pending => {
                        if !std::mem::replace(&mut is_set, true) {
                            let stalled = Instant::now() + after;
                            idle.as_mut().reset(too_late.map_or(stalled, |too_late| too_late.min(stalled)));
                        }
                        return idle.as_mut().poll(context).map(|()| match too_late {
                            Some(too_late) if too_late <= Instant::now() => {
                                Err(too_slow(&timeouts, started, received))
                            }
                            _ => Err(BodyError::Stalled { after }),
                        });
                    }
                }
            }
        })
        .await;
        match &outcome {
            Ok(Some(bytes)) => {
                self.received += bytes.len() as u64;
                self.check_rate()?;
            }
            Ok(None) | Err(BodyError::Broken) => self.body = None,
            Err(_) => {}
        }
        outcome
    }

    fn check_rate(&self) -> Result<(), BodyError> {
        match rate_deadline(&self.timeouts, self.started, self.received) {
            Some(too_late) if too_late < Instant::now() => {
                Err(too_slow(&self.timeouts, self.started, self.received))
            }
            _ => Ok(()),
        }
    }
}

/// When a body of which `received` bytes have arrived becomes slower than the minimum rate; `None` for never.
fn rate_deadline(timeouts: &BodyTimeouts, started: Instant, received: u64) -> Option<Instant> {
    let allowed = timeouts.grace_period.checked_add(timeouts.time_at_min_rate(received)?)?;
    started.checked_add(allowed)
}

fn too_slow(timeouts: &BodyTimeouts, started: Instant, received: u64) -> BodyError {
    let got = u128::from(received) * 1000 / started.elapsed().as_millis().max(1);
    BodyError::TooSlow { least: timeouts.min_rate, got: got as u64 }
}
