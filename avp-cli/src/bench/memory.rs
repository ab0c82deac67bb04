//! How much memory this process holds, where the system says so.

/// Memory held now, and a mark of the most held since.
pub(super) struct Peak {
    resident: u64,
}

impl Peak {
    /// Starts to watch. `None` where the system keeps no such account or does not let it be started afresh.
    pub(super) fn watch() -> Option<Self> {
        // 5 sets the high-water mark back to what is resident now: proc(5), since Linux 4.0.
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Self { resident: field("VmRSS:")? })
    }

    /// The most bytes held since, beyond what was held then.
    pub(super) fn bytes(&self) -> Option<u64> {
        Some(field("VmHWM:")?.saturating_sub(self.resident))
    }
}

/// A field of this process's status, in bytes.
fn field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_a_moment_is_seen() {
        let Some(peak) = Peak::watch() else { return };
        let size = 64 << 20;
        drop(std::hint::black_box(vec![1u8; size]));
        let seen = peak.bytes().unwrap();
        assert!(seen >= size as u64 * 9 / 10, "{seen}");
    }
}
