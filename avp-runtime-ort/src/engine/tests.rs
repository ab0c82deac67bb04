//! Scheduling, refusals, cancellation and panics, with tasks that a test can block.

use std::{
    path::Path,
    sync::{
        Mutex, OnceLock,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    time::Duration,
};

use super::*;
use crate::{
    GenerateOptions, GenerationStream, LoadOptions, Model, Prompt, Runtime, ThinkOptions,
    context::Before,
    decoder::{Input, Want},
    kv::Past,
};

#[cfg(target_os = "linux")]
mod under_way;

fn model(options: &LoadOptions) -> Model {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Runtime::find().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/parity/tiny-qwen2");
    Model::load(runtime, folder, options).unwrap()
}

fn within(after: Duration) -> Option<Deadline> {
    Deadline::new(Some(after))
}

fn works(model: &Model) -> bool {
    model.think(Prompt::Raw("a".into()), None, &ThinkOptions::steps(1)).is_ok()
}

/// Longer than any expected wait, so that a hang fails the test.
const LONG: Duration = Duration::from_secs(60);

/// A task from a closure, called until it returns `Break`.
fn steps<T, F>(step: F) -> Box<Steps<F>>
where
    F: FnMut() -> Result<ControlFlow<T>, RunError> + Send + 'static,
{
    Box::new(Steps(step))
}

struct Steps<F>(F);

impl<T, F> Task for Steps<F>
where
    T: Send + 'static,
    F: FnMut() -> Result<ControlFlow<T>, RunError> + Send + 'static,
{
    type Output = T;

    fn step(mut self: Box<Self>, _decoder: &mut Decoder) -> Result<Progress<T>, RunError> {
        Ok(match (self.0)()? {
            ControlFlow::Continue(()) => ControlFlow::Continue(self),
            ControlFlow::Break(output) => ControlFlow::Break(output),
        })
    }
}

/// A task of one step that lasts until the sender is dropped, and a receiver that is notified of its start.
fn held() -> (Box<dyn Task<Output = ()>>, Sender<()>, Receiver<()>) {
    let (release, held) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let task = steps(move || {
        let _nobody_listens = begin.send(());
        let _released = held.recv();
        Ok(ControlFlow::Break(()))
    });
    (task, release, begun)
}

#[test]
fn tasks_in_flight_take_turns() {
    let model = model(&LoadOptions::default());
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let log_steps = |name: char, count: usize| {
        let (log, mut left) = (log.clone(), count);
        model.start(
            steps(move || {
                log.lock().unwrap().push(name);
                left -= 1;
                Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            }),
            None,
        )
    };
    let pending = [log_steps('a', 4), log_steps('b', 2), log_steps('c', 3)];
    drop(release);
    gate.wait().unwrap();
    for pending in pending {
        pending.wait().unwrap();
    }
    assert_eq!(*log.lock().unwrap(), "abcabcaca");
}

#[test]
fn a_full_queue_refuses_started_calls_and_blocks_waiting_calls() {
    let model = model(&LoadOptions { queue: 1, in_flight: 1, ..LoadOptions::default() });
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    let queued = model.start(steps(|| Ok(ControlFlow::Break(1))), None);
    let refused = model.start(steps(|| Ok(ControlFlow::Break(2))), None);
    assert_eq!(refused.wait(), Err(RunError::Busy { places: 1 }));

    let after = Duration::from_millis(20);
    let no_place = model.run(steps(|| Ok(ControlFlow::Break(3))), within(after));
    assert_eq!(no_place, Err(RunError::TimedOut { after }));
    let no_place = model.start_generate("x", None, &GenerateOptions::default());
    assert_eq!(no_place.err(), Some(RunError::Busy { places: 1 }));

    let waiting = thread::spawn({
        let model = model.clone();
        move || model.run(steps(|| Ok(ControlFlow::Break(4))), None)
    });
    drop(release);
    assert_eq!((gate.wait(), queued.wait(), waiting.join().unwrap()), (Ok(()), Ok(1), Ok(4)));
}

#[test]
fn a_call_that_waits_is_cancelled_and_timed_out_at_once() {
    let model = model(&LoadOptions { in_flight: 1, ..LoadOptions::default() });
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    // The worker is held, so these answers do not come from it.
    let cancelled = model.start(steps(|| Ok(ControlFlow::Break(()))), None);
    cancelled.canceller().cancel();
    assert_eq!(cancelled.wait(), Err(RunError::Cancelled));
    let after = Duration::from_millis(5);
    let late = model.start(steps(|| Ok(ControlFlow::Break(()))), within(after));
    assert_eq!(late.wait(), Err(RunError::TimedOut { after }));
    drop(release);
    gate.wait().unwrap();
    assert!(works(&model));
}

#[test]
fn a_stopped_call_gives_back_its_place_and_its_task_before_its_turn() {
    let model = model(&LoadOptions { queue: 1, in_flight: 1, ..LoadOptions::default() });
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    for deadline in [None, within(Duration::from_millis(5))] {
        let (alive, dropped) = mpsc::channel::<()>();
        let stopped = model.start(
            steps(move || {
                let _kept_alive = &alive;
                Ok(ControlFlow::Break(1))
            }),
            deadline,
        );
        match deadline {
            None => drop(stopped),
            // Its time is up before its turn: it lets go, and the worker has no part in that.
            Some(_) => assert_eq!(dropped.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected)),
        }
        assert_eq!(dropped.try_recv(), Err(TryRecvError::Disconnected));
    }
    let queued = model.start(steps(|| Ok(ControlFlow::Break(2))), None);
    drop(release);
    assert_eq!((gate.wait(), queued.wait()), (Ok(()), Ok(2)));
}

