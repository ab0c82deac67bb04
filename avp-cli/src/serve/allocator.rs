//! glibc's allocator in a server.

/// The number of arenas. glibc makes up to eight for each core, and each keeps the memory that was freed in it: a server under load
/// would occupy far more than its requests do.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 2;

/// Limits what the allocator keeps of freed memory. Call it before there are threads. Other allocators are left as they are.
pub(super) fn limit_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it changes a number under the allocator's own lock, and takes no pointer.
        let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
        if is_set == 0 {
            tracing::warn!("cannot limit the arenas of the allocator; freed memory may be kept");
        }
    }
}
