//! Reads rotary settings from the tables of an export, for folders without them in the config.
//!
//! The onnxruntime-genai builder writes no `config.json`, and its `genai_config.json` has no rotary settings. But the attention
//! of its exports reads sines and cosines of the angle of each position from two tables, `[max_positions, rotary_dim / 2]`.
//! The angles at position 1 are the frequencies: `base ^ (-2j / rotary_dim)`, unless they are scaled.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::fingerprint::hex;
use crate::onnx::{Element, GraphIndex, NodeProto, Weights};

/// The rotary settings in the tables of an export; empty if it has no tables, or computes them at run time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rotary {
    /// The base of the frequencies.
    pub theta: String,
    /// Their scaling as one line of JSON; if they have no common base, their SHA-256.
    pub scaling: String,
}

/// Finds the tables that the attention of a graph reads.
pub(super) fn find(index: &GraphIndex<'_>, weights: &Weights<'_>) -> Rotary {
    let mut names: Vec<[&str; 2]> = Vec::new();
    let mut found: Vec<Frequencies> = Vec::new();
    // Layers share their tables, which are as long as the window.
    for tables in index.graph().node.iter().filter_map(tables) {
        if names.contains(&tables) {
            continue;
        }
        names.push(tables);
        found.extend(Frequencies::read(index, weights, tables).filter(|read| !found.contains(read)));
    }
    if found.is_empty() {
        return Rotary::default();
    }
    if let [frequencies] = &found[..]
        && let Some(rotary) = Rotary::of(frequencies)
    {
        return rotary;
    }
    let mut hash = Sha256::new();
    for frequency in found.iter().flat_map(|one| &one.values) {
        hash.update(frequency.to_le_bytes());
    }
    Rotary { theta: String::new(), scaling: json!({"frequencies": hex(&hash.finalize())}).to_string() }
}

impl Rotary {
    /// Plain frequencies, of which the first is 1, or frequencies divided by one factor.
    fn of(frequencies: &Frequencies) -> Option<Self> {
        let first = *frequencies.values.first().filter(|first| (1e-6..=1e6).contains(*first))?;
        let relative = frequencies.values.iter().map(|frequency| frequency / first).collect();
        let theta = Frequencies { values: relative, ..*frequencies }.base()?.to_string();
        let factor = rounded(1.0 / first, 3);
        if (first * factor - 1.0).abs() > 1e-3 {
            return None;
        }
        // As in a config.
        let linear = || json!({"factor": factor, "rope_type": "linear"}).to_string();
        Some(Self { theta, scaling: if factor == 1.0 { String::new() } else { linear() } })
    }
}

/// The names of the tables of cosines and sines.
fn tables(node: &NodeProto) -> Option<[&str; 2]> {
    let first = match node.op_type() {
        "GroupQueryAttention" => 7,
        "RotaryEmbedding" => 2,
        _ => return None,
    };
    match node.input.get(first..first + 2) {
        Some([cosines, sines]) => Some([cosines, sines]),
        _ => None,
    }
}

/// The angles at position 1.
#[derive(PartialEq)]
struct Frequencies {
    values: Vec<f64>,
    /// Whether the tables are float32.
    exact: bool,
}

impl Frequencies {
    /// `None` if a table cannot be read as a weight; ONNX Runtime then reports the error.
    fn read(index: &GraphIndex<'_>, weights: &Weights<'_>, tables: [&str; 2]) -> Option<Self> {
        let [cosines, sines] = tables.map(|name| weights.matrix(index.initializer(name)?).ok());
        let (cosines, sines) = (cosines?, sines?);
        if cosines.rows < 2 || (cosines.rows, cosines.cols) != (sines.rows, sines.cols) {
            return None;
        }
        let pairs = sines.row(1).zip(cosines.row(1));
        let values = pairs.map(|(sine, cosine)| f64::from(sine).atan2(f64::from(cosine))).collect();
        Some(Self { values, exact: sines.element() == Element::F32 })
    }