#[test]
fn a_fallback_answers_for_an_error_a_panic_and_a_timeout_but_not_for_a_cancelled_call() {
    let model = model(&LoadOptions::default());
    // Its answer is the error.
    let with_fallback = |rest: Box<dyn FnMut() -> Result<ControlFlow<RunError>, RunError> + Send>| {
        let behind_first = |()| {
            let fallback: Fallback<RunError> = Box::new(|error| error);
            let rest = then(steps(rest), |answer| Ok(ControlFlow::Break(answer)), Some(fallback));
            Ok(ControlFlow::Continue(rest))
        };
        then(steps(|| Ok(ControlFlow::Break(()))), behind_first, None)
    };
    let answer = |rest| model.run(with_fallback(rest), None);
    assert_eq!(answer(Box::new(|| Ok(ControlFlow::Break(RunError::EmptyStop)))), Ok(RunError::EmptyStop));
    assert_eq!(answer(Box::new(|| Err(RunError::NotText))), Ok(RunError::NotText));
    let panicked = RunError::Panicked { message: "on purpose".into() };
    assert_eq!(answer(Box::new(|| panic!("on purpose"))), Ok(panicked));

    // A deadline before the first step has no fallback.
    let mut after = Duration::from_millis(20);
    let out_of_time = loop {
        let endless = with_fallback(Box::new(|| Ok(ControlFlow::Continue(()))));
        match model.run(endless, within(after)) {
            Err(error) if after < LONG => assert_eq!(error, RunError::TimedOut { after }),
            answer => break answer,
        }
        after *= 2;
    };
    assert_eq!(out_of_time, Ok(RunError::TimedOut { after }));

    let (begin, begun) = mpsc::channel();
    let endless = with_fallback(Box::new(move || {
        let _nobody_listens = begin.send(());
        Ok(ControlFlow::Continue(()))
    }));
    let cancelled = model.start(endless, None);
    begun.recv().unwrap();
    cancelled.canceller().cancel();
    assert_eq!(cancelled.wait(), Err(RunError::Cancelled));
    assert!(works(&model));
}

#[test]
fn an_expired_call_does_not_begin() {
    let model = model(&LoadOptions::default());
    let after = Duration::ZERO;
    let began = || -> Result<ControlFlow<()>, RunError> { panic!("it began") };
    assert_eq!(model.run(steps(began), within(after)), Err(RunError::TimedOut { after }));
    assert_eq!(model.start(steps(began), within(after)).wait(), Err(RunError::TimedOut { after }));
}

/// How a stream ends while the worker is held.
fn end_of(stream: GenerationStream) -> RunError {
    let (tell, hear) = mpsc::channel();
    thread::spawn(move || tell.send(stream.last()));
    let last = hear.recv_timeout(LONG).expect("the stream waits for the worker");
    last.unwrap().unwrap_err()
}

#[test]
fn a_stream_that_waits_for_its_turn_ends_at_once_when_it_is_stopped() {
    let model = model(&LoadOptions::default());
    let endless = GenerateOptions { ignore_end_of_turn: true, ..GenerateOptions::default() };
    let (first, release_first, first_begun) = held();
    let first = model.start(first, None);
    first_begun.recv().unwrap();
    let unread = model.start_generate("x", None, &endless).unwrap();
    unread.canceller().cancel();
    assert_eq!(end_of(unread), RunError::Cancelled);
    let after = Duration::from_millis(5);
    let late = GenerateOptions { timeout: Some(after), ..endless.clone() };
    let late = model.start_generate("x", None, &late).unwrap();
    assert_eq!(end_of(late), RunError::TimedOut { after });

    // This one has had a turn before the worker is held again.
    let begun = model.start_generate("x", None, &endless).unwrap();
    let (second, release_second, second_begun) = held();
    let second = model.start(second, None);
    drop(release_first);
    second_begun.recv().unwrap();
    begun.canceller().cancel();
    assert_eq!(end_of(begun), RunError::Cancelled);
    drop(release_second);
    assert_eq!((first.wait(), second.wait()), (Ok(()), Ok(())));
}

