//! One call: its task, its answer, and how it is stopped early.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use ort::session::RunOptions;

use super::{Deadline, Task, places::Place, watchdog};
use crate::RunError;

/// The worker's end of a call.
pub(super) struct Call<T>(Arc<Shared<T>>);

/// The task of a call, and its place in the queue.
pub(super) type Work<T> = (Box<dyn Task<Output = T>>, Place);

/// Shared by the worker, the waiting caller, cancellers and the watchdog.
struct Shared<T> {
    /// Taken by the first answer.
    answer: Mutex<Option<oneshot::Sender<Result<T, RunError>>>>,
    held: Mutex<Held<T>>,
    /// Of every run made for this call; `None` where ONNX Runtime had none to give, and a run can only be awaited.
    run_options: Option<Arc<RunOptions>>,
}

/// What a call occupies while it waits. A stopped call releases it at once, before its turn comes.
struct Held<T> {
    /// `None` while the worker takes a step of it, and when it is done or stopped.
    task: Option<Box<dyn Task<Output = T>>>,
    /// `None` outside the queue.
    place: Option<Place>,
    stopped: bool,
}

/// A call that can be stopped, whatever it gives.
pub(super) trait Stop: Send + Sync {
    /// Answers the call with `reason` and ends the run that is made for it, if one is. Does nothing after an answer.
    fn stop(&self, reason: RunError);
}

impl<T: Send + 'static> Call<T> {
    /// A call that `answer` waits for, stopped at `deadline`; without `work` where it is refused before it begins.
    pub(super) fn new(
        answer: oneshot::Sender<Result<T, RunError>>,
        work: Option<Work<T>>,
        deadline: Option<Deadline>,
    ) -> (Self, Weak<dyn Stop>) {
        let (task, place) = work.unzip();
        let shared = Arc::new(Shared {
            answer: Mutex::new(Some(answer)),
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

    /// The call is in flight: its place is free.
    pub(super) fn leave_queue(&self) {
        let _place = self.0.held().place.take();
    }

    /// The task, for one step of it; `None` where the call was stopped.
    pub(super) fn take_task(&self) -> Option<Box<dyn Task<Output = T>>> {
        self.0.held().task.take()
    }

    /// Keeps `task` for its next step, unless the call was stopped during the last.
    pub(super) fn put_back(&self, task: Box<dyn Task<Output = T>>) -> ControlFlow<()> {
        let mut held = self.0.held();
        if held.stopped {
            return ControlFlow::Break(());
        }
        held.task = Some(task);
        ControlFlow::Continue(())
    }

    /// Gives the answer, unless there is one.
    pub(super) fn answer(&self, answer: Result<T, RunError>) {
        self.0.answer(answer);
    }
}

impl<T> Drop for Call<T> {
    /// A call that is dropped without its answer had no worker any more. Where there is an answer, this one comes too late.
    fn drop(&mut self) {
        self.0.answer(Err(RunError::Stopped));
    }
}

// Nothing that runs under these locks can panic.

impl<T> Shared<T> {
    /// Whether this was the first answer.
    fn answer(&self, answer: Result<T, RunError>) -> bool {
        let sender = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.is_some_and(|sender| {
            // A caller that no longer waits has dropped its end.
            let _not_awaited = sender.send(answer);
            true
        })
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was held, for the caller to drop: not under the lock, and the place first, so that who sees the task gone finds
    /// the place free.
    fn let_go(&self) -> (Option<Place>, Option<Box<dyn Task<Output = T>>>) {
        let mut held = self.held();
        held.stopped = true;
        (held.place.take(), held.task.take())
    }
}

impl<T: Send + 'static> Stop for Shared<T> {
    fn stop(&self, reason: RunError) {
        if self.answer(Err(reason)) {
            // A run that cannot be ended ends by itself, and its answer comes too late.
            let _not_ended = self.run_options.as_ref().map(|options| options.terminate());
            drop(self.let_go());
        }
    }
}
