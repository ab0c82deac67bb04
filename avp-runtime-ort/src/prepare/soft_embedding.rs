//! The latent step of a tied model, as nodes: `softmax(logits / temperature) @ E`.
//!
//! Vocabularies of up to [`MAX_ROWS`] tokens use every row of the embedding. Larger vocabularies use only the `MAX_ROWS`
//! likeliest: the graph's own embedding operator reads their rows, in any storage format, and their probabilities are not
//! renormalized. The error is the sum of `p_i e_i` over the other tokens; its norm is at most their probability times the
//! largest row norm of the embedding. (Renormalizing would double the bound.) 4,096 rows are 3 % of a vocabulary of 151,936.

use super::embedding::Embedding;
use crate::{
    conventions::prepared::LATENT_TEMPERATURE,
    onnx::{GraphProto, NodeProto, Stored, constant, int64_tensor, node, tensor_proto::DataType},
};

/// Maximum number of embedding rows that one latent step reads.
pub(super) const MAX_ROWS: usize = 4096;

/// Nodes that compute `output`, `[batch, 1, hidden_size]`, from the logits `product`; softmax and sum in float32.
pub(super) fn nodes(
    graph: &GraphProto,
    embedding: &Embedding,
    product: &str,
    max_rows: usize,
    output: &str,
) -> Vec<NodeProto> {
    let mut nodes = vec![
        cast(product, "avp.logits32", DataType::Float as i32),
        node("Div", "avp.temper", ["avp.logits32", LATENT_TEMPERATURE], ["avp.tempered"]),
        node("Softmax", "avp.softmax", ["avp.tempered"], ["avp.probabilities"]).with_int("axis", -1),
    ];
    if embedding.vocab_size <= max_rows {
        let table = embedding.table.as_deref().unwrap_or_else(|| {
            let ids: Vec<i64> = (0..embedding.vocab_size as i64).collect();
            nodes.push(constant("avp.every_id", "avp.every_id", int64_tensor("ids", &ids)));
            look_up(graph, embedding, "avp.every_id", "avp.rows", &mut nodes);
            "avp.rows"
        });
        nodes.push(cast(table, "avp.rows32", DataType::Float as i32));
        nodes.push(node("MatMul", "avp.sum", ["avp.probabilities", "avp.rows32"], ["avp.sum"]));
    } else {
        nodes.extend([
            constant("avp.k", "avp.k", int64_tensor("k", &[max_rows as i64])),
            node("TopK", "avp.top", ["avp.probabilities", "avp.k"], ["avp.top", "avp.top_ids"])
                .with_int("axis", -1)
                .with_int("sorted", 0),
        ]);
        look_up(graph, embedding, "avp.top_ids", "avp.rows", &mut nodes);
        nodes.extend([
            cast("avp.rows", "avp.rows32", DataType::Float as i32),
            constant("avp.top.axis", "avp.top.axis", int64_tensor("axis", &[2])),
            node("Unsqueeze", "avp.weights", ["avp.top", "avp.top.axis"], ["avp.weights"]),
            node("MatMul", "avp.top_sum", ["avp.weights", "avp.rows32"], ["avp.top_sum"]),
            node("Squeeze", "avp.sum", ["avp.top_sum", "avp.top.axis"], ["avp.sum"]),
        ]);
    }
    nodes.push(cast("avp.sum", output, embedding.elem_type));
    nodes
}

/// A copy of the graph's embedding operator, for other ids.
fn look_up(graph: &GraphProto, embedding: &Embedding, ids: &str, output: &str, nodes: &mut Vec<NodeProto>) {
    let mut copy = graph.node[embedding.chain[0]].clone();
    copy.name = Some("avp.look_up".to_owned());
    ids.clone_into(&mut copy.input[1]);
    copy.output = vec![output.to_owned()];
    let Stored::Linear { scale, zero_point, .. } = &embedding.stored else {
        nodes.push(copy);
        return;
    };
    // `(q - zero_point) * scale` as nodes: ONNX Runtime 1.31 refuses a DequantizeLinear in a branch with its scale outside.
    copy.output = vec!["avp.quantized".to_owned()];
    let float = DataType::Float as i32;
    nodes.extend([copy, cast("avp.quantized", "avp.integers", float), cast(scale, "avp.scale32", float)]);
    let mut integers = "avp.integers";
    if let Some(zero_point) = zero_point {
        nodes.push(cast(zero_point, "avp.zero32", float));
        nodes.push(node("Sub", "avp.centred", ["avp.integers", "avp.zero32"], ["avp.centred"]));
        integers = "avp.centred";
    }
    nodes.push(node("Mul", "avp.scaled_rows", [integers, "avp.scale32"], [output]));
}

