//! The protocol versions.

use core::fmt;

/// A published version of AACP, the value of the `aacp` field.
///
/// ```
/// use aacp::Version;
/// assert_eq!(Version::from_text("1.1"), Some(Version::V1_1));
/// assert!(Version::V1_0 < Version::V1_4);
/// ```
///
/// The versions of the Python package are different: package 1.1.0 writes `aacp:1.1`, and 1.4.0 writes `aacp:1.2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Version {
    /// 1.0: ten slots in fixed order, empty ones allowed.
    V1_0,
    /// 1.1: named fields only.
    V1_1,
    /// 1.2: as 1.1. The version of the newest Python packages, and the default.
    #[default]
    V1_2,
    /// 1.4: as 1.2. Some libraries write the package's version.
    V1_4,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: &'static [Version] = &[Version::V1_0, Version::V1_1, Version::V1_2, Version::V1_4];

    /// The version with this text, such as `1.2`.
    pub fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "1.0" => Version::V1_0,
            "1.1" => Version::V1_1,
            "1.2" => Version::V1_2,
            "1.4" => Version::V1_4,
            _ => return None,
        })
    }

    /// The text on the wire, such as `1.2`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V1_0 => "1.0",
            Version::V1_1 => "1.1",
            Version::V1_2 => "1.2",
            Version::V1_4 => "1.4",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_found_by_its_text() {
        assert!(Version::ALL.iter().all(|version| Version::from_text(version.as_str()) == Some(*version)));
        assert_eq!(Version::from_text("1.3"), None);
        assert_eq!(Version::from_text("1.1 "), None);
    }
}
