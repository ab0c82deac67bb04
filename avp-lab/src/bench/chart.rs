//! Horizontal bar charts as SVG: one row per mode, with one bar or stacked segments, and an optional interval.
//!
//! Colours come from the style sheet of the page by class, so that one drawing serves light and dark.

use std::fmt::Write;

use super::html::escaped;

/// A chart with its rows.
pub(super) struct Chart {
    /// The measure, with its unit.
    pub(super) title: String,
    pub(super) rows: Vec<Bar>,
    /// The names of the segments, in order; a legend is drawn for two or more.
    pub(super) legend: Vec<String>,
    /// The value at the right end; `None` for the largest row.
    pub(super) full: Option<f64>,
}

/// One row.
pub(super) struct Bar {
    pub(super) label: String,
    /// Segments from left to right, each zero or more.
    pub(super) values: Vec<f64>,
    /// Lower and upper end of an interval around the bar's end.
    pub(super) interval: Option<(f64, f64)>,
    /// The value as text, after the bar.
    pub(super) text: String,
}

/// Number of colours in the style sheet; further segments start again with the first.
pub(super) const COLOURS: usize = 6;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 130.0;
const VALUES: f64 = 200.0;
const ROW: f64 = 30.0;
const THICKNESS: f64 = 18.0;
const LEGEND: f64 = 28.0;

impl Chart {
    /// The drawing; `id` must be unique on the page.
    ///
    /// Title and description have the content as text for screen readers.
    pub(super) fn svg(&self, id: &str) -> String {
        let ends = self.rows.iter().map(|row| row.interval.map_or(0.0, |(_, high)| high).max(row.sum()));
        let full = self.full.unwrap_or_else(|| ends.fold(0.0, f64::max));
        // All rows empty: bars of no length, and no division by zero.
        let scale = if full > 0.0 { (WIDTH - LABELS - VALUES) / full } else { 0.0 };
        let top = if self.legend.len() > 1 { LEGEND } else { 0.0 };
        let height = top + ROW * self.rows.len() as f64;
        let words: Vec<String> = self.rows.iter().map(|row| format!("{}: {}", row.label, row.text)).collect();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
            escaped(&self.title),
            escaped(&words.join("; ")),
        );
        if self.legend.len() > 1 {
            self.write_legend(&mut svg);
        }
        let _infallible = write!(
            svg,
            "<line class=\"axis\" x1=\"{LABELS}\" x2=\"{LABELS}\" y1=\"{top}\" y2=\"{height}\"/>"
        );
        for (index, row) in self.rows.iter().enumerate() {
            row.write(&mut svg, top + ROW * index as f64, scale, self.legend.len() > 1);
        }
        svg + "</svg>"
    }

    fn write_legend(&self, svg: &mut String) {
        let step = (WIDTH - LABELS) / self.legend.len() as f64;
        for (index, name) in self.legend.iter().enumerate() {
            let x = LABELS + step * index as f64;
            let _infallible = write!(
                svg,
                "<rect class=\"c{}\" x=\"{x:.1}\" y=\"4\" width=\"12\" height=\"12\" rx=\"2\"/>\
                 <text x=\"{:.1}\" y=\"14\">{}</text>",
                index % COLOURS,
                x + 17.0,
                escaped(name),
            );
        }
    }
}

impl Bar {
    fn sum(&self) -> f64 {
        self.values.iter().sum()
    }

    fn write(&self, svg: &mut String, y: f64, scale: f64, stacked: bool) {
        let middle = y + ROW / 2.0;
        let top = middle - THICKNESS / 2.0;
        let _infallible = write!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LABELS - 8.0,
            middle + 4.5,
            escaped(&self.label),
        );
        let mut x = LABELS;
        for (index, value) in self.values.iter().enumerate() {
            let width = value * scale;
            // A gap of one tells neighbours apart without colour.
            let drawn = if stacked { (width - 1.0).max(0.0) } else { width };
            let _infallible = write!(
                svg,
                "<rect class=\"c{}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{drawn:.1}\" height=\"{THICKNESS}\" rx=\"2\"/>",
                index % COLOURS,
            );
            x += width;
        }
        let mut end = x;
        if let Some((low, high)) = self.interval {
            let (from, to) = (LABELS + low * scale, LABELS + high * scale);
            let (above, below) = (middle - 5.0, middle + 5.0);
            let path = format!(
                "M{from:.1} {middle:.1}H{to:.1}M{from:.1} {above:.1}V{below:.1}M{to:.1} {above:.1}V{below:.1}"
            );
            // The wider line in the ground's colour sets the other off from the bar.
            let _infallible =
                write!(svg, "<path class=\"halo\" d=\"{path}\"/><path class=\"whisker\" d=\"{path}\"/>");
            end = end.max(to);
        }
        let _infallible = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            end + 8.0,
            middle + 4.5,
            escaped(&self.text),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64], legend: &[&str]) -> String {
        let rows = vec![
            Bar { label: "a<b".into(), values: values.to_vec(), interval: None, text: "x".into() },
            Bar { label: "c".into(), values: vec![0.0], interval: Some((0.1, 0.4)), text: "y".into() },
        ];
        let legend = legend.iter().map(|&name| name.to_owned()).collect();
        Chart { title: "T & U".into(), rows, legend, full: None }.svg("one")
    }

    #[test]
    fn text_is_escaped_and_said_in_words() {
        let svg = chart(&[1.0], &[]);
        assert!(svg.contains("T &amp; U</title>") && svg.contains("a&lt;b: x; c: y</desc>"), "{svg}");
        assert!(svg.contains("aria-labelledby=\"one-title one-desc\""));
    }

    #[test]
    fn the_longest_row_fills_the_width_and_nothing_has_none() {
        assert!(chart(&[1.0], &[]).contains("width=\"390.0\""));
        assert!(chart(&[1.0, 3.0], &["p", "q"]).contains("width=\"96.5\""));
        let empty = Chart { rows: Vec::new(), title: String::new(), legend: Vec::new(), full: None };
        assert!(empty.svg("e").contains("viewBox=\"0 0 720 0\""));
        assert!(!chart(&[0.0], &[]).contains("NaN"));
    }
}
