//! The body of a request, and its progress.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use avp_core::DecodeError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};

use super::{
    ClientError,
    chunks::{CHUNK_SIZE, Chunks},
};

/// Called with the number of bytes transferred and the total.
pub(super) type ProgressFn = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Reports the progress of a transfer, which never decreases, even when a transfer restarts.
#[derive(Clone, Default)]
pub(super) struct Reporter {
    callback: Option<ProgressFn>,
    most: Arc<AtomicU64>,
}

impl Reporter {
    pub(super) fn new(callback: ProgressFn) -> Self {
        Self { callback: Some(callback), most: Arc::default() }
    }

    pub(super) fn report(&self, done: u64, total: u64) {
        let Some(callback) = &self.callback else { return };
        if self.most.fetch_max(done, Ordering::Relaxed) < done {
            callback(done, total);
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.callback.is_some() { "Reporter(..)" } else { "Reporter" })
    }
}

/// The progress of an upload, shared with the task that waits for the response.
#[derive(Default)]
pub(super) struct Meter {
    state: Mutex<State>,
    /// Notified at the first poll and after the last chunk, when another timeout applies.
    next_phase: Notify,
}

/// The phase of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// The body has not been polled yet.
    #[default]
    Waiting,
    /// The body was last polled at this time.
    Sending(Instant),
    /// The last chunk was passed to the connection at this time.
    Sent(Instant),
}

#[derive(Default)]
struct State {
    phase: Phase,
    sent: u64,
    fault: Option<ClientError>,
}

impl Meter {
    pub(super) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// The local error that ended the body early, if any.
    pub(super) fn take_fault(&self) -> Option<ClientError> {
        self.state().fault.take()
    }

    pub(super) async fn next_phase(&self) {
        self.next_phase.notified().await;
    }

    fn polled(&self) {
        let mut state = self.state();
        match state.phase {
            Phase::Waiting => self.next_phase.notify_one(),
            Phase::Sending(_) => {}
            Phase::Sent(_) => return,
        }
        state.phase = Phase::Sending(Instant::now());
    }

    /// Counts bytes passed to the connection, and returns their sum.
    fn record(&self, len: usize, is_last: bool) -> u64 {
        let mut state = self.state();
        state.sent += len as u64;
        if is_last {
            state.phase = Phase::Sent(Instant::now());
            self.next_phase.notify_one();
        }
        state.sent
    }

    /// No operation panics halfway through a change, so the state behind a poisoned lock is consistent.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body of known length.
pub(super) struct Upload(
    /// Never contended: the HTTP library requires a `Sync` body, and a stream need not be `Sync`.
    Mutex<Inner>,
);

struct Inner {
    chunks: Chunks,
    /// The unsent rest of the current chunk.
    rest: Bytes,
    /// Whether `chunks` has ended.
    ended: bool,
    len: u64,
    missing: u64,
    meter: Arc<Meter>,
    reporter: Reporter,
}

impl Upload {
    /// A body of `len` bytes. If `chunks` has fewer or more, the body fails before its last chunk is sent.
    pub(super) fn new(first: Bytes, chunks: Chunks, len: u64, reporter: Reporter) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let inner =
            Inner { chunks, rest: first, ended: false, len, missing: len, meter: meter.clone(), reporter };
        (Self(Mutex::new(inner)), meter)
    }
}