#[test]
fn an_earlier_deadline_is_not_delayed_by_a_later_one() {
    let model = model(&LoadOptions { in_flight: 1, ..LoadOptions::default() });
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    let hour = model.start(steps(|| Ok(ControlFlow::Break(7))), within(Duration::from_secs(3600)));
    let after = Duration::from_millis(5);
    let soon = model.start(steps(|| Ok(ControlFlow::Break(7))), within(after));
    assert_eq!(soon.wait(), Err(RunError::TimedOut { after }));
    drop(release);
    assert_eq!((gate.wait(), hour.wait()), (Ok(()), Ok(7)));
}

#[test]
fn dropping_the_answer_cancels_the_call() {
    let model = model(&LoadOptions::default());
    let (alive, dropped) = mpsc::channel::<()>();
    let endless = model.start(
        steps(move || -> Result<ControlFlow<()>, RunError> {
            let _kept_alive = &alive;
            Ok(ControlFlow::Continue(()))
        }),
        None,
    );
    drop(endless);
    // Ends when the worker has let go of the task.
    assert!(dropped.recv().is_err());
    assert!(works(&model));
}

#[test]
fn cancelling_ends_the_run_that_is_under_way() {
    struct CancelledRun {
        past: Past,
        canceller: Receiver<Canceller>,
        ran: Sender<bool>,
    }
    impl Task for CancelledRun {
        type Output = ();
        fn step(self: Box<Self>, decoder: &mut Decoder) -> Result<Progress<()>, RunError> {
            self.canceller.recv().unwrap().cancel();
            let mut sequence = decoder.begin(self.past.clone(), 1)?;
            let outputs = decoder.run(&mut sequence, Input::Tokens(&[5]), Want::LOGITS);
            self.ran.send(outputs.is_ok()).unwrap();
            outputs.map(|_| ControlFlow::Break(()))
        }
    }
    let model = model(&LoadOptions::default());
    let (give, take) = mpsc::channel();
    let (tell, hear) = mpsc::channel();
    let past = model.facts().past(Before::default(), 1, 0).unwrap();
    let pending = model.start(Box::new(CancelledRun { past, canceller: take, ran: tell }), None);
    give.send(pending.canceller()).unwrap();
    assert_eq!(pending.wait(), Err(RunError::Cancelled));
    assert!(!hear.recv().unwrap(), "the run went on");
    assert!(works(&model));
}

#[test]
fn a_task_that_panics_is_reported_and_the_others_go_on() {
    let model = model(&LoadOptions::default());
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    let panics = model.start(steps(|| -> Result<ControlFlow<()>, RunError> { panic!("on purpose") }), None);
    let number = 7;
    let formats = model
        .start(steps(move || -> Result<ControlFlow<()>, RunError> { panic!("on purpose {number}") }), None);
    let sound = model.start(steps(|| Ok(ControlFlow::Break(5))), None);
    drop(release);
    gate.wait().unwrap();
    assert_eq!(panics.wait(), Err(RunError::Panicked { message: "on purpose".into() }));
    assert_eq!(formats.wait(), Err(RunError::Panicked { message: "on purpose 7".into() }));
    assert_eq!(sound.wait(), Ok(5));
    assert!(works(&model));
}

#[test]
fn nobody_waits_for_a_thread_that_has_ended() {
    /// Takes the thread with it.
    struct Fatal;
    impl Drop for Fatal {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let model = model(&LoadOptions { in_flight: 2, ..LoadOptions::default() });
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    let (release_fatal, held_fatal) = mpsc::channel::<()>();
    let (begin, fatal_begun) = mpsc::channel();
    let fatal = model.start(
        steps(move || {
            begin.send(()).unwrap();
            let _released = held_fatal.recv();
            Ok(ControlFlow::Break(Fatal))
        }),
        None,
    );
    let in_flight =
        model.start(steps(|| -> Result<ControlFlow<()>, RunError> { Ok(ControlFlow::Continue(())) }), None);
    let queued = model.start(steps(|| Ok(ControlFlow::Break(2))), None);
    drop(release);
    gate.wait().unwrap();
    fatal_begun.recv().unwrap();
    // Its output has no caller any more, so the worker drops it.
    drop(fatal);
    drop(release_fatal);
    assert_eq!((in_flight.wait(), queued.wait()), (Err(RunError::Stopped), Err(RunError::Stopped)));
    assert_eq!(model.run(steps(|| Ok(ControlFlow::Break(3))), None), Err(RunError::Stopped));
    assert_eq!(model.start(steps(|| Ok(ControlFlow::Break(4))), None).wait(), Err(RunError::Stopped));
}

#[test]
fn a_task_may_hold_the_last_handle_of_its_model() {
    let model = model(&LoadOptions::default());
    let (gate, release, begun) = held();
    let gate = model.start(gate, None);
    begun.recv().unwrap();
    let (tell, hear) = mpsc::channel();
    let own = model.clone();
    let pending = model.start(
        steps(move || {
            tell.send(own.window()).unwrap();
            Ok(ControlFlow::Break(own.window()))
        }),
        None,
    );
    drop(release);
    let (window, dropping) = (model.window(), thread::spawn(move || drop(model)));
    assert_eq!((gate.wait(), pending.wait(), hear.recv()), (Ok(()), Ok(window), Ok(window)));
    dropping.join().unwrap();
}
