//! The memory that the allocator keeps of what was freed.

/// Limits that memory: glibc's allocator gets few arenas, of which each keeps some, and gives free pages back while the process grows.
///
/// Other allocators keep less, or tell no limits.
pub(super) fn limit_kept_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::limit();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::{fs, thread, time::Duration};

    /// More of them let more threads allocate at once. Large bodies do not need one.
    const ARENAS: libc::c_int = 2;

    /// How often the size of the process is looked at.
    const INTERVAL: Duration = Duration::from_secs(1);

    /// By how many pages the process may grow before free ones are given back: 16 MiB on most machines.
    const GROWTH: u64 = 4096;

    pub(super) fn limit() {
        // SAFETY: it sets a number that the allocator reads, and is called before the threads that allocate are started.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
        let trimming = thread::Builder::new().name("avp-trim".to_owned()).spawn(trim_while_growing);
        if let Err(error) = trimming {
            tracing::warn!(%error, "free memory is not given back to the system");
        }
    }

    fn trim_while_growing() {
        let mut least = u64::MAX;
        while let Some(pages) = resident_pages() {
            least = least.min(pages);
            if pages > least + GROWTH {
                // SAFETY: it takes the allocator's locks, as an allocation does, and touches free memory only.
                unsafe { libc::malloc_trim(0) };
                least = resident_pages().unwrap_or(pages);
            }
            thread::sleep(INTERVAL);
        }
    }

    /// The second number in `/proc/self/statm`.
    fn resident_pages() -> Option<u64> {
        fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()
    }
}
