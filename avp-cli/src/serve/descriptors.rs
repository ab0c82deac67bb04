//! The number of files and connections that this process may have open.

/// Descriptors for everything but connections: files of contexts, the log, the model.
const KEPT_BACK: usize = 256;

/// Raises the limit of open files as far as this user may, and returns how many connections that allows; `None` for no limit.
pub(super) fn for_connections() -> Option<usize> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let limit = getrlimit(Resource::Nofile);
        // The limit stays as it is where the system refuses, as macOS does above a limit of its own.
        let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        let open = if raised.is_ok() { limit.maximum } else { limit.current };
        let open = usize::try_from(open?).unwrap_or(usize::MAX);
        Some(open.saturating_sub(KEPT_BACK).max(open / 2))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_back_for_files() {
        let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let open = open.map_or(usize::MAX, |open| open as usize);
        assert!(for_connections().is_none_or(|connections| 0 < connections && connections < open));
    }
}
