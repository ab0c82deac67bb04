//! One call: its task, its answer and its cancellation.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use ort::session::RunOptions;

use super::{Deadline, Fallback, Task, places::Place, watchdog};
use crate::RunError;

/// The worker's handle of a call.
pub(super) struct Call<T>(Arc<Shared<T>>);

/// The task of a call, and its place in the queue.
pub(super) type Work<T> = (Box<dyn Task<Output = T>>, Place);

/// Shared by the worker, the waiting caller, cancellers and the watchdog.
struct Shared<T> {
    /// Taken by the first answer.
    reply: Mutex<Option<Reply<T>>>,
    held: Mutex<Held<T>>,
    /// Run options of every run for this call; `None` if ONNX Runtime could not create them, so that a run cannot be stopped.
    run_options: Option<Arc<RunOptions>>,
}

/// The sender of the answer, and the answer in place of an error.
struct Reply<T> {
    sender: oneshot::Sender<Result<T, RunError>>,
    fallback: Option<Fallback<T>>,
}

/// The resources of a waiting call. A stopped call releases them at once.
struct Held<T> {
    /// `None` during a step, and after the call is done or stopped.
    task: Option<Box<dyn Task<Output = T>>>,
    /// `None` outside the queue.
    place: Option<Place>,
    stopped: bool,
}

/// A call that can be stopped, independent of its answer type.
pub(super) trait Stop: Send + Sync {
    /// Answers the call with `reason` and ends its current run, if any. Does nothing after an answer.
    fn stop(&self, reason: RunError);
}

impl<T: Send + 'static> Call<T> {
    /// A call that sends to `answer` and is stopped at `deadline`; without `work` if it is refused before it begins.
    pub(super) fn new(
        answer: oneshot::Sender<Result<T, RunError>>,
        work: Option<Work<T>>,
        deadline: Option<Deadline>,
    ) -> (Self, Weak<dyn Stop>) {
        let (task, place) = work.unzip();
        let shared = Arc::new(Shared {
            reply: Mutex::new(Some(Reply { sender: answer, fallback: None })),
            held: Mutex::new(Held { task, place, stopped: false }),
            run_options: RunOptions::new().ok().map(Arc::new),
        });
        let stop: Arc<dyn Stop> = shared.clone();
        let stop = Arc::downgrade(&stop);
        if let Some(deadline) = deadline {
            watchdog::watch(stop.clone(), deadline);
        }
        (Self(shared), stop)
    }

    pub(super) fn run_options(&self) -> Option<Arc<RunOptions>> {
        self.0.run_options.clone()
    }

    /// Releases the place, because the call is in flight.
    pub(super) fn leave_queue(&self) {
        let _place = self.0.held().place.take();
    }

    /// The task, for one step; `None` if the call was stopped.
    pub(super) fn take_task(&self) -> Option<Box<dyn Task<Output = T>>> {
        self.0.held().task.take()
    }

    /// Stores `task` for its next step, unless the call was stopped during the last one.
    pub(super) fn put_back(&self, mut task: Box<dyn Task<Output = T>>) -> ControlFlow<()> {
        if let Some(fallback) = task.fallback()
            && let Some(reply) = &mut *self.0.reply()
        {
            reply.fallback = Some(fallback);
        }
        let mut held = self.0.held();
        if held.stopped {
            return ControlFlow::Break(());
        }
        held.task = Some(task);
        ControlFlow::Continue(())
    }

    /// Sends the answer, unless one was sent.
    pub(super) fn answer(&self, answer: Result<T, RunError>) {
        self.0.answer(answer);
    }
}

impl<T> Drop for Call<T> {
    /// A call dropped without an answer has lost its worker.
    fn drop(&mut self) {
        self.0.answer(Err(RunError::Stopped));
    }
}

// No code under these locks can panic.

impl<T> Shared<T> {
    /// Whether this was the first answer.
    fn answer(&self, answer: Result<T, RunError>) -> bool {
        let reply = self.reply().take();
        reply.is_some_and(|Reply { sender, fallback }| {
            let answer = match (answer, fallback) {
                (Err(error), Some(fallback)) if error != RunError::Cancelled => Ok(fallback(error)),
                (answer, _) => answer,
            };
            // The caller may have dropped the receiver.
            let _not_awaited = sender.send(answer);
            true
        })
    }

    fn reply(&self) -> MutexGuard<'_, Option<Reply<T>>> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The held resources, for the caller to drop outside the lock: the place first, so that it is free once the task is
    /// dropped.
    fn let_go(&self) -> (Option<Place>, Option<Box<dyn Task<Output = T>>>) {
        let mut held = self.held();
        held.stopped = true;
        (held.place.take(), held.task.take())
    }
}

impl<T: Send + 'static> Stop for Shared<T> {
    fn stop(&self, reason: RunError) {
        if self.answer(Err(reason)) {
            // If the run cannot be terminated, its answer is ignored later.
            let _not_ended = self.run_options.as_ref().map(|options| options.terminate());
            drop(self.let_go());
        }
    }
}
