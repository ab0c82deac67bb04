//! Durations and diagnostics of calls: `ThinkMetrics`, `GenerateMetrics` and `TransferDiagnostics` have the fields of `avp`
//! 0.6, so that logs of both can be compared.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Generation, RunError};

/// Diagnostics of a transfer. Fields that do not apply to the call, or were not measured, have their default.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TransferDiagnostics {
    /// The answer is empty or whitespace.
    pub output_empty: bool,
    /// A hidden state held NaN, behind the prompt or behind a latent step.
    pub has_nan: bool,
    /// A hidden state held an infinity.
    pub has_inf: bool,
    /// Number of characters of the answer without surrounding whitespace.
    pub output_length: usize,
    /// `latent` if a context was made or used, `rosetta` if the state of another model was projected, else empty.
    pub transfer_mode: String,
    /// The source model, if it is another.
    pub source_model: Option<String>,
    /// The model of the call.
    pub target_model: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Whether a projection passed the quality gate.
    pub quality_gate_passed: Option<bool>,
    /// The reason for the quality gate's result.
    pub quality_gate_reason: String,
    /// The method of the projection.
    pub projection_method: String,
    /// Norm of the projected hidden state.
    pub hidden_state_norm: Option<f64>,
    /// Cosine similarity of the projection to the nearest embedding.
    pub nearest_cos_sim: Option<f64>,
    /// Norms of the hidden state behind the prompt and behind each latent step.
    pub norm_trajectory: Option<Vec<f32>>,
    /// The answer without the context.
    pub text_baseline_output: Option<String>,
    /// Shared words of both answers as a share of the larger set of words: from 0 to 1.
    pub text_overlap: Option<f64>,
    /// Problems that did not fail the call.
    pub warnings: Vec<String>,
    /// Further fields.
    pub extra: Map<String, Value>,
}

/// A think call, as `avp` 0.6 reports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ThinkMetrics {
    /// The model's id.
    pub model: Option<String>,
    /// Latent steps asked for.
    pub steps: usize,
    /// Whether a context was given.
    pub has_prior_context: bool,
    /// Seconds of the whole call.
    pub duration_s: f64,
    /// Seconds of thinking.
    pub think_duration_s: f64,
    /// Filled in on request.
    pub diagnostics: Option<TransferDiagnostics>,
}

/// A generate call, as `avp` 0.6 reports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GenerateMetrics {
    /// The model's id.
    pub model: Option<String>,
    /// Latent steps asked for.
    pub steps: usize,
    /// Whether a context was given.
    pub has_prior_context: bool,
    /// Whether the caller put the context into a store; always false here.
    pub stored: bool,
    /// Seconds of the whole call.
    pub duration_s: f64,
    /// Seconds of thinking.
    pub think_duration_s: f64,
    /// Seconds of generating.
    pub generate_duration_s: f64,
    /// Filled in on request.
    pub diagnostics: Option<TransferDiagnostics>,
}

impl TransferDiagnostics {
    /// Whether the answer is not empty and no hidden state has NaN or infinity.
    pub fn healthy(&self) -> bool {
        !self.output_empty && !self.has_nan && !self.has_inf
    }

