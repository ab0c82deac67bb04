//! The bytes of a request as they come from the connection, with patience that ends.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use tokio::time::{Instant, Sleep, sleep};

use super::BodyError;

/// What can go wrong in a body that is not ours.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a sender is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long no byte may come: 30 s unless said otherwise.
    pub idle: Duration,
    /// The fewest bytes per second on average, once [`grace`](Self::grace) is over: 16 KiB unless said otherwise.
    pub least: u64,
    /// How long a sender may be slower than that: 20 s unless said otherwise.
    pub grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), least: 16 << 10, grace: Duration::from_secs(20) }
    }
}

/// A request's body. One that is dropped before its end is read on for a moment and thrown away: a connection that is
/// closed over unread bytes is reset, and the client would not see the answer that says why.
pub(super) struct Source {
    body: Option<UnsyncBoxBody<Bytes, BoxError>>,
    pace: Pace,
    started: Instant,
    received: u64,
    alarm: Pin<Box<Sleep>>,
}

/// How much of a refused body is read to its end.
const LINGER_BYTES: usize = 32 << 20;

/// For how long a refused body is read to its end.
const LINGER: Duration = Duration::from_secs(2);

impl Source {
    pub(super) fn new<B>(body: B, pace: Pace) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            body: Some(body.map_err(Into::into).boxed_unsync()),
            pace,
            started: Instant::now(),
            received: 0,
            alarm: Box::pin(sleep(pace.idle)),
        }
    }

    /// The next bytes, never none of them; `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(body) = self.body.as_mut() else { return Ok(None) };
        let (alarm, idle) = (&mut self.alarm, self.pace.idle);
        // Set where there is something to wait for: most often the next bytes are here already.
        let mut set = false;
        let outcome = poll_fn(|context| {
            loop {
                match Pin::new(&mut *body).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Ok(Some(bytes))),
                        // Trailers, or nothing.
                        _ => {}
                    },
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(BodyError::Broken)),
                    Poll::Ready(None) => return Poll::Ready(Ok(None)),
                    Poll::Pending => {
                        if !std::mem::replace(&mut set, true) {
                            alarm.as_mut().reset(Instant::now() + idle);
                        }
                        return match alarm.as_mut().poll(context) {
                            Poll::Ready(()) => Poll::Ready(Err(BodyError::Stalled { after: idle })),
                            Poll::Pending => Poll::Pending,
                        };
                    }
                }
            }
        })
        .await;
        match &outcome {
            Ok(Some(bytes)) => {
                self.received += bytes.len() as u64;
                self.check_pace()?;
            }
            // Nothing follows an end or a break.
            Ok(None) | Err(BodyError::Broken) => self.body = None,
            Err(_) => {}
        }
        outcome
    }

    fn check_pace(&self) -> Result<(), BodyError> {
        let elapsed = self.started.elapsed();
        let got = u128::from(self.received) * 1000 / elapsed.as_millis().max(1);
        match elapsed > self.pace.grace && got < u128::from(self.pace.least) {
            true => Err(BodyError::TooSlow { least: self.pace.least, got: got as u64 }),
            false => Ok(()),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        let (Some(body), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(tokio::time::timeout(LINGER, async move {
            let mut body = http_body_util::Limited::new(body, LINGER_BYTES);
            while let Some(Ok(_)) = body.frame().await {}
        }));
    }
}
