//! What a chat template may spend: fuel, time, stack and output.
//!
//! A model folder is trusted as a program is: its graph can loop or take all memory whatever its template does. These limits
//! are for templates with a fault, and bound most of what a hostile one could do.
//!
//! - **Fuel** pays for each instruction, each item that a filter visits and each 64 bytes of text or list that the template
//!   makes. What is too large is refused before it is made.
//! - **Time** is for what takes little fuel or none, such as comparing lists of lists, which can take years. The caller gets its
//!   error on time, but Rust cannot stop a thread: the one that renders keeps a core until it ends by itself. [`run_within`] starts
//!   no other meanwhile, so a template costs one core, not one for each prompt.
//! - **Recursion** of macros and loops is limited by minijinja, parsing by the length of the source. Both run on a stack of
//!   known size, whatever thread calls.
//! - **Output** is counted as it is written.
//!
//! minijinja takes no fuel while it compares a value, or turns it into text for `~` or a filter. A value that contains itself, by
//! way of a namespace, or that contains the same list in a list some forty levels deep, can exhaust the stack or the memory there
//! and end the process. `{{ value }}` and `tojson` check both before they write.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// Bounds of compiling and rendering one template.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// minijinja's fuel for one rendering.
    pub(super) fuel: u64,
    /// For one rendering, or for compiling one template, which evaluates its constants.
    pub(super) time: Duration,
    /// Bytes of rendered text.
    pub(super) output: usize,
}

/// A conversation of a thousand messages takes some hundred thousand instructions. A template that collects its text in a
/// namespace copies all of it at each message; this much fuel allows 256 MB of such copies.
pub(super) const LIMITS: Limits = Limits { fuel: 4_000_000, time: Duration::from_secs(10), output: 64 << 20 };

/// The longest source that is compiled, in bytes; those of published models have 1 to 30 kB.
pub(super) const LONGEST_SOURCE: usize = 128 << 10;

/// Bytes of stack. minijinja parses chains such as `a()()()` and drops nested lists by recursion: without optimisation, the
/// longest source takes 160 MB, and the deepest list that the fuel allows 200 MB. Only touched pages are allocated.
const STACK: usize = 256 << 20;

/// Why a thread gave no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The work takes longer than the limit, or earlier work still runs beyond it.
    TimedOut,
    /// The system has no thread to give, or the work panicked.
    Failed(String),
}

/// The threads that run beyond their time limit. Several only if their callers waited at the same time.
#[derive(Default)]
pub(super) struct Late(Mutex<Vec<Weak<()>>>);

/// Runs `work` on a thread with [`STACK`] bytes of stack, and waits at most `limit`. Starts no thread while one of `late` runs.
///
/// # Errors
/// When the work takes longer; its thread then joins `late` and runs until the work ends, which can take for ever. When one of
/// `late` still runs. When no thread can be started, or it panics.
pub(super) fn run_within<T: Send + 'static>(
    limit: Duration,
    late: &Late,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if late.any() {
        return Err(Failure::TimedOut);
    }
    let (done, result) = mpsc::sync_channel(1);
    let running = Arc::new(());
    let thread = Arc::downgrade(&running);
    thread::Builder::new()
        .name("avp-template".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let _running = running;
            // Nobody takes a result that comes too late.
            drop(done.send(work()));
        })
        .map_err(|error| Failure::Failed(format!("no thread for it: {error}")))?;
    result.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            late.add(thread);
            Failure::TimedOut
        }
        RecvTimeoutError::Disconnected => Failure::Failed("panicked".to_owned()),
    })
}

impl Late {
    fn any(&self) -> bool {
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        !threads.is_empty()
    }

    fn add(&self, thread: Weak<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

/// Text of a limited length.
#[derive(Debug)]
pub(super) struct BoundedText {
    text: String,
    limit: usize,
}

impl BoundedText {
    pub(super) fn new(limit: usize) -> Self {
        Self { text: String::new(), limit }
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }
}

impl io::Write for BoundedText {
    /// minijinja writes whole strings only.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.text.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let text =
            str::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.text.push_str(text);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_is_left_alone_and_no_other_is_started_meanwhile() {
        let (late, day) = (Late::default(), Duration::from_secs(86_400));
        let (end, wait) = mpsc::channel::<()>();
        let slow = run_within(Duration::from_millis(20), &late, move || wait.recv().is_err());
        assert_eq!(slow, Err(Failure::TimedOut));
        // Another caller that waited at the same time, and whose thread ends first.
        let other = Arc::new(());
        late.add(Arc::downgrade(&other));
        drop(other);
        assert_eq!(run_within(day, &late, || 7), Err(Failure::TimedOut));
        drop(end);
        while late.any() {
            thread::yield_now();
        }
        assert_eq!(run_within(day, &late, || 7), Ok(7));
    }

    #[test]
    fn work_that_panics_gives_an_error() {
        let panicked =
            run_within(Duration::from_secs(86_400), &Late::default(), || -> u8 { panic!("on purpose") });
        assert_eq!(panicked, Err(Failure::Failed("panicked".to_owned())));
    }

    #[test]
    fn text_beyond_the_limit_is_refused() {
        let mut text = BoundedText::new(3);
        io::Write::write_all(&mut text, b"ab").unwrap();
        assert!(io::Write::write_all(&mut text, b"cd").is_err());
        io::Write::write_all(&mut text, b"c").unwrap();
        assert_eq!(text.into_string(), "abc");
    }
}
