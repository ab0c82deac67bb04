//! Markdown tables and the units in them.

use std::fmt;

/// A table with a heading; the first column stands left, the others right.
pub(crate) struct Table {
    heading: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: impl Into<String>, header: &[&str]) -> Self {
        Self { heading: heading.into(), rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn rows(&mut self, rows: impl IntoIterator<Item = Vec<String>>) {
        self.rows.extend(rows);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "### {}\n", self.heading)?;
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        for (index, row) in self.rows.iter().enumerate() {
            writeln!(formatter, "| {} |", row.join(" | "))?;
            if index == 0 {
                writeln!(formatter, "|---|{}", "---:|".repeat(columns.saturating_sub(1)))?;
            }
        }
        Ok(())
    }
}

/// Seconds in the unit that reads best.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Bytes a second in GB.
pub(crate) fn rate(bytes: usize, seconds: f64) -> String {
    format!("{:.1} GB/s", bytes as f64 / seconds / 1e9)
}

/// A ratio of speeds.
pub(crate) fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}x") } else { format!("{ratio:.0}x") }
}

pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

/// Bytes in binary units.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_well() {
        assert_eq!(
            (time(1.5e-7), time(3.2e-6), time(0.034), time(5.4)),
            ("150 ns".into(), "3.20 us".into(), "34.00 ms".into(), "5.40 s".into())
        );
        assert_eq!((size(16 << 10), size(128 << 20)), ("16 KiB".into(), "128 MiB".into()));
        assert_eq!((times(9.94), times(123.4)), ("9.9x".into(), "123x".into()));
    }
}
