//! Request bodies that are read on after they were dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// How many bytes of an unread body are discarded.
const DRAIN_BYTES: usize = 32 << 20;

/// How long an unread body is read.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A request's body. If it is dropped before its end, the rest is read for a moment and discarded: closing a connection
/// with unread bytes resets it, and the client would lose the response that says why.
pub(super) struct DrainOnDrop<B: Body<Data = Bytes> + Send + 'static>(
    /// `None` after the end or an error.
    Option<Pin<Box<B>>>,
);

impl<B: Body<Data = Bytes> + Send + 'static> DrainOnDrop<B> {
    pub(super) fn new(body: B) -> Self {
        Self(Some(Box::pin(body)))
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Body for DrainOnDrop<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = body.as_mut().poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Drop for DrainOnDrop<B> {
    fn drop(&mut self) {
        let unread = self.0.take().filter(|body| !body.is_end_stream());
        let (Some(body), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(tokio::time::timeout(DRAIN_TIME, async move {
            let (mut body, mut drained) = (body, 0);
            while drained < DRAIN_BYTES
                && let Some(Ok(frame)) = body.frame().await
            {
                drained += frame.data_ref().map_or(0, Bytes::len);
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        sync::oneshot,
        time::{Instant, Sleep, sleep},
    };

    use super::*;

    /// A body without an end, or at its end.
    struct Source {
        chunk: Bytes,
        /// The time before each chunk.
        pause: Duration,
        is_end: bool,
        polls: Arc<AtomicUsize>,
        timer: Pin<Box<Sleep>>,
        /// Tells when the body is dropped.
        _dropped: oneshot::Sender<()>,
    }

    impl Body for Source {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if !self.pause.is_zero() {
                std::task::ready!(self.timer.as_mut().poll(context));
                let next = Instant::now() + self.pause;
                self.timer.as_mut().reset(next);
            }
            self.polls.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
        }

        fn is_end_stream(&self) -> bool {
            self.is_end
        }
    }

    /// Drops a body unread, and returns how many chunks were read from it, and for how long.
    async fn drain(chunk: &'static [u8], pause: Duration, is_end: bool) -> (usize, Duration) {
        let (dropped, is_dropped) = oneshot::channel();
        let (polls, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        drop(DrainOnDrop::new(Source {
            chunk: Bytes::from_static(chunk),
            pause,
            is_end,
            polls: polls.clone(),
            timer: Box::pin(sleep(pause)),
            _dropped: dropped,
        }));
        let ended = tokio::time::timeout(10 * DRAIN_TIME, is_dropped).await;
        assert!(ended.is_ok(), "the body is still read after {:?}", started.elapsed());
        (polls.load(Ordering::Relaxed), started.elapsed())
    }

    #[tokio::test]
    async fn an_unread_body_is_read_to_a_limit_of_bytes() {
        static CHUNK: [u8; 1 << 20] = [0; 1 << 20];
        assert_eq!(drain(&CHUNK, Duration::ZERO, false).await.0, DRAIN_BYTES / CHUNK.len());
    }

    #[tokio::test]
    async fn an_unread_body_is_read_to_a_limit_of_time() {
        let (chunks, took) = drain(b"x", Duration::from_millis(50), false).await;
        assert!(0 < chunks && DRAIN_TIME <= took, "{chunks} in {took:?}");
    }

    #[tokio::test]
    async fn a_body_at_its_end_is_not_polled() {
        assert_eq!(drain(b"x", Duration::ZERO, true).await.0, 0);
    }
}
