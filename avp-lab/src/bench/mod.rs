//! Benchmarks of hand-overs on any model: how well agents answer, and what each part costs.

mod answer;
mod calibrate;
mod chart;
mod dataset;
mod handoff;
mod html;
mod journal;
mod material;
mod memory;
mod plan;
mod progress;
mod report;
mod score;
mod speed;

use std::path::Path;

use avp_runtime_ort::{Model, Runtime};

pub use calibrate::{Calibrate, CalibrateReport};
pub use dataset::Paragraphs;
pub use handoff::{Handoff, Questions};
pub use plan::Pipeline;
pub use report::Report as HandoffReport;
pub use speed::{Report as SpeedReport, Speed};

/// A loaded model, and how it was loaded.
pub struct Loaded<'m> {
    /// The runtime that holds the model.
    pub runtime: &'m Runtime,
    /// The model to measure.
    pub model: &'m Model,
    /// Its folder, for the report.
    pub folder: &'m Path,
    /// Threads of one run, for the report; 0 leaves the number to ONNX Runtime.
    pub threads: usize,
}

/// `values` without repetitions, in the order of their first occurrence.
fn distinct<T: PartialEq + Copy>(values: &[T]) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(value) {
            kept.push(*value);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_twice_is_measured_once() {
        assert_eq!(distinct(&[10, 0, 10, 20, 0]), [10, 0, 20]);
    }
}
