//! Room on the stack for templates that nest without end.
//!
//! minijinja limits how deeply parentheses and blocks nest, but not chains such as `not not not ...` or `a+a+a+...`, nor lists
//! that a loop puts into lists; it goes through them by recursion. A stack that overflows ends the process, so the work is
//! done on one that is large enough for the longest source, and for the deepest value that the fuel pays for. The system gives
//! memory only for what is touched: for an ordinary template, a few pages.

use std::thread;

/// For rendering: a list in a list takes some six steps and, unoptimised, less than 500 bytes when it is dropped.
pub(super) const FOR_VALUES: usize = 256 << 20;

/// For compiling a source of `length` bytes: the densest chain, `a()()()...`, takes 1.2 kB for each of its bytes where nothing is
/// optimised; here is twice that.
pub(super) const fn for_source(length: usize) -> usize {
    (16 << 20) + length * 2560
}

/// Does `work` on a stack of `bytes`.
///
/// # Errors
/// When the system has no thread to give, or the work panicked.
pub(super) fn with<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("avp-template".to_owned())
            .stack_size(bytes)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread for it: {error}"))?;
        worker.join().map_err(|_| "panicked".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_and_a_panic_is_an_error() {
        assert_eq!(with(1 << 20, || 7), Ok(7));
        assert_eq!(with(1 << 20, || -> u8 { panic!("on purpose") }), Err("panicked".to_owned()));
    }
}
