//! The bytes of a request's body, within timeouts.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep};

use super::BodyError;

/// How long to wait for a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyTimeouts {
    /// The longest time without a byte. Default: 30 s.
    pub idle: Duration,
    /// The minimum average rate once [`grace_period`](Self::grace_period) has passed, in bytes per second. Default: 16 KiB.
    pub min_rate: u64,
    /// How long a sender may be slower than that. Default: 20 s.
    pub grace_period: Duration,
}

impl Default for BodyTimeouts {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), min_rate: 16 << 10, grace_period: Duration::from_secs(20) }
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
        let (idle, after) = (&mut self.idle, self.timeouts.idle);
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
                            idle.as_mut().reset(Instant::now() + after);
                        }
                        return idle.as_mut().poll(context).map(|()| Err(BodyError::Stalled { after }));
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
        let BodyTimeouts { min_rate: least, grace_period, .. } = self.timeouts;
        let elapsed = self.started.elapsed();
        let got = u128::from(self.received) * 1000 / elapsed.as_millis().max(1);
        if elapsed > grace_period && got < u128::from(least) {
            return Err(BodyError::TooSlow { least, got: got as u64 });
        }
        Ok(())
    }
}
