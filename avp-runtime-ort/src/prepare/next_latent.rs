//! The next latent input, as nodes in a branch that only latent steps run.
//!
//! ```text
//! hidden = h @ W at norm n                   (W only if the embeddings are not tied)
//! soft   = softmax(logits / t) @ E           at norm n if latent_rescale
//! next   = a hidden + (1 - a) soft           at norm n if latent_rescale
//! ```
//!
//! `h` is the last hidden state, `n` the mean norm of the rows of the embedding `E`, `t` the input `latent_temperature` and
//! `a` the input `latent_hidden`. With `a = 1` the soft part is not computed. All in float32.

use super::{embedding::Embedding, head::Head, latent::LatentStep, soft_embedding};
use crate::{
    conventions::prepared::{LAST_HIDDEN, LATENT_HIDDEN, LATENT_RESCALE, LATENT_STEP, NEXT_LATENT},
    onnx::{
        GraphProto, NodeProto, constant, float_tensor, if_node, int64_tensor, node, tensor_proto::DataType,
        tensor_value,
    },
};

/// Adds the node that computes [`NEXT_LATENT`], with rows of a quantized embedding read `block` at a time.
pub(super) fn add(
    graph: &mut GraphProto,
    embedding: &Embedding,
    head: &Head,
    step: &LatentStep,
    block: usize,
) {
    let mut nodes = vec![
        scalar("avp.one", 1.0),
        // `avp` 0.2.1 never divides by less than 1e-6.
        scalar("avp.norm.min", 1e-6),
        scalar("avp.norm.target", step.embedding_norm()),
        constant("avp.norm.axis", "avp.norm.axis", int64_tensor("axis", &[-1])),
        cast(LAST_HIDDEN, "avp.last32", FLOAT),
    ];
    let aligned = match step {
        LatentStep::Tied { .. } => "avp.last32",
        LatentStep::Untied(realignment) => {
            let size = realignment.hidden_size as i64;
            graph.initializer.push(float_tensor("avp.realignment", &[size, size], &realignment.matrix));
            nodes.push(node("MatMul", "avp.realign", ["avp.last32", "avp.realignment"], ["avp.aligned"]));
            "avp.aligned"
        }
    };
    nodes.extend(scale_of(aligned, "avp.hidden.scale"));
    nodes.push(node("Mul", "avp.hidden", [aligned, "avp.hidden.scale"], ["avp.hidden"]));

    let soft = soft_embedding::nodes(graph, embedding, &head.product, block, "avp.soft.sum");
    let no_soft = vec![zeros(embedding, "avp.soft.none")];
    nodes.extend([
        node("Less", "avp.has_soft", [LATENT_HIDDEN, "avp.one"], ["avp.has_soft"]),
        if_node(
            "avp.soft",
            "avp.has_soft",
            "avp.soft",
            branch("avp.with_soft", soft, "avp.soft.sum", FLOAT, embedding),
            branch("avp.without_soft", no_soft, "avp.soft.none", FLOAT, embedding),
        ),
    ]);
    nodes.extend(rescaled("avp.soft", "avp.soft.rescaled"));
    nodes.extend([
        node("Mul", "avp.share.hidden", ["avp.hidden", LATENT_HIDDEN], ["avp.share.hidden"]),
        node("Sub", "avp.rest", ["avp.one", LATENT_HIDDEN], ["avp.rest"]),
        node("Mul", "avp.share.soft", ["avp.soft.rescaled", "avp.rest"], ["avp.share.soft"]),
        node("Add", "avp.mixed", ["avp.share.hidden", "avp.share.soft"], ["avp.mixed"]),
    ]);
    nodes.extend(rescaled("avp.mixed", "avp.mixed.rescaled"));
    nodes.push(cast("avp.mixed.rescaled", "avp.latent", embedding.elem_type));

    let no_step =
        vec![zeros(embedding, "avp.zeros"), cast("avp.zeros", "avp.no_latent", embedding.elem_type)];
    let elem_type = embedding.elem_type;
    let then_branch = branch("avp.step", nodes, "avp.latent", elem_type, embedding);
    let else_branch = branch("avp.no_step", no_step, "avp.no_latent", elem_type, embedding);
    graph.node.push(if_node("avp.next_latent", LATENT_STEP, NEXT_LATENT, then_branch, else_branch));
}

const FLOAT: i32 = DataType::Float as i32;