pub(super) fn cast(input: &str, output: &str, elem_type: i32) -> NodeProto {
    node("Cast", &format!("{output}.cast"), [input], [output]).with_int("to", elem_type.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use bytes::Bytes;
    use ort::session::Session;
    use prost::Message;

    use crate::{
        Runtime,
        conventions::prepared::NEXT_LATENT,
        kv::KvCache,
        onnx::{GraphIndex, ModelProto, Weights},
        prepare::{check::run, embedding, prepare_with},
    };

    const PROMPT: [u32; 5] = [40, 271, 3, 12, 99];

    /// The next latent with at most `max_rows` rows, and its logits.
    fn next_latent(
        runtime: &Runtime,
        file: &Path,
        max_rows: usize,
        temperature: f32,
    ) -> (Vec<f32>, Vec<f32>) {
        let mut model = ModelProto::decode(Bytes::from(fs::read(file).unwrap())).unwrap();
        let report = prepare_with(&mut model, file.parent().unwrap(), Some(16), max_rows).unwrap();
        assert!(report.tied);
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
        let mut row = |output| run(&mut session, &report, &past, &PROMPT, output, temperature).unwrap().0;
        (row(NEXT_LATENT), row("logits"))
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

    /// `softmax(logits / temperature) @ E`, computed here.
    fn expected(logits: &[f32], rows: &[Vec<f32>], temperature: f32) -> Vec<f64> {
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        let weight = |&logit: &f32| (f64::from(logit - largest) / f64::from(temperature)).exp();
        let weights: Vec<f64> = logits.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = vec![0.0; rows[0].len()];
        for (row, weight) in rows.iter().zip(weights) {
            for (sum, &value) in sum.iter_mut().zip(row) {
                *sum += weight / total * f64::from(value);
            }
        }
        sum
    }

    #[test]
    fn the_temperature_divides_the_logits() {
        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/parity/tiny-qwen2/model.onnx");
        let (_, logits) = next_latent(&runtime, &file, super::MAX_ROWS, 1.0);
        let rows = rows(&file);
        for temperature in [0.01, 0.5, 1.0, 2.0, 100.0] {
            let (found, _) = next_latent(&runtime, &file, super::MAX_ROWS, temperature);
            for (found, expected) in found.iter().zip(expected(&logits, &rows, temperature)) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{temperature}: {found}, {expected}");
            }
        }
        // At next to nothing the likeliest token's embedding alone is left.
        let likeliest = (0..logits.len()).max_by(|&one, &other| logits[one].total_cmp(&logits[other]));
        let (found, _) = next_latent(&runtime, &file, super::MAX_ROWS, 1e-6);
        assert_eq!(found, rows[likeliest.unwrap()]);
    }

    fn norm(values: impl Iterator<Item = f64>) -> f64 {
        values.map(|value| value * value).sum::<f64>().sqrt()
    }

    #[test]
    fn the_error_of_omitted_rows_stays_within_the_bound() {
        let runtime = Runtime::find().unwrap_or_else(|error| panic!("{error}"));
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors");
        // Plain, behind a transpose, in half precision, in blocks, and with one scale.
        for file in [
            "parity/tiny-qwen2/model.onnx",
            "models/genai-qwen2-fp32/model.onnx",
            "models/genai-qwen2-fp16/model.onnx",
            "models/genai-qwen2-int4/model.onnx",
            "models/community-qwen2/onnx/model_q4f16.onnx",
            "models/community-qwen2/onnx/model_uint8.onnx",
        ] {
            let path = vectors.join(file);
            let (exact, logits) = next_latent(&runtime, &path, super::MAX_ROWS, 1.0);

            let longest = rows(&path)
                .iter()
                .map(|row| norm(row.iter().map(|&value| value.into())))
                .fold(0.0_f64, f64::max);
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let mut weights: Vec<f64> =
                logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            weights.sort_by(|one, other| other.total_cmp(one));

            let mut before = f64::INFINITY;
            for max_rows in [2, 16, 64, 256] {
                let (found, _) = next_latent(&runtime, &path, max_rows, 1.0);
                let left_out = weights[max_rows..].iter().sum::<f64>() / total;
                let error = norm(exact.iter().zip(&found).map(|(one, other)| f64::from(one - other)));
                // Both vectors are rounded to the type of the latents.
                let rounding = if file.contains("16") { 2e-3 } else { 1e-6 } * longest;
                let bound = left_out * longest + rounding;
                assert!(error <= bound, "{file}, {max_rows} rows: {error} > {bound}");
                assert!(left_out < before);
                before = left_out;
            }
        }
    }
}
