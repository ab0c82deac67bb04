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
