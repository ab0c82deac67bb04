//! Tables for a terminal, in Markdown, so that they can be pasted as they are.

use std::fmt;

use console::style;

/// Writes a table whose first column is left-aligned and whose others are right-aligned.
pub(crate) fn write_table<const N: usize>(
    formatter: &mut fmt::Formatter<'_>,
    header: &[&str; N],
    rows: &[[String; N]],
) -> fmt::Result {
    let header = header.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let line = |cells: &[String; N]| {
        let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(column, &width)| match column {
        0 => format!(":{}", "-".repeat(width + 1)),
        _ => format!("{}:", "-".repeat(width + 1)),
    });
    writeln!(formatter, "{}", style(line(&header)).bold())?;
    writeln!(formatter, "|{}|", rule.collect::<Vec<_>>().join("|"))?;
    rows.iter().try_for_each(|row| writeln!(formatter, "{}", line(row)))
}

/// Bytes in the unit that reads best.
pub(crate) fn bytes(count: f64) -> String {
    match count {
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.1} kB", b / 1e3),
        b => format!("{b:.0} B"),
    }
}