impl Inner {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientError>>> {
        self.meter.polled();
        while self.rest.is_empty() {
            if self.ended || self.missing == 0 {
                return Poll::Ready((self.missing > 0).then(|| Err(self.too_short())));
            }
            match ready!(self.poll_source(context)) {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => self.ended = true,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        // The receiver must not see a complete body if the source has more, so the last chunk waits for the source's end.
        while self.missing <= self.rest.len().min(CHUNK_SIZE) as u64 && !self.ended {
            match ready!(self.poll_source(context)) {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => return Poll::Ready(Some(Err(self.too_long(chunk.len())))),
                Ok(None) => self.ended = true,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        if self.rest.len() as u64 > self.missing {
            return Poll::Ready(Some(Err(self.too_long(0))));
        }
        let chunk = self.rest.split_to(self.rest.len().min(CHUNK_SIZE));
        self.missing -= chunk.len() as u64;
        let sent = self.meter.record(chunk.len(), self.missing == 0);
        self.reporter.report(sent, self.len);
        Poll::Ready(Some(Ok(chunk)))
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        let next = ready!(self.chunks.poll_next(context)).transpose();
        Poll::Ready(next.map_err(ClientError::io("read the frame")))
    }

    fn too_short(&self) -> ClientError {
        let (offset, needed) = (place(self.len - self.missing), place(self.len));
        ClientError::Frame(DecodeError::Truncated { what: "body", offset, needed })
    }

    fn too_long(&self, more: usize) -> ClientError {
        let extra = self.rest.len().saturating_sub(place(self.missing)) + more;
        ClientError::Frame(DecodeError::TrailingBytes { what: "frame", offset: place(self.len), extra })
    }
}

fn place(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let inner = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let chunk = ready!(inner.poll_chunk(context));
        Poll::Ready(chunk.map(|chunk| {
            chunk.map(Frame::data).map_err(|fault| {
                let error = io::Error::other(fault.to_string());
                inner.meter.state().fault = Some(fault);
                error
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.lock().unwrap_or_else(PoisonError::into_inner).missing)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn upload(parts: &[&'static [u8]], len: u64) -> (Upload, Arc<Meter>) {
        let parts = parts.iter().copied().map(Bytes::from_static).collect();
        Upload::new(Bytes::new(), Chunks::Memory(parts), len, Reporter::default())
    }

    #[tokio::test]
    async fn a_large_buffer_is_sent_in_pieces_that_share_it() {
        let whole = Bytes::from(vec![7; 2 * CHUNK_SIZE + 5]);
        let chunks = Chunks::Memory([whole.clone()].into());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let reporter = Reporter::new(Arc::new(move |done, total| log.lock().unwrap().push((done, total))));
        let (mut body, meter) = Upload::new(Bytes::new(), chunks, whole.len() as u64, reporter);
        assert_eq!((meter.phase(), body.size_hint().exact()), (Phase::Waiting, Some(whole.len() as u64)));
        let mut offset = 0;
        while let Some(chunk) = body.frame().await {
            let chunk = chunk.unwrap().into_data().unwrap();
            assert_eq!(chunk.as_ptr(), whole[offset..].as_ptr());
            offset += chunk.len();
        }
        assert_eq!(offset, whole.len());
        assert!(matches!(meter.phase(), Phase::Sent(_)) && body.is_end_stream());
        let (chunk, total) = (CHUNK_SIZE as u64, whole.len() as u64);
        assert_eq!(*seen.lock().unwrap(), [(chunk, total), (2 * chunk, total), (total, total)]);
    }

    #[tokio::test]
    async fn a_body_of_another_length_fails_before_its_last_byte_is_sent() {
        for (parts, len, kind) in [
            (&[&b"tens"[..], b"or"][..], 7, "truncated"),
            (&[b"tensor", b"", b"!"], 6, "trailing_bytes"),
            (&[b"tensor!"], 6, "trailing_bytes"),
            (&[], 1, "truncated"),
        ] {
            let (body, meter) = upload(parts, len);
            assert!(body.collect().await.is_err());
            assert!(meter.state().sent < len);
            assert_eq!(meter.take_fault().unwrap().kind(), kind);
        }
    }

    #[test]
    fn progress_never_decreases() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let reporter = Reporter::new(Arc::new(move |done, _| log.lock().unwrap().push(done)));
        let again = reporter.clone();
        [4, 8].into_iter().for_each(|done| reporter.report(done, 10));
        [4, 8, 10].into_iter().for_each(|done| again.report(done, 10));
        assert_eq!(*seen.lock().unwrap(), [4, 8, 10]);
    }
}