    /// The common base, with as few digits as possible.
    fn base(&self) -> Option<f64> {
        // Below this limit, half precision loses more than the tolerance.
        let smallest = if self.exact { f64::MIN_POSITIVE } else { 1e-4 };
        let clear: Vec<(f64, f64)> = (0..)
            .map(|index| f64::from(index) / self.values.len() as f64)
            .zip(self.values.iter().copied())
            .take_while(|&(_, frequency)| frequency >= smallest)
            .collect();
        let &(exponent, frequency) = clear.last().filter(|&&(exponent, _)| exponent > 0.0)?;
        let estimate = (frequency.ln() / -exponent).exp();
        if !(1.0..1e15).contains(&estimate) {
            return None;
        }
        let (digits, tolerance) = if self.exact { (1..=6, 1e-5) } else { (1..=3, 1e-3) };
        let follows = |base: f64| {
            let off = |(exponent, frequency): (f64, f64)| (frequency / base.powf(-exponent) - 1.0).abs();
            clear.iter().all(|&pair| off(pair) <= tolerance)
        };
        digits.map(|digits| rounded(estimate, digits)).find(|&base| follows(base))
    }
}

/// A positive number rounded to `digits` digits.
fn rounded(value: f64, digits: i32) -> f64 {
    let places = digits - 1 - value.log10().floor() as i32;
    // Integer powers of ten are exact.
    let unit = 10_f64.powi(places.abs());
    if places < 0 { (value / unit).round() * unit } else { (value * unit).round() / unit }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use bytes::Bytes;
    use half::f16;
    use prost::Message;

    use super::*;
    use crate::{
        ContextError, LoadOptions, Model, Prompt, Runtime, ThinkOptions,
        onnx::{GraphProto, ModelProto, TensorProto, float_tensor, node},
    };

    const POSITIONS: usize = 256;

    fn table(name: &str, frequencies: &[f64], of: fn(f64) -> f64) -> TensorProto {
        let angles =
            (0..POSITIONS).flat_map(|position| frequencies.iter().map(move |one| position as f64 * one));
        let values: Vec<f32> = angles.map(|angle| of(angle) as f32).collect();
        float_tensor(name, &[POSITIONS as i64, frequencies.len() as i64], &values)
    }

    fn geometric(base: f64, count: usize) -> Vec<f64> {
        (0..count).map(|index| base.powf(-(index as f64) / count as f64)).collect()
    }

    /// The settings found if each of `layers` has tables of these frequencies.
    fn found(layers: &[Vec<f64>]) -> Rotary {
        let mut graph = GraphProto::default();
        for (layer, frequencies) in layers.iter().enumerate() {
            let [cosines, sines] = ["cos", "sin"].map(|part| format!("{part}.{layer}"));
            graph.node.push(node("RotaryEmbedding", "", ["x", "ids", &cosines, &sines], ["y"]));
            graph
                .initializer
                .extend([table(&cosines, frequencies, f64::cos), table(&sines, frequencies, f64::sin)]);
        }
        find(&GraphIndex::new(&graph), &Weights::new(Path::new(".")))
    }

    #[test]
    fn the_base_is_found_in_tables_of_any_width() {
        for base in [10_000.0, 500_000.0, 1_000_000.0, 8e6, 10_042.0, 150.0] {
            for count in [4, 8, 64] {
                let theta = found(&[geometric(base, count)]).theta;
                assert_eq!(theta, base.to_string(), "{count}");
                let rounded = |angle: &f64| {
                    f16::from_f64(angle.sin()).to_f64().atan2(f16::from_f64(angle.cos()).to_f64())
                };
                let values = geometric(base, count).iter().map(rounded).collect();
                let halved = Frequencies { values, exact: false };
                // Half precision has too few digits for one base; its frequencies are then identified by their hash.
                let expected = (base != 10_042.0).then_some(base);
                assert_eq!(halved.base(), expected, "{count} in half precision");
            }
        }
    }

    #[test]
    fn tables_without_frequencies_have_no_base() {
        for values in
            [vec![], vec![0.0, 1.0], vec![f64::NAN, 1.0], vec![1e-9, 1.0], vec![1.0, 2.0], vec![1.0]]
        {
            let rotary = Rotary::of(&Frequencies { values, exact: true });
            assert_eq!(rotary, None);
        }
    }

    #[test]
    fn scaled_frequencies_and_several_tables_give_distinct_scalings() {
        let plain = geometric(10_000.0, 8);
        let slower = |by: f64| plain.iter().map(|frequency| frequency / by).collect::<Vec<_>>();
        let linear =
            Rotary { theta: "10000".into(), scaling: r#"{"factor":8.0,"rope_type":"linear"}"#.into() };
        assert_eq!(found(&[slower(8.0)]), linear);
        let mut bent = plain.clone();
        bent[6] /= 4.0;
        bent[4] /= 2.0;
        let scaled = [vec![bent.clone()], vec![bent, plain.clone()], vec![plain.clone(), geometric(1e6, 8)]];
        let found_in = scaled.map(|layers| found(&layers));
        for (place, rotary) in found_in.iter().enumerate() {
            assert!(rotary.theta.is_empty() && rotary.scaling.starts_with("{\"frequencies\":"), "{rotary:?}");
            assert!(!found_in[..place].contains(rotary));
        }
        // A long window's scaling leaves all but the smallest frequencies as they are.
        let long = geometric(5e6, 64);
        let stretched: Vec<f64> = long.iter().map(|one| if *one < 1e-3 { one / 4.0 } else { *one }).collect();
        assert_eq!(found(&[long]).theta, "5000000");
        assert!(found(&[stretched]).scaling.starts_with("{\"frequencies\":"));
        // The same table in every layer is one.
        assert_eq!(found(&[plain.clone(), plain]).theta, "10000");
        assert_eq!(found(&[]), Rotary::default());
    }

    #[test]
    fn tables_chosen_at_run_time_give_no_settings() {
        let tables = node("If", "", ["is_long"], ["cos", "sin"]);
        let attention = node("RotaryEmbedding", "", ["x", "ids", "cos", "sin"], ["y"]);
        let graph = GraphProto { node: vec![tables, attention], ..GraphProto::default() };
        assert_eq!(find(&GraphIndex::new(&graph), &Weights::new(Path::new("."))), Rotary::default());
    }

    #[test]
    fn a_context_with_other_rotary_settings_is_refused_without_a_config() {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/models");
        let source = vectors.join("genai-qwen2-fp32");
        let runtime = Runtime::find().unwrap();
        let load = |folder: &Path| Model::load(&runtime, folder, &LoadOptions::default()).unwrap();
        let think = |model: &Model| {
            model
                .think(Prompt::Raw("Rosa".into()), None, &ThinkOptions::steps(1))
                .unwrap()
                .into_context()
                .unwrap()
        };
        for name in ["genai-qwen2-fp32", "genai-llama-fp16", "genai-llama-fp16-cuda", "genai-gemma-int4"] {
            let context = think(&load(&vectors.join(name)));
            let fingerprint = context.fingerprint().unwrap();
            assert_eq!((&*fingerprint.rope_theta, &*fingerprint.rope_scaling), ("10000", ""), "{name}");
        }

        let context = think(&load(&source));
        let with = |frequencies: Vec<f64>| {
            let folder = tempfile::tempdir().unwrap();
            for file in fs::read_dir(&source).unwrap().map(Result::unwrap) {
                fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
            let bytes = Bytes::from(fs::read(source.join("model.onnx")).unwrap());
            let mut export = ModelProto::decode(bytes).unwrap();
            for tensor in export.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
                match tensor.name() {
                    "cos_cache" => *tensor = table("cos_cache", &frequencies, f64::cos),
                    "sin_cache" => *tensor = table("sin_cache", &frequencies, f64::sin),
                    _ => {}
                }
            }
            fs::write(folder.path().join("model.onnx"), export.encode_to_vec()).unwrap();
            match load(folder.path()).accepts(&context) {
                Err(ContextError::OtherModel { field, expected, got }) => (field, expected, got),
                other => panic!("{other:?}"),
            }
        };
        let (field, expected, got) = with(geometric(500_000.0, 8));
        assert_eq!((field, &*expected, &*got), ("rope_theta", "500000", "10000"));
        let linear = geometric(10_000.0, 8).iter().map(|frequency| frequency / 8.0).collect();
        assert_eq!(with(linear).0, "rope_scaling");
    }
}
