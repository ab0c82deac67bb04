//! One worker thread per session, and a handle for any thread.
//!
//! ONNX Runtime runs a session for one caller at a time, so one thread owns it. Calls come to it as [`Task`]s through a bounded
//! queue. The worker takes one step of each task in turn; a step is one run of the decoder, so that a long answer does not hold up
//! a short one.
//!
//! ```text
//! callers ── queue (places)  ── worker: task, task, task, task, ... one step each, in turn ── decoder
//!    ▲                                                     │
//!    └──────────────── Pending: the answer ────────────────┘
//! ```
//!
//! A panic ends only its own task, with [`RunError::Panicked`]. If the thread itself ends, every waiting or new call ends with
//! [`RunError::Stopped`].

mod call;
mod deadline;
mod pending;
mod places;
mod then;
mod watchdog;

use std::{
    collections::VecDeque,
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, unbounded};

pub(crate) use self::deadline::Deadline;
pub use self::pending::{Canceller, Pending, PendingFuture};
pub(crate) use self::then::then;
use self::{
    call::Call,
    pending::pending,
    places::{Place, Places},
};
use crate::{RunError, decoder::Decoder};

/// Work on the decoder, divided into steps. Dropped on the thread that stops its call, or on the worker.
pub(crate) trait Task: Send + 'static {
    /// The answer.
    type Output: Send + 'static;

    /// Takes one step, at most one run of the decoder. Other tasks run before the next step.
    ///
    /// # Errors
    /// An error ends the task and becomes its answer, unless the call was cancelled or timed out, or has a fallback.
    fn step(self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<Self::Output>, RunError>;

    /// The answer if the call ends with an error from now on, other than by cancelling it. Asked for after each step.
    fn fallback(&mut self) -> Option<Fallback<Self::Output>> {
        None
    }
}

/// Makes an answer of the error that ended the call.
pub(crate) type Fallback<T> = Box<dyn FnOnce(RunError) -> T + Send>;

/// The answer, or the task for the next step.
pub(crate) type Progress<T> = ControlFlow<T, Box<dyn Task<Output = T>>>;

/// The handle of a worker. Dropping it waits for all accepted work.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Unbounded: each waiting call holds a place, or was stopped and holds almost no memory.
    queue: Option<Sender<Box<dyn Job>>>,
    places: Places,
    /// Set before the worker reads its queue for the last time.
    ended: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts a worker thread for `decoder`, with `places` in its queue and at most `in_flight` concurrent tasks.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn new(decoder: Decoder, places: usize, in_flight: usize) -> io::Result<Self> {
        let (queue, jobs) = unbounded();
        let ended = Arc::new(AtomicBool::new(false));
        let jobs = Jobs { jobs, ended: ended.clone() };
        let worker = thread::Builder::new()
            .name("avp-model".to_owned())
            .spawn(move || work(decoder, &jobs, in_flight.max(1)))?;
        Ok(Self { queue: Some(queue), places: Places::new(places.max(1)), ended, worker: Some(worker) })
    }

    /// Enqueues `task`, to be answered by `deadline`. Never blocks: with a full queue, the answer is [`RunError::Busy`].
    pub(crate) fn start<T: Send + 'static>(
        &self,
        task: Box<dyn Task<Output = T>>,
        deadline: Option<Deadline>,
    ) -> Pending<T> {
        self.try_start(task, deadline).unwrap_or_else(Pending::refused)
    }

    /// As [`start`](Self::start), but returns an error at once if the queue is full.
    ///
    /// # Errors
    /// [`RunError::Busy`].
    pub(crate) fn try_start<T: Send + 'static>(
        &self,
        task: Box<dyn Task<Output = T>>,
        deadline: Option<Deadline>,
    ) -> Result<Pending<T>, RunError> {
        let place = self.places.try_take()?;
        Ok(self.enqueue(task, place, deadline))
    }

    /// Runs `task` and returns its answer by `deadline`. Waits for a place if the queue is full.
    ///
    /// # Errors
    /// The task's own, [`RunError::TimedOut`], [`RunError::Panicked`] and [`RunError::Stopped`].
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: Box<dyn Task<Output = T>>,
        deadline: Option<Deadline>,
    ) -> Result<T, RunError> {
        let place = self.places.take(deadline)?;
        self.enqueue(task, place, deadline).wait()
    }

    fn enqueue<T: Send + 'static>(
        &self,
        task: Box<dyn Task<Output = T>>,
        place: Place,
        deadline: Option<Deadline>,
    ) -> Pending<T> {
        let (call, pending) = pending(Some((task, place)), deadline);
        // Without a receiver the call is dropped, which answers it.
        let _taken = self.queue.as_ref().map(|queue| queue.send(Box::new(call)));
        self.stop_if_ended(&pending);
        pending
    }

    /// Answers a call that was enqueued after the worker read its queue for the last time.
    fn stop_if_ended<T>(&self, pending: &Pending<T>) {
        if self.ended.load(Ordering::SeqCst) {
            pending.canceller().stop(RunError::Stopped);
        }
    }
}

impl Drop for Engine {
    /// Joins the worker, because ONNX Runtime must not run while the process unloads it.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(worker) = self.worker.take()
            // A task with the last handle drops it on the worker itself, which then ends by itself.
            && worker.thread().id() != thread::current().id()
        {
            // A panicked worker has already answered its callers.
            let _panicked = worker.join();
        }
    }
}

/// A call of any kind.
trait Job: Send {
    fn leave_queue(&self);
    fn step(&self, decoder: &mut Decoder) -> ControlFlow<()>;
}

impl<T: Send + 'static> Job for Call<T> {
    fn leave_queue(&self) {
        self.leave_queue();
    }

    fn step(&self, decoder: &mut Decoder) -> ControlFlow<()> {
        let Some(task) = self.take_task() else { return ControlFlow::Break(()) };
        decoder.set_run_options(self.run_options());
        // Unwind safe: the task is dropped, and the decoder clears its bindings.
        let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.step(decoder)));
        let answer = match step {
            Ok(Ok(ControlFlow::Continue(task))) => return self.put_back(task),
            Ok(Ok(ControlFlow::Break(output))) => Ok(output),
            Ok(Err(error)) => Err(error),
            Err(panic) => {
                decoder.release();
                Err(RunError::Panicked { message: panic_message(&*panic) })
            }
        };
        self.answer(answer);
        ControlFlow::Break(())
    }
}

/// The worker's end of the queue.
struct Jobs {
    jobs: Receiver<Box<dyn Job>>,
    ended: Arc<AtomicBool>,
}

impl Drop for Jobs {
    /// Answers the waiting calls when the worker ends for any reason.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.jobs.try_iter().for_each(drop);
    }
}

/// Ends after the last handle is dropped and all accepted work is done.
fn work(mut decoder: Decoder, Jobs { jobs, .. }: &Jobs, in_flight: usize) {
    let mut running: VecDeque<Box<dyn Job>> = VecDeque::new();
    loop {
        if running.is_empty() {
            decoder.release();
            match jobs.recv() {
                Ok(job) => admit(&mut running, job),
                Err(_no_handle_left) => return,
            }
        }
        while running.len() < in_flight
            && let Ok(job) = jobs.try_recv()
        {
            admit(&mut running, job);
        }
        if let Some(job) = running.pop_front()
            && job.step(&mut decoder).is_continue()
        {
            running.push_back(job);
        }
    }
}

fn admit(running: &mut VecDeque<Box<dyn Job>>, job: Box<dyn Job>) {
    job.leave_queue();
    running.push_back(job);
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests;
