//! One call: where its answer goes, and how it is stopped early.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ort::session::RunOptions;

use super::watchdog;
use crate::RunError;

/// The worker's end of a call.
pub(super) struct Call<T>(Arc<Shared<T>>);

/// What worker, waiting caller, cancellers and watchdog have in common.
pub(super) struct Shared<T> {
    /// Taken by whoever answers first.
    answer: Mutex<Option<oneshot::Sender<Result<T, RunError>>>>,
    stopped: AtomicBool,
    /// Of every run made for this call; `None` where ONNX Runtime had none to give, and a run can only be awaited.
    run_options: Option<Arc<RunOptions>>,
}

/// A call that can be stopped, whatever it gives.
pub(super) trait Stop: Send + Sync {
    /// Answers the call with `reason` and ends the run that is made for it, if one is. Does nothing after an answer.
    fn stop(&self, reason: RunError);
}

impl<T: Send + 'static> Call<T> {
    /// A call that `answer` waits for, stopped after `timeout`.
    pub(super) fn new(
        answer: oneshot::Sender<Result<T, RunError>>,
        timeout: Option<Duration>,
    ) -> (Self, Weak<dyn Stop>) {
        let shared = Arc::new(Shared {
            answer: Mutex::new(Some(answer)),
            stopped: AtomicBool::new(false),
            run_options: RunOptions::new().ok().map(Arc::new),
        });
        let stop: Arc<dyn Stop> = shared.clone();
        let stop = Arc::downgrade(&stop);
        if let Some(after) = timeout {
            watchdog::watch(stop.clone(), after);
        }
        (Self(shared), stop)
    }

    pub(super) fn run_options(&self) -> Option<Arc<RunOptions>> {
        self.0.run_options.clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Gives the answer, unless there is one.
    pub(super) fn answer(&self, answer: Result<T, RunError>) {
        self.0.answer(answer);
    }
}

impl<T> Shared<T> {
    /// Whether this was the first answer.
    fn answer(&self, answer: Result<T, RunError>) -> bool {
        // Nothing that runs under this lock can panic.
        let sender = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.is_some_and(|sender| {
            // A caller that no longer waits has dropped its end.
            let _not_awaited = sender.send(answer);
            true
        })
    }
}

impl<T: Send> Stop for Shared<T> {
    fn stop(&self, reason: RunError) {
        if self.answer(Err(reason)) {
            self.stopped.store(true, Ordering::Release);
            // A run that cannot be ended ends by itself, and its answer comes too late.
            let _not_ended = self.run_options.as_ref().map(|options| options.terminate());
        }
    }
}