    /// A summary in one line, formatted as in the Python package.
    ///
    /// ```
    /// use avp_runtime_ort::TransferDiagnostics;
    ///
    /// let found = TransferDiagnostics { output_empty: true, transfer_mode: "latent".into(), ..Default::default() };
    /// assert_eq!(found.summary(), "UNHEALTHY[EMPTY_OUTPUT] | mode=latent");
    /// ```
    pub fn summary(&self) -> String {
        let flags: Vec<&str> =
            [(self.output_empty, "EMPTY_OUTPUT"), (self.has_nan, "NaN"), (self.has_inf, "Inf")]
                .into_iter()
                .filter_map(|(raised, flag)| raised.then_some(flag))
                .collect();
        let health = if flags.is_empty() { "OK".into() } else { format!("UNHEALTHY[{}]", flags.join(",")) };
        let named = |name: &str, value: &str| (!value.is_empty()).then(|| format!("{name}={value}"));
        let norms = self.norm_trajectory.as_deref().and_then(|norms| Some((norms.first()?, norms.last()?)));
        let warnings = self.warnings.len();
        let parts = [
            Some(health),
            named("mode", &self.transfer_mode),
            named("projection", &self.projection_method),
            self.nearest_cos_sim.map(|cosine| format!("cos_sim={cosine:.3}")),
            norms.map(|(first, last)| format!("norms=[{first:.1}..{last:.1}]")),
            self.text_overlap.map(|overlap| format!("overlap={:.0}%", overlap * 100.0)),
            (warnings > 0).then(|| format!("warnings={warnings}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" | ")
    }

    pub(crate) fn add_answer(&mut self, generation: &Generation, behind_a_context: bool) {
        let text = generation.text.trim();
        self.output_length = text.chars().count();
        self.output_empty = text.is_empty();
        if self.prompt_tokens == 0 {
            self.prompt_tokens = generation.prompt_tokens;
        }
        if behind_a_context {
            self.transfer_mode = "latent".to_owned();
        }
    }

    pub(crate) fn compare(&mut self, text: &str, baseline: Result<Generation, RunError>) {
        match baseline {
            Ok(baseline) => {
                self.text_overlap = Some(word_overlap(text, &baseline.text));
                self.text_baseline_output = Some(baseline.text.trim().to_owned());
            }
            Err(error) => self.warnings.push(format!("compare baseline failed: {error}")),
        }
    }
}

/// Number of distinct shared words, divided by the larger number of distinct words; 1 if both texts have no words.
fn word_overlap(one: &str, other: &str) -> f64 {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let [one, other] = [&one, &other].map(|text| text.split_whitespace().collect::<BTreeSet<&str>>());
    match one.len().max(other.len()) {
        0 => 1.0,
        words => one.intersection(&other).count() as f64 / words as f64,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use bytes::Bytes;
    use prost::Message;
    use serde::Deserialize;

    use super::*;
    use crate::{GenerateOptions, LoadOptions, Model, Runtime, ThinkOptions, onnx::ModelProto};

    #[derive(Deserialize)]
    struct Records {
        summaries: Vec<Summary>,
        overlaps: Vec<(String, String, f64)>,
        /// The peer's fields, by class.
        fields: std::collections::BTreeMap<String, Vec<String>>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Summary {
        output_empty: bool,
        has_nan: bool,
        has_inf: bool,
        transfer_mode: String,
        projection_method: String,
        nearest_cos_sim: Option<f64>,
        norm_trajectory: Option<Vec<f32>>,
        text_overlap: Option<f64>,
        warnings: Vec<String>,
        summary: String,
        healthy: bool,
    }

    fn records() -> Records {
        serde_json::from_str(include_str!("../../test-vectors/metrics/avp-0.6.2.json")).unwrap()
    }

    #[test]
    fn summaries_equal_the_peers() {
        let records = records();
        assert!(records.summaries.len() >= 5);
        for record in records.summaries {
            let found = TransferDiagnostics {
                output_empty: record.output_empty,
                has_nan: record.has_nan,
                has_inf: record.has_inf,
                transfer_mode: record.transfer_mode,
                projection_method: record.projection_method,
                nearest_cos_sim: record.nearest_cos_sim,
                norm_trajectory: record.norm_trajectory,
                text_overlap: record.text_overlap,
                warnings: record.warnings,
                ..TransferDiagnostics::default()
            };
            assert_eq!(found.summary(), record.summary);
            assert_eq!(found.healthy(), record.healthy);
        }
    }

    #[test]
    fn word_overlap_equals_the_peers() {
        for (one, other, expected) in records().overlaps {
            assert!((word_overlap(&one, &other) - expected).abs() < 1e-12, "{one:?} {other:?}");
        }
    }

    #[test]
    fn field_names_and_their_order_equal_the_peers() {
        let names = |value: Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let fields = records().fields;
        let own = [
            ("TransferDiagnostics", serde_json::to_value(TransferDiagnostics::default()).unwrap()),
            ("ThinkMetrics", serde_json::to_value(ThinkMetrics::default()).unwrap()),
            ("GenerateMetrics", serde_json::to_value(GenerateMetrics::default()).unwrap()),
        ];
        for (class, value) in own {
            assert_eq!(names(value), fields[class], "{class}");
        }
    }

    /// A model whose final norm multiplies the first number of every hidden state by `weight`.
    fn model_with(weight: f32) -> Model {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/parity/tiny-qwen2");
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(&source).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
        }
        let bytes = Bytes::from(fs::read(source.join("model.onnx")).unwrap());
        let mut export = ModelProto::decode(bytes).unwrap();
        let mut weights = export.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        let norm = weights.find(|tensor| tensor.name() == "model.norm.weight").unwrap();
        let values = norm.raw_data.as_ref().unwrap();
        norm.raw_data = Some([&weight.to_le_bytes(), &values[4..]].concat().into());
        fs::write(folder.path().join("model.onnx"), export.encode_to_vec()).unwrap();
        Model::load(&Runtime::find().unwrap(), folder.path(), &LoadOptions::default()).unwrap()
    }

    #[test]
    fn nan_and_infinities_are_reported_by_diagnostics_and_an_error_without() {
        let think = |model: &Model, steps| {
            let options = ThinkOptions { diagnostics: true, ..ThinkOptions::steps(steps) };
            let thought = model.think("Who?", None, &options).unwrap();
            let found = thought.metrics.diagnostics.unwrap();
            let norms = found.norm_trajectory.as_ref().map_or(0, Vec::len);
            assert_eq!((norms, found.healthy()), (thought.num_steps + 1, !found.has_nan && !found.has_inf));
            (found.has_nan, found.has_inf, thought.num_steps)
        };
        assert_eq!(think(&model_with(1.0), 3), (false, false, 3));
        let infinite = model_with(f32::INFINITY);
        assert_eq!(think(&infinite, 0), (false, true, 0));
        // Its logits are infinite, and their softmax is NaN.
        assert_eq!(think(&infinite, 3), (true, true, 1));
        let nan = model_with(f32::NAN);
        assert_eq!(think(&nan, 3), (true, false, 0));

        for model in [&infinite, &nan] {
            let error = model.think("Who?", None, &ThinkOptions::steps(0)).unwrap_err();
            assert_eq!(error, RunError::NotFinite { step: 0 });
        }
        for (model, diagnostics) in [(&nan, true), (&infinite, true), (&infinite, false)] {
            let options = GenerateOptions { steps: 1, diagnostics, ..GenerateOptions::default() };
            let answer = model.generate("Who?", None, &options);
            assert!(matches!(answer, Err(RunError::NotFinite { .. })), "{answer:?}");
        }
    }

    #[test]
    fn an_answer_of_whitespace_is_empty_and_a_failed_comparison_a_warning() {
        let mut found = TransferDiagnostics::default();
        found.compare("a", Err(RunError::EmptyPrompt));
        assert_eq!(found.warnings.len(), 1);
        assert!(found.healthy() && found.text_overlap.is_none());
    }
}
