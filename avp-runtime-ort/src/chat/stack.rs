//! Room on the stack for templates that nest without end.
//!
//! minijinja limits how deeply parentheses and blocks nest, but not chains such as `not not not ...` or `a+a+a+...`, nor lists
//! that one `set` after the other puts into lists; it goes through them by recursion. A stack that overflows ends the process,
//! so the work is done on one that is large enough for the longest source, and for the deepest value that such a source can
//! make. The system gives memory only for what is touched: for an ordinary template, a few pages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// For rendering: a list in a list takes some six steps and, unoptimised, less than 500 bytes when it is dropped.
pub(super) const FOR_VALUES: usize = 256 << 20;

/// For compiling a source of `length` bytes: the densest chain, `a()()()...`, takes 1.2 kB for each of its bytes where nothing is
/// optimised; here is twice that.
pub(super) const fn for_source(length: usize) -> usize {
    (16 << 20) + length * 2560
}

/// Why work has no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// It takes longer than it may, or work before it still does.
    TimedOut,
    /// The system has no thread to give, or the work panicked.
    Failed(String),
}

/// Counts the threads that were left to themselves, since Rust cannot stop one.
///
/// While one of them runs, [`within`] starts no other: a hostile template costs one processor, and not one for each message.
/// Only callers that wait at the same time can each leave one behind.
#[derive(Default)]
pub(super) struct Abandoned(Arc<AtomicUsize>);

/// Does `work` on a stack of `bytes`, and waits for it no longer than `limit`.
///
/// # Errors
/// When the work takes longer; its thread then ends by itself, if it ends. When there is no thread for it, or it panicked.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    bytes: usize,
    abandoned: &Abandoned,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    if abandoned.0.load(Ordering::SeqCst) > 0 {
        return Err(Unfinished::TimedOut);
    }
    let (done, result) = mpsc::sync_channel(0);
    let abandoned = Arc::clone(&abandoned.0);
    let abandon = Arc::clone(&abandoned);
    thread::Builder::new()
        .name("avp-template".to_owned())
        .stack_size(bytes)
        .spawn(move || {
            // Nobody takes the result only where the caller has left, and counted this thread.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            if done.send(result).is_err() {
                abandoned.fetch_sub(1, Ordering::SeqCst);
            }
        })
        .map_err(|error| Unfinished::Failed(format!("no thread for it: {error}")))?;
    match result.recv_timeout(limit) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(Unfinished::Failed("panicked".to_owned())),
        Err(RecvTimeoutError::Timeout) => {
            // Before the channel closes, which is what the thread subtracts for.
            abandon.fetch_add(1, Ordering::SeqCst);
            drop(result);
            Err(Unfinished::TimedOut)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_is_left_alone_and_no_other_is_started_meanwhile() {
        let (abandoned, limit) = (Abandoned::default(), Duration::from_millis(20));
        let (end, wait) = mpsc::channel::<()>();
        let slow = within(limit, 1 << 20, &abandoned, move || wait.recv().is_err());
        assert_eq!(slow, Err(Unfinished::TimedOut));
        let day = Duration::from_secs(86_400);
        assert_eq!(within(day, 1 << 20, &abandoned, || 7), Err(Unfinished::TimedOut));
        drop(end);
        while abandoned.0.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        assert_eq!(within(day, 1 << 20, &abandoned, || 7), Ok(7));
        let panicked = within(day, 1 << 20, &abandoned, || -> u8 { panic!("on purpose") });
        assert_eq!(panicked, Err(Unfinished::Failed("panicked".to_owned())));
    }
}
