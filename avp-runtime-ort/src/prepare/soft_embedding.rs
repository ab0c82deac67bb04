//! The mean of embeddings that the model predicts, as nodes: `softmax(logits / temperature) @ E` in float32.
//!
//! Every row of `E` counts, whatever the size of the vocabulary: behind an ordinary prompt, the rows after the likeliest 4,096
//! of 49,152 still have 0.3 to 2.4 % of the probability, and a step's error grows with each further step. A float32 table is
//! multiplied where it is. A table in another format is read in blocks of [`BLOCK`] rows, so that it never lies in memory in
//! float32. Where the input `latent_rows` is below the size of the vocabulary, only so many likeliest rows are read, and their
//! probabilities are renormalized.

use super::embedding::Embedding;
use crate::{
    conventions::prepared::{LATENT_ROWS, LATENT_TEMPERATURE},
    onnx::{
        GraphProto, NodeProto, Stored, constant, float_tensor, if_node, int64_scalar, int64_tensor, node,
        tensor_proto::DataType, tensor_value,
    },
};

/// Rows that are dequantized at a time: with 1,024 columns, 16 MiB.
pub(super) const BLOCK: usize = 4096;

/// Nodes that compute `output`, `[batch, 1, hidden_size]` in float32, from the logits `product`.
pub(super) fn nodes(
    graph: &GraphProto,
    embedding: &Embedding,
    product: &str,
    block: usize,
    output: &str,
) -> Vec<NodeProto> {
    let all = if embedding.table.is_some() && embedding.elem_type == FLOAT {
        whole_table(embedding)
    } else {
        in_blocks(graph, embedding, block)
    };
    let likeliest = likeliest(graph, embedding);
    vec![
        cast(product, "avp.logits32", FLOAT),
        node("Div", "avp.temper", ["avp.logits32", LATENT_TEMPERATURE], ["avp.tempered"]),
        node("Softmax", "avp.softmax", ["avp.tempered"], [PROBABILITIES]).with_int("axis", -1),
        int64("avp.vocab_size", &[embedding.vocab_size as i64]),
        node("Less", "avp.cut", [LATENT_ROWS, "avp.vocab_size"], ["avp.cut"]),
        if_node(
            "avp.soft_sum",
            "avp.cut",
            output,
            sum_of("avp.likeliest", likeliest),
            sum_of("avp.all", all),
        ),
    ]
}

const FLOAT: i32 = DataType::Float as i32;
const PROBABILITIES: &str = "avp.probabilities";
/// The output of each branch.
const SUM: &str = "avp.sum";

/// `(Eᵀ @ pᵀ)ᵀ`. As the first factor of a product, the table is read where it is; ONNX Runtime copies a constant second factor
/// into a layout of its own, once more the size of the table.
fn whole_table(embedding: &Embedding) -> Vec<NodeProto> {
    let table = embedding.table.as_deref().unwrap_or_default();
    vec![
        int64("avp.flat.shape", &[-1, embedding.vocab_size as i64]),
        node("Reshape", "avp.flat", [PROBABILITIES, "avp.flat.shape"], ["avp.flat"]),
        transpose("avp.flat", "avp.columns"),
        node("Gemm", "avp.product", [table, "avp.columns"], ["avp.product"]).with_int("transA", 1),
        transpose("avp.product", "avp.rows"),
        int64("avp.step.axis", &[1]),
        node("Unsqueeze", "avp.sum", ["avp.rows", "avp.step.axis"], [SUM]),
    ]
}

