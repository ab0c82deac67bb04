//! `Pending`: blocking wait, future and cancellation of a call.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Weak,
    task::{Context, Poll},
    time::Duration,
};

use oneshot::{AsyncReceiver, Receiver, RecvTimeoutError};

use super::{
    Deadline,
    call::{Call, Stop, Work},
};
use crate::RunError;

/// A pending result: [`wait`](Self::wait) for it, or `.await` it in any async runtime. Dropping it cancels the call.
///
/// ```
/// use avp_runtime_ort::{Error, LoadOptions, Model, Runtime, ThinkOptions};
///
/// let model = Model::load(&Runtime::find()?, "../models/facts", &LoadOptions::default())?;
/// let pending = model.start_think("Rosa lives in Lisbon.", None, &ThinkOptions::steps(4));
/// assert_eq!(pending.wait()?.num_steps, 4);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it cancels the call"]
pub struct Pending<T> {
    answer: Receiver<Result<T, RunError>>,
    cancel: CancelOnDrop,
}

/// The future of a [`Pending`]. Dropping it cancels the call.
#[must_use = "dropping it cancels the call"]
pub struct PendingFuture<T> {
    answer: AsyncReceiver<Result<T, RunError>>,
    _cancel: CancelOnDrop,
}

/// Cancels a call; any thread may use it. Cheap to clone; it does not keep the call alive.
#[derive(Clone)]
pub struct Canceller(Weak<dyn Stop>);

/// A call, and the receiver of its answer.
pub(super) fn pending<T: Send + 'static>(
    work: Option<Work<T>>,
    deadline: Option<Deadline>,
) -> (Call<T>, Pending<T>) {
    let (sender, answer) = oneshot::channel();
    let (call, stop) = Call::new(sender, work, deadline);
    (call, Pending { answer, cancel: CancelOnDrop(Canceller(stop)) })
}

impl<T: Send + 'static> Pending<T> {
    /// A call that was refused before it began.
    pub(crate) fn refused(reason: RunError) -> Self {
        Self::ready(Err(reason))
    }

    /// A call with a known answer.
    pub(crate) fn ready(answer: Result<T, RunError>) -> Self {
        let (call, pending) = pending(None, None);
        call.answer(answer);
        pending
    }
}

impl<T> Pending<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The call's own; [`RunError::Cancelled`], [`RunError::TimedOut`], [`RunError::Busy`], [`RunError::Panicked`] or
    /// [`RunError::Stopped`].
    pub fn wait(self) -> Result<T, RunError> {
        let Self { answer, cancel } = self;
        let answer = answer.recv().unwrap_or(Err(RunError::Stopped));
        drop(cancel);
        answer
    }

    /// Waits for the result, at most `time`. The call continues after that; drop the `Pending` to end it, or start it with a
    /// timeout.
    ///
    /// # Errors
    /// The `Pending` itself, if there is no result yet. Inside `Ok` is the result of [`wait`](Self::wait).
    pub fn wait_timeout(self, time: Duration) -> Result<Result<T, RunError>, Self> {
        match self.answer.recv_timeout(time) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(self),
            Err(RecvTimeoutError::Disconnected) => Ok(Err(RunError::Stopped)),
        }
    }

    /// Whether there is a result.
    pub fn is_ready(&self) -> bool {
        self.answer.has_message() || self.answer.is_closed()
    }

    /// A handle that cancels this call from another thread.
    pub fn canceller(&self) -> Canceller {
        self.cancel.0.clone()
    }
}

impl<T> IntoFuture for Pending<T> {
    type Output = Result<T, RunError>;
    type IntoFuture = PendingFuture<T>;

    fn into_future(self) -> PendingFuture<T> {
        PendingFuture { answer: self.answer.into_future(), _cancel: self.cancel }
    }
}

impl<T> Future for PendingFuture<T> {
    type Output = Result<T, RunError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or(Err(RunError::Stopped)))
    }
}

impl Canceller {
    /// Ends the call with [`RunError::Cancelled`], also in the middle of a long prompt. Does nothing after its answer.
    pub fn cancel(&self) {
        self.stop(RunError::Cancelled);
    }

    pub(super) fn stop(&self, reason: RunError) {
        if let Some(call) = self.0.upgrade() {
            call.stop(reason);
        }
    }
}

struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pending").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for PendingFuture<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PendingFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Canceller").finish_non_exhaustive()
    }
}
