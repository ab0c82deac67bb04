//! Copies on several threads, under `std`.
//!
//! One thread does not fill the memory bandwidth of current machines. Threads change the duration of a copy and nothing
//! else; the caller says how many.

/// From this many bytes on, a copy is worth several threads. Starting a thread takes some 40 us, asking how many there
/// may be another 30: two threads break even at 2 MiB, and at 8 MiB they take two thirds of the time of one.
pub(crate) const LARGE: usize = 8 << 20;

/// Two threads copy 1.6 times as fast as one and nearly fill the memory bandwidth of the machine this was measured on.
#[cfg(feature = "std")]
const MAX_THREADS: usize = 4;

/// How many threads a copy of so many bytes is worth on this machine, the caller's among them: 1 below 8 MiB, at most 4.
/// For [`FrameEncoder::threads`](crate::FrameEncoder::threads) and [`BlockTable::threads`](crate::kv::BlockTable::threads).
///
/// ```
/// assert_eq!(avp_core::copy_threads(1000), 1);
/// ```
///
/// Only available when `std` is enabled.
#[cfg(feature = "std")]
#[must_use]
pub fn copy_threads(bytes: usize) -> usize {
    if bytes < LARGE {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Does `work` on every one of `pieces`, in no order, on up to `threads` threads.
///
/// Pieces are handed out one by one, so that a thread which the system holds up delays its own piece alone; where the
/// system grants no thread, the caller's does it all.
#[cfg(feature = "std")]
pub(crate) fn share<T>(threads: usize, pieces: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    use std::{
        sync::{Mutex, PoisonError},
        thread,
    };

    if threads <= 1 {
        return pieces.for_each(work);
    }
    let pieces = Mutex::new(pieces);
    let run = || {
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        // Not `while let`: that would keep the lock while the work is done.
        core::iter::from_fn(next).for_each(&work);
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
}

/// Does `work` on every one of `pieces`: without `std`, on the caller's thread.
#[cfg(not(feature = "std"))]
pub(crate) fn share<T>(_threads: usize, pieces: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    pieces.for_each(work);
}

/// Copies in pieces of 256 bytes.
///
/// From 2 KiB on, glibc copies with `rep movsb`. Processors of the Zen 3 kind do that at a third of the speed and less
/// where the target lies a few bytes behind the source, counted within a page, as it does behind the 17 bytes of a
/// KV-cache's header. Up to 256 bytes it reads all before it writes any, which is as fast wherever the target lies.
pub(crate) fn copy(source: &[u8], target: &mut [u8]) {
    for (source, target) in source.chunks(256).zip(target.chunks_mut(256)) {
        target.copy_from_slice(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_worked_on_once_however_many_threads_there_are() {
        for threads in 0..5 {
            let mut pieces = [0_u8; 100];
            share(threads, pieces.iter_mut(), |piece| *piece += 1);
            assert_eq!(pieces, [1; 100], "{threads}");
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn small_copies_are_worth_one_thread() {
        assert_eq!(copy_threads(LARGE - 1), 1);
        assert!((1..=4).contains(&copy_threads(usize::MAX)));
    }
}
