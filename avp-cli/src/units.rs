//! Sizes and durations as people write them on a command line.

use std::time::Duration;

/// A number of bytes, such as `64MiB`, `1.5GB` or `4096`.
#[cfg(feature = "http")]
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let expected =
        || format!("expected a number of bytes, or a number with KiB, MiB, GiB, KB, MB, GB; got {text:?}");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match &*unit.trim().to_ascii_lowercase() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(expected()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(expected);
    }
    let bytes = number.parse::<f64>().map_err(|_| expected())? * factor as f64;
    // Up to 2^53, an f64 represents every whole number of bytes.
    if bytes < (1_u64 << 53) as f64 { Ok(bytes as u64) } else { Err(expected()) }
}

/// A time, such as `90s`, `10m`, `1h 30m` or, in seconds, `2.5`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(seconds) => Ok(seconds),
        None => humantime::parse_duration(text)
            .map_err(|_| format!("expected seconds, or such as 90s, 10m, 1h 30m; got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "http")]
    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4k", 4096),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2GB", 2_000_000_000),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in
            ["", "B", "1XB", "-1", "1.2.3", "16777216TiB", "99999999999999999999", "9e9", "9999999.5GB"]
        {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90.0), ("2.5", 2.5), ("90s", 90.0), ("1h 30m", 5400.0), ("500ms", 0.5)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for wrong in ["", "-1", "inf", "soon", "1 fortnight"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
