//! Peak memory of this process, on systems that report it.

/// A measurement of the peak since its start.
pub(super) struct Peak {
    resident: u64,
}

impl Peak {
    /// Starts a measurement; `None` if the system does not support it.
    pub(super) fn watch() -> Option<Self> {
        // 5 resets the high-water mark to the current resident size: proc(5), since Linux 4.0.
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Self { resident: field("VmRSS:")? })
    }

    /// The peak in bytes, above the resident size at the start.
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
    fn a_short_allocation_is_measured() {
        let Some(peak) = Peak::watch() else { return };
        let size = 64 << 20;
        drop(std::hint::black_box(vec![1u8; size]));
        let seen = peak.bytes().unwrap();
        assert!(seen >= size as u64 * 9 / 10, "{seen}");
    }
}