/// The sum over blocks of rows, each read by the graph's own embedding operator.
fn in_blocks(graph: &GraphProto, embedding: &Embedding, block: usize) -> Vec<NodeProto> {
    let (rows, width) = (embedding.vocab_size as i64, embedding.hidden_size);
    let mut body = vec![
        constant("avp.block", "avp.block", int64_scalar("block", block as i64)),
        constant("avp.rows.end", "avp.rows.end", int64_scalar("rows", rows)),
        constant("avp.stride", "avp.stride", int64_scalar("stride", 1)),
        node("Mul", "avp.start", ["avp.turn", "avp.block"], ["avp.start"]),
        node("Add", "avp.next", ["avp.start", "avp.block"], ["avp.next"]),
        node("Min", "avp.end", ["avp.next", "avp.rows.end"], ["avp.end"]),
        node("Range", "avp.ids", ["avp.start", "avp.end", "avp.stride"], ["avp.ids"]),
    ];
    look_up(graph, embedding, "avp.ids", "avp.rows", &mut body);
    body.extend([
        cast("avp.rows", "avp.rows32", FLOAT),
        int64("avp.vector", &[1]),
        node("Reshape", "avp.part.start", ["avp.start", "avp.vector"], ["avp.part.start"]),
        node("Reshape", "avp.part.end", ["avp.end", "avp.vector"], ["avp.part.end"]),
        int64("avp.part.axis", &[2]),
        node(
            "Slice",
            "avp.part",
            [PROBABILITIES, "avp.part.start", "avp.part.end", "avp.part.axis"],
            ["avp.part"],
        ),
        node("MatMul", "avp.term", ["avp.part", "avp.rows32"], ["avp.term"]),
        node("Add", "avp.add", ["avp.before", "avp.term"], ["avp.after"]),
        node("Identity", "avp.go_on", ["avp.more"], ["avp.still_more"]),
    ]);
    let shape = [Err("latent_rows"), Ok(1), Ok(width as i64)];
    let body = GraphProto {
        name: Some("avp.block_of_rows".to_owned()),
        node: body,
        input: vec![
            tensor_value("avp.turn", DataType::Int64 as i32, &[]),
            tensor_value("avp.more", DataType::Bool as i32, &[]),
            tensor_value("avp.before", FLOAT, &shape),
        ],
        output: vec![
            tensor_value("avp.still_more", DataType::Bool as i32, &[]),
            tensor_value("avp.after", FLOAT, &shape),
        ],
        ..GraphProto::default()
    };
    let turns = int64_scalar("turns", rows.div_euclid(block as i64) + i64::from(rows % block as i64 > 0));
    vec![
        constant("avp.turns", "avp.turns", turns),
        constant(
            "avp.nothing",
            "avp.nothing",
            float_tensor("nothing", &[1, 1, width as i64], &vec![0.0; width]),
        ),
        node("Loop", "avp.blocks", ["avp.turns", "", "avp.nothing"], [SUM]).with_graph("body", body),
    ]
}

/// The sum over the `latent_rows` likeliest rows.
fn likeliest(graph: &GraphProto, embedding: &Embedding) -> Vec<NodeProto> {
    let mut nodes = vec![
        node("TopK", "avp.top", [PROBABILITIES, LATENT_ROWS], ["avp.top", "avp.top.ids"])
            .with_int("axis", -1)
            .with_int("sorted", 0),
        int64("avp.last_axis", &[-1]),
        node("ReduceSum", "avp.top.sum", ["avp.top", "avp.last_axis"], ["avp.top.sum"]),
        node("Div", "avp.top.weights", ["avp.top", "avp.top.sum"], ["avp.top.weights"]),
    ];
    look_up(graph, embedding, "avp.top.ids", "avp.top.rows", &mut nodes);
    nodes.extend([
        cast("avp.top.rows", "avp.top.rows32", FLOAT),
        int64("avp.top.axis", &[2]),
        node("Unsqueeze", "avp.top.row", ["avp.top.weights", "avp.top.axis"], ["avp.top.row"]),
        node("MatMul", "avp.top.product", ["avp.top.row", "avp.top.rows32"], ["avp.top.product"]),
        node("Squeeze", "avp.top.squeeze", ["avp.top.product", "avp.top.axis"], [SUM]),
    ]);
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
    nodes.extend([copy, cast("avp.quantized", "avp.integers", FLOAT), cast(scale, "avp.scale32", FLOAT)]);
    let mut integers = "avp.integers";
    if let Some(zero_point) = zero_point {
        nodes.push(cast(zero_point, "avp.zero32", FLOAT));
        nodes.push(node("Sub", "avp.centred", ["avp.integers", "avp.zero32"], ["avp.centred"]));
        integers = "avp.centred";
    }
    nodes.push(node("Mul", "avp.scaled_rows", [integers, "avp.scale32"], [output]));
}

fn sum_of(name: &str, nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        name: Some(name.to_owned()),
        node: nodes,
        output: vec![tensor_value(SUM, FLOAT, &[Err("latent_rows"), Ok(1), Err("width")])],
        ..GraphProto::default()
    }
}

fn int64(name: &str, values: &[i64]) -> NodeProto {
    constant(name, name, int64_tensor(name, values))
}

/// The rows of `input` as columns.
fn transpose(input: &str, output: &str) -> NodeProto {
    node("Transpose", &format!("{output}.transpose"), [input], [output])
}

pub(super) fn cast(input: &str, output: &str, elem_type: i32) -> NodeProto {
    node("Cast", &format!("{output}.cast"), [input], [output]).with_int("to", elem_type.into())
}
