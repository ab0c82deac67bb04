//! How the memory of the server is divided: contexts in memory, requests, and what is always there.

use anyhow::{Result, ensure};
use avp_transport::{
    server::{CONNECTION_MEMORY, FairShares, Limits, SESSION_MEMORY},
    store::{DEFAULT_QUOTA, INDEX_MEMORY},
};

use super::StoreArgs;

/// What the server occupies without requests, in bytes: sessions, idempotency keys and signatures.
const ALWAYS: u64 = SESSION_MEMORY as u64 + (24 << 20);

/// `--memory` on a machine that does not tell how much it has.
const UNKNOWN: u64 = 4 << 30;

/// The smallest `--memory`, in bytes.
const LEAST: u64 = 320 << 20;

/// This part of the memory is for what the allocator keeps of what was freed: under the attacks of `cargo xtask soak`, up to 28 % of what
/// the rest allows, which is 21 % of the whole.
const ALLOCATOR_PART: u64 = 4;

/// Connections have at most this part of the memory, and requests at least.
const PART: u64 = 16;

/// The sizes of a server's parts, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MemoryPlan {
    /// For the frames of all contexts, in memory or on disk.
    pub(super) quota: u64,
    /// For a frame, and for its uncompressed body.
    pub(super) max_body: u64,
    /// For all requests together.
    pub(super) requests: u64,
    /// The number of connections.
    pub(super) connections: usize,
}

impl MemoryPlan {
    /// Divides the memory as the options say.
    ///
    /// # Errors
    /// When the quota leaves too little for requests, or the largest body does not fit into that.
    pub(super) fn new(store: &StoreArgs, has_model: bool) -> Result<Self> {
        Self::within(store.memory.unwrap_or_else(|| half_of(machine())), store, has_model)
    }

    fn within(memory: u64, store: &StoreArgs, has_model: bool) -> Result<Self> {
        ensure!(memory >= LEAST, "--memory {memory}: expected at least {} MiB", LEAST >> 20);
        let is_in_memory = store.store.is_none();
        let usable = memory - memory / ALLOCATOR_PART;
        let default_quota =
            if is_in_memory { (usable / 2).min(DEFAULT_QUOTA as u64) } else { DEFAULT_QUOTA as u64 };
        let quota = store.quota.unwrap_or(default_quota);
        let connections = (Limits::default().connections as u64).min(memory / PART / CONNECTION_MEMORY);
        let always = ALWAYS + connections * CONNECTION_MEMORY;
        let kept = if is_in_memory { quota } else { INDEX_MEMORY as u64 };
        let requests = usable.saturating_sub(kept).saturating_sub(always);
        ensure!(
            requests >= memory / PART,
            "--quota {quota}: contexts are in memory, and --memory {memory} leaves {requests} bytes for requests; expected a quota of \
             at most {}, or --store",
            (usable - memory / PART).saturating_sub(always)
        );
        // A frame passes through memory only where it is kept there or read there, and then beside its uncompressed body.
        let times = u64::from(is_in_memory) + u64::from(has_model);
        let largest = FairShares::new(requests).most().checked_div(times).unwrap_or(u64::MAX);
        let max_body = store.max_body.unwrap_or_else(|| largest.min(avp_core::DEFAULT_FRAME_LIMIT));
        ensure!(
            max_body <= largest,
            "--max-body {max_body}: expected at most {largest} bytes, which is what a request may occupy within --memory {memory}"
        );
        Ok(Self { quota, max_body, requests, connections: connections as usize })
    }
}

fn half_of(machine: Option<u64>) -> u64 {
    machine.map_or(UNKNOWN, |bytes| bytes / 2).max(LEAST)
}

/// The memory of this machine, or the limit of the container where that is smaller.
fn machine() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    [Some(system.total_memory()), limit].into_iter().flatten().filter(|bytes| *bytes > 0).min()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::seal::SealArgs, *};

    const GIB: u64 = 1 << 30;

    fn store() -> StoreArgs {
        StoreArgs {
            store: None,
            seal: SealArgs::default(),
            quota: None,
            ttl: Duration::ZERO,
            max_body: None,
            memory: None,
        }
    }

    fn plan(memory: u64, store: &StoreArgs, has_model: bool) -> Result<MemoryPlan> {
        MemoryPlan::within(memory, store, has_model)
    }

    #[test]
    fn all_parts_together_are_the_memory() {
        for memory in [LEAST, GIB, 12 * GIB] {
            let in_memory = plan(memory, &store(), true).unwrap();
            let connections = in_memory.connections as u64 * CONNECTION_MEMORY;
            let usable = memory - memory / ALLOCATOR_PART;
            assert_eq!(in_memory.quota + in_memory.requests + connections + ALWAYS, usable);
            assert_eq!(in_memory.quota, (usable / 2).min(8 * GIB), "half is for contexts");
            let on_disk = StoreArgs { store: Some("contexts".into()), ..store() };
            let on_disk = plan(memory, &on_disk, false).unwrap();
            assert_eq!(INDEX_MEMORY as u64 + on_disk.requests + connections + ALWAYS, usable);
            assert_eq!((on_disk.quota, on_disk.max_body), (8 * GIB, GIB));
        }
    }

    #[test]
    fn the_largest_body_follows_the_memory() {
        let divided = plan(GIB, &store(), true).unwrap();
        assert!(
            divided.max_body < GIB / 4 && 2 * divided.max_body <= FairShares::new(divided.requests).most()
        );
        let too_large = StoreArgs { max_body: Some(divided.max_body + 1), ..store() };
        assert!(plan(GIB, &too_large, true).unwrap_err().to_string().contains("--max-body"));
        assert!(plan(GIB, &too_large, false).is_ok(), "there is no model that unpacks it");
    }

    #[test]
    fn a_quota_that_leaves_nothing_for_requests_is_refused() {
        let quota = |quota| StoreArgs { quota: Some(quota), ..store() };
        let connections = plan(4 * GIB, &store(), false).unwrap().connections as u64 * CONNECTION_MEMORY;
        let largest = 4 * GIB - 4 * GIB / ALLOCATOR_PART - 4 * GIB / PART - ALWAYS - connections;
        assert!(plan(4 * GIB, &quota(largest), false).is_ok());
        let error = plan(4 * GIB, &quota(largest + 1), false).unwrap_err().to_string();
        assert!(error.contains(&format!("at most {largest},")), "{error}");
        assert!(plan(LEAST - 1, &store(), false).is_err());
    }

    #[test]
    fn this_machine_tells_its_memory() {
        assert!(machine().is_some_and(|bytes| bytes > LEAST));
        assert_eq!((half_of(Some(GIB)), half_of(None)), (GIB / 2, UNKNOWN));
    }
}
