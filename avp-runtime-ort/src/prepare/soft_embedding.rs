//! The latent step of a tied model, as nodes: `softmax(logits) @ E`.
//!
//! Up to [`MAX_ROWS`] tokens every row of the embedding takes part. Above, only the `MAX_ROWS` likeliest do: the graph's own
//! embedding operator reads their rows, whatever form the table has, and the sum is weighted by the probabilities as they
//! are, not scaled up to 1. What is left out is then the sum of `p_i e_i` over the other tokens, whose norm is at most their
//! probability times the longest row of the embedding. (Scaling up would double that bound.) Of a vocabulary of 151,936,
//! 4,096 rows are 3 % of the reads.

use super::embedding::Embedding;
use crate::onnx::{GraphProto, NodeProto, Stored, constant, int64_tensor, node, tensor_proto::DataType};

/// The most rows of the embedding that one latent step reads.
pub(super) const MAX_ROWS: usize = 4096;

/// Nodes that make `output`, `[batch, 1, hidden_size]`, from the logits `product`; softmax and sum in float32.
pub(super) fn nodes(
    graph: &GraphProto,
    embedding: &Embedding,
    product: &str,
    max_rows: usize,
    output: &str,
) -> Vec<NodeProto> {
    let mut nodes = vec![
        cast(product, "avp.logits32", DataType::Float as i32),
        node("Softmax", "avp.softmax", ["avp.logits32"], ["avp.probabilities"]).with_int("axis", -1),
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

/// The graph's own embedding operator once more, for other ids.
fn look_up(graph: &GraphProto, embedding: &Embedding, ids: &str, output: &str, nodes: &mut Vec<NodeProto>) {
    let mut copy = graph.node[embedding.chain[0]].clone();
    copy.name = Some("avp.look_up".to_owned());
    ids.clone_into(&mut copy.input[1]);
    copy.output = vec![output.to_owned()];
    let Stored::Linear { scale, zero_point, .. } = &embedding.stored else {
        nodes.push(copy);
        return;
    };
    // `(q - zero_point) * scale` spelled out: ONNX Runtime 1.31 refuses a DequantizeLinear in a branch whose scale lies outside.
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