/// `input` at the target norm where [`LATENT_RESCALE`] is true, else as it is.
fn rescaled(input: &str, output: &str) -> Vec<NodeProto> {
    let [full, used] = ["full", "used"].map(|name| format!("{output}.{name}"));
    let mut nodes = scale_of(input, &full);
    nodes.push(node("Where", &used, [LATENT_RESCALE, full.as_str(), "avp.one"], [used.as_str()]));
    nodes.push(node("Mul", output, [input, used.as_str()], [output]));
    nodes
}

/// The target norm divided by the norm of `input`.
fn scale_of(input: &str, output: &str) -> Vec<NodeProto> {
    let [squares, sum, norm, clamped] =
        ["squares", "sum", "norm", "clamped"].map(|name| format!("{output}.{name}"));
    vec![
        node("Mul", &squares, [input, input], [squares.as_str()]),
        node("ReduceSum", &sum, [squares.as_str(), "avp.norm.axis"], [sum.as_str()]).with_int("keepdims", 1),
        node("Sqrt", &norm, [sum.as_str()], [norm.as_str()]),
        node("Max", &clamped, [norm.as_str(), "avp.norm.min"], [clamped.as_str()]),
        node("Div", output, ["avp.norm.target", clamped.as_str()], [output]),
    ]
}

fn scalar(name: &str, value: f32) -> NodeProto {
    constant(name, name, float_tensor(name, &[1], &[value]))
}

fn zeros(embedding: &Embedding, name: &str) -> NodeProto {
    let width = embedding.hidden_size;
    constant(name, name, float_tensor(name, &[1, 1, width as i64], &vec![0.0; width]))
}

fn cast(input: &str, output: &str, elem_type: i32) -> NodeProto {
    soft_embedding::cast(input, output, elem_type)
}

