//! One worker thread per session, behind a handle that any thread may use.
//!
//! ONNX Runtime runs a session for one caller at a time, so one thread owns it. What callers want done comes to it as a
//! [`Task`], through a bounded queue. The worker takes one step of each task in turn: a step is one run of the decoder, so
//! that a long answer and a short one get on side by side.
//!
//! ```text
//! callers ── queue (bounded) ── worker: task, task, task, task, ... one step each, in turn ── decoder
//!    ▲                                                     │
//!    └──────────────── Pending: the answer ────────────────┘
//! ```
//!
//! A task that panics takes no other with it: its caller gets [`RunError::Panicked`]. Should the thread itself end, every
//! call, waiting or new, gets [`RunError::Stopped`]: nobody waits for an answer that cannot come.

mod call;
mod pending;
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
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};

pub use self::pending::{Canceller, Pending, PendingFuture};
use self::{call::Call, pending::pending};
use crate::{RunError, decoder::Decoder};

/// Work that needs the decoder, cut into steps.
pub(crate) trait Task: Send + 'static {
    /// What it gives in the end.
    type Output: Send + 'static;

    /// Takes one step, at most one run of the decoder; others have their turn before the next.
    ///
    /// # Errors
    /// End the task, and become its answer. Where the call was cancelled or its time is up, that is the answer instead.
    fn step(&mut self, decoder: &mut Decoder) -> Result<ControlFlow<Self::Output>, RunError>;
}

/// The handle to a worker. Dropping it waits for the work accepted so far.
#[derive(Debug)]
pub(crate) struct Engine {
    queue: Option<Sender<Box<dyn Job>>>,
    places: usize,
    /// Set before the worker looks into its queue for the last time.
    ended: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Engine {
    /// Gives `decoder` a thread of its own, `places` in its queue, and takes turns among `in_flight` tasks at most.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn new(decoder: Decoder, places: usize, in_flight: usize) -> io::Result<Self> {
        let places = places.max(1);
        let (queue, jobs) = bounded(places);
        let ended = Arc::new(AtomicBool::new(false));
        let jobs = Jobs { jobs, ended: ended.clone() };
        let worker = thread::Builder::new()
            .name("avp-model".to_owned())
            .spawn(move || work(decoder, &jobs, in_flight.max(1)))?;
        Ok(Self { queue: Some(queue), places, ended, worker: Some(worker) })
    }

    /// Hands `task` over, to be answered within `timeout`. Never waits: a full queue is the answer.
    pub(crate) fn start<T: Task>(&self, task: T, timeout: Option<Duration>) -> Pending<T::Output> {
        let (job, pending) = job(task, timeout);
        match self.queue.as_ref().map(|queue| queue.try_send(job)) {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(job))) => job.refuse(RunError::Busy { places: self.places }),
            Some(Err(TrySendError::Disconnected(job))) => job.refuse(RunError::Stopped),
            None => pending.canceller().stop(RunError::Stopped),
        }
        self.stop_if_ended(&pending);
        pending
    }

    /// Does `task` and gives its answer within `timeout`, after waiting for a place in the queue where there is none.
    ///
    /// # Errors
    /// The task's own, [`RunError::TimedOut`], [`RunError::Panicked`] and [`RunError::Stopped`].
    pub(crate) fn run<T: Task>(&self, task: T, timeout: Option<Duration>) -> Result<T::Output, RunError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let (job, pending) = job(task, timeout);
        let Some(queue) = &self.queue else { return Err(RunError::Stopped) };
        let sent = match deadline {
            None => queue.send(job).map_err(|refused| SendTimeoutError::Disconnected(refused.0)),
            Some(deadline) => queue.send_deadline(job, deadline),
        };
        match sent {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(job)) => {
                job.refuse(RunError::TimedOut { after: timeout.unwrap_or_default() });
            }
            Err(SendTimeoutError::Disconnected(job)) => job.refuse(RunError::Stopped),
        }
        self.stop_if_ended(&pending);
        pending.wait()
    }

    /// A queue without a reader keeps what is in it. What came too late to be found there is answered here.
    fn stop_if_ended<T>(&self, pending: &Pending<T>) {
        if self.ended.load(Ordering::SeqCst) {
            pending.canceller().stop(RunError::Stopped);
        }
    }
}

impl Drop for Engine {
    /// ONNX Runtime must not be at work while the process unloads it, so the worker ends before its handle does.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(worker) = self.worker.take()
            // A task that holds the last handle drops it on the worker itself, which ends by its own then.
            && worker.thread().id() != thread::current().id()
        {
            // A worker that panicked has told its callers already.
            let _panicked = worker.join();
        }
    }
}

/// A [`Task`] of any kind, with the call it answers.
trait Job: Send {
    fn step(&mut self, decoder: &mut Decoder) -> ControlFlow<()>;
    fn refuse(self: Box<Self>, reason: RunError);
}

struct Working<T: Task> {
    task: T,
    call: Call<T::Output>,
}

fn job<T: Task>(task: T, timeout: Option<Duration>) -> (Box<dyn Job>, Pending<T::Output>) {
    let (call, pending) = pending(timeout);
    (Box::new(Working { task, call }), pending)
}

impl<T: Task> Job for Working<T> {
    fn step(&mut self, decoder: &mut Decoder) -> ControlFlow<()> {
        if self.call.is_stopped() {
            return ControlFlow::Break(());
        }
        decoder.set_run_options(self.call.run_options());
        // Unwind safe: the task is dropped, and the decoder forgets what it had bound.
        let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.task.step(decoder)));
        let answer = match step {
            Ok(Ok(ControlFlow::Continue(()))) => return ControlFlow::Continue(()),
            Ok(Ok(ControlFlow::Break(output))) => Ok(output),
            Ok(Err(error)) => Err(error),
            Err(panic) => {
                decoder.release();
                Err(RunError::Panicked { message: panic_message(&*panic) })
            }
        };
        self.call.answer(answer);
        ControlFlow::Break(())
    }

    fn refuse(self: Box<Self>, reason: RunError) {
        self.call.answer(Err(reason));
    }
}

impl<T: Task> Drop for Working<T> {
    /// A job that is dropped without its answer had no worker any more. Where there is an answer, this one comes too late.
    fn drop(&mut self) {
        self.call.answer(Err(RunError::Stopped));
    }
}

/// The worker's end of the queue.
struct Jobs {
    jobs: Receiver<Box<dyn Job>>,
    ended: Arc<AtomicBool>,
}

impl Drop for Jobs {
    /// However the worker ends: what still waits is not going to be done.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        for job in self.jobs.try_iter() {
            job.refuse(RunError::Stopped);
        }
    }
}

/// Ends when every handle is gone and all that was accepted is done.
fn work(mut decoder: Decoder, Jobs { jobs, .. }: &Jobs, in_flight: usize) {
    let mut running: VecDeque<Box<dyn Job>> = VecDeque::new();
    loop {
        if running.is_empty() {
            decoder.release();
            match jobs.recv() {
                Ok(job) => running.push_back(job),
                Err(_no_handle_left) => return,
            }
        }
        while running.len() < in_flight
            && let Ok(job) = jobs.try_recv()
        {
            running.push_back(job);
        }
        if let Some(mut job) = running.pop_front()
            && job.step(&mut decoder).is_continue()
        {
            running.push_back(job);
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests;