fn branch(
    name: &str,
    nodes: Vec<NodeProto>,
    output: &str,
    elem_type: i32,
    embedding: &Embedding,
) -> GraphProto {
    let width = Ok(embedding.hidden_size as i64);
    GraphProto {
        name: Some(name.to_owned()),
        node: nodes,
        output: vec![tensor_value(output, elem_type, &[Err("latent_rows"), Ok(1), width])],
        ..GraphProto::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use bytes::Bytes;
    use ort::session::Session;
    use prost::Message;

    use crate::{
        Runtime, StepForm,
        conventions::prepared::{LAST_HIDDEN, NEXT_LATENT},
        kv::KvCache,
        onnx::{GraphIndex, ModelProto, Weights},
        prepare::{check::run, embedding, prepare_with},
    };

    const PROMPT: [u32; 5] = [40, 271, 3, 12, 99];

    /// A model of the vectors.
    fn vector(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors").join(name)
    }

    /// What a graph returns behind the prompt.
    struct Found {
        latent: Vec<f32>,
        logits: Vec<f32>,
        hidden: Vec<f32>,
    }

    /// The next latent in `form`, with `block` rows of the embedding at a time.
    fn found(runtime: &Runtime, file: &Path, block: usize, form: &str) -> Found {
        let mut model = ModelProto::decode(Bytes::from(fs::read(file).unwrap())).unwrap();
        let report = prepare_with(&mut model, file.parent().unwrap(), Some(16), block).unwrap();
        let mut session = Session::builder(runtime.environment())
            .unwrap()
            .with_config_entry(
                "session.model_external_initializers_file_folder_path",
                file.parent().unwrap().to_str().unwrap(),
            )
            .unwrap()
            .commit_from_memory(&model.encode_to_vec())
            .unwrap();
        let past = KvCache::empty(report.cache).unwrap();
        let form = form.parse::<StepForm>().unwrap().inputs(true).unwrap();
        let mut row = |output| run(&mut session, &report, &past, &PROMPT, output, form).unwrap().0;
        Found { latent: row(NEXT_LATENT), logits: row("logits"), hidden: row(LAST_HIDDEN) }
    }

    /// The embedding's rows, as float32.
    fn rows(file: &Path) -> Vec<Vec<f32>> {
        let model = ModelProto::decode(Bytes::from(fs::read(file).unwrap())).unwrap();
        let index = GraphIndex::new(model.graph.as_ref().unwrap());
        let weights = Weights::new(file.parent().unwrap());
        let table = embedding::find(&index, &weights).unwrap().stored.load(&index, &weights).unwrap();
        let read = |token| {
            let mut row = vec![0.0; table.cols];
            table.read_row(token, &mut row);
            row
        };
        (0..table.rows).map(read).collect()
    }

    /// The `top_k` largest of `softmax(logits / temperature)`, renormalized; 0 for the rest.
    fn probabilities(logits: &[f32], temperature: f64, top_k: usize) -> Vec<f64> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&one, &other| logits[other].total_cmp(&logits[one]));
        let mut weights = vec![0.0; logits.len()];
        for &token in &order[..top_k] {
            weights[token] = (f64::from(logits[token] - logits[order[0]]) / temperature).exp();
        }
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / total).collect()
    }

    fn mean(weights: &[f64], rows: &[Vec<f32>]) -> Vec<f64> {
        let column = |at| rows.iter().zip(weights).map(|(row, weight)| weight * f64::from(row[at])).sum();
        (0..rows[0].len()).map(column).collect()
    }

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    fn scaled(values: &[f64], to: f64) -> Vec<f64> {
        values.iter().map(|value| value * to / norm(values)).collect()
    }

    fn assert_near(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
        assert_eq!(found.len(), expected.len());
        let difference: Vec<f64> =
            found.iter().zip(expected).map(|(one, other)| f64::from(*one) - other).collect();
        let error = norm(&difference) / norm(expected);
        assert!(error <= tolerance, "{what}: {error:.1e} off, {tolerance:.1e} allowed");
    }

    #[test]
    fn each_form_is_its_formula() {
        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        let file = vector("parity/tiny-qwen2/model.onnx");
        let rows = rows(&file);
        let norms = rows.iter().map(|row| norm(&row.iter().map(|&value| value.into()).collect::<Vec<_>>()));
        let target = norms.sum::<f64>() / rows.len() as f64;
        let at = |form| found(&runtime, &file, 4096, form);
        let Found { logits, hidden, .. } = at("peer");
        let hidden = scaled(&hidden.iter().map(|&value| value.into()).collect::<Vec<f64>>(), target);
        let soft = |temperature, top_k| mean(&probabilities(&logits, temperature, top_k), &rows);
        let all = rows.len();
        let sum = |one: &[f64], other: &[f64], share: f64| -> Vec<f64> {
            one.iter().zip(other).map(|(one, other)| share * one + (1.0 - share) * other).collect()
        };
        for (form, expected) in [
            ("peer", soft(1.0, all)),
            ("soft", soft(1.0, all)),
            ("soft:temperature=0.01", soft(0.01, all)),
            ("soft:temperature=0.5", soft(0.5, all)),
            ("soft:temperature=100", soft(100.0, all)),
            ("soft:rescale", scaled(&soft(1.0, all), target)),
            ("soft:top_k=8", soft(1.0, 8)),
            ("soft:top_k=8,temperature=2,rescale", scaled(&soft(2.0, 8), target)),
            ("token", soft(1.0, 1)),
            ("hidden", hidden.clone()),
            ("mixed:hidden=0.25", sum(&hidden, &soft(1.0, all), 0.25)),
            (
                "mixed:hidden=0.25,rescale",
                scaled(&sum(&hidden, &scaled(&soft(1.0, all), target), 0.25), target),
            ),
            ("mixed:hidden=0", soft(1.0, all)),
            ("mixed:hidden=1", hidden.clone()),
        ] {
            assert_near(&at(form).latent, &expected, 1e-5, form);
        }
        // At next to no temperature the likeliest token's embedding alone is left.
        assert_eq!(at("soft:temperature=0.000001").latent, at("token").latent);
    }

    #[test]
    fn every_row_of_the_embedding_counts_in_any_format() {
        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        // Plain, behind a transpose, in half precision, in blocks, and with one scale.
        for file in [
            "parity/tiny-qwen2/model.onnx",
            "models/genai-qwen2-fp32/model.onnx",
            "models/genai-qwen2-fp16/model.onnx",
            "models/genai-qwen2-int4/model.onnx",
            "models/community-qwen2/onnx/model_q4f16.onnx",
            "models/community-qwen2/onnx/model_uint8.onnx",
        ] {
            let path = vector(file);
            let rows = rows(&path);
            // Latents are rounded to the type of the embedding.
            let tolerance = if file.contains("16") { 2e-3 } else { 1e-5 };
            // One block, blocks that divide the vocabulary or not, and the rows that are likely.
            for (block, top_k) in [(4096, 0), (100, 0), (rows.len() / 2, 0), (rows.len() - 1, 0), (100, 7)] {
                let form = format!("soft:top_k={top_k}");
                let Found { latent, logits, .. } = found(&runtime, &path, block, &form);
                let likely = if top_k == 0 { rows.len() } else { top_k };
                let expected = mean(&probabilities(&logits, 1.0, likely), &rows);
                assert_near(&latent, &expected, tolerance, &format!("{file}, {block} rows, {form}"));
            }
        }
    }
}
