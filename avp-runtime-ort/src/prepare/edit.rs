//! The edit: the nodes, inputs and outputs that preparing adds.

use super::{
    PrepareError,
    embedding::Embedding,
    head::{Cut, Head},
    latent::LatentStep,
    next_latent,
};
use crate::{
    conventions::{
        LOGITS,
        prepared::{
            LAST_HIDDEN, LATENT_EMBEDS, LATENT_HIDDEN, LATENT_MASK, LATENT_RESCALE, LATENT_ROWS, LATENT_STEP,
            LATENT_TEMPERATURE, NEXT_LATENT,
        },
    },
    onnx::{
        GraphProto, NodeProto, constant, int64_tensor, node, set_dim, tensor_proto::DataType, tensor_value,
    },
};

/// # Errors
/// When the graph already has a value with the name of an added one.
pub(super) fn check_names_are_free(graph: &GraphProto) -> Result<(), PrepareError> {
    let added = [
        LATENT_MASK,
        LATENT_EMBEDS,
        LATENT_STEP,
        LATENT_TEMPERATURE,
        LATENT_ROWS,
        LATENT_HIDDEN,
        LATENT_RESCALE,
        NEXT_LATENT,
    ];
    let inputs = graph.input.iter().map(|value| value.name());
    let initializers = graph.initializer.iter().map(|tensor| tensor.name());
    let outputs = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    for value in outputs.chain(inputs).chain(initializers) {
        let taken = added.into_iter().find(|&name| name == value);
        if let Some(name) = taken.or_else(|| value.starts_with(PREFIX).then_some(PREFIX)) {
            return Err(PrepareError::NameTaken { name });
        }
    }
    Ok(())
}

/// Prefix of the names of all other added values.
const PREFIX: &str = "avp.";

/// Adds the latent inputs and outputs. Nodes are inserted after the producers of their inputs, from last to first, so that
/// positions found before the edit stay valid.
pub(super) fn apply(
    graph: &mut GraphProto,
    embedding: &Embedding,
    head: &Head,
    step: &LatentStep,
    block: usize,
) {
    next_latent::add(graph, embedding, head, step, block);
    keep_last_row(graph, head);
    add_latent_input(graph, embedding);

    let any = Err("latent_length");
    let hidden_size = Ok(embedding.hidden_size as i64);
    let mask = tensor_value(LATENT_MASK, DataType::Bool as i32, &[Err("latent_batch"), any, Ok(1)]);
    let embeds = tensor_value(LATENT_EMBEDS, embedding.elem_type, &[Err("latent_batch"), any, hidden_size]);
    graph.input.extend([mask, embeds]);
    let numbers = [
        (LATENT_STEP, DataType::Bool),
        (LATENT_TEMPERATURE, DataType::Float),
        (LATENT_ROWS, DataType::Int64),
        (LATENT_HIDDEN, DataType::Float),
        (LATENT_RESCALE, DataType::Bool),
    ];
    graph.input.extend(numbers.map(|(name, elem_type)| tensor_value(name, elem_type as i32, &[Ok(1)])));

    let one_row = [Err("batch_size"), Ok(1), hidden_size];
    graph.output.push(tensor_value(LAST_HIDDEN, head.elem_type, &one_row));
    graph.output.push(tensor_value(NEXT_LATENT, embedding.elem_type, &one_row));
}

/// The last row as the head reads it: quantized if the head is.
const LAST_INPUT: &str = "avp.last_input";
/// The logits of all rows, if the head needs all rows.
const ALL_LOGITS: &str = "avp.all_logits";

/// Renames the output of the embedding and gives its old name to a `Where`, which all consumers then read.
fn add_latent_input(graph: &mut GraphProto, embedding: &Embedding) {
    let position = embedding.position();
    let embedded = std::mem::replace(&mut graph.node[position].output[0], "avp.embedded".to_owned());
    let select =
        node("Where", "avp.select_latent", [LATENT_MASK, LATENT_EMBEDS, "avp.embedded"], [embedded.as_str()]);
    graph.node.insert(position + 1, select);
}

/// Passes only the last row to the head, and makes the last row of the hidden states an output.
fn keep_last_row(graph: &mut GraphProto, head: &Head) {
    let mut added = vec![
        constant("avp.last.start", "avp.last.start", int64_tensor("start", &[-1])),
        constant("avp.last.end", "avp.last.end", int64_tensor("end", &[i64::MAX])),
        constant("avp.last.axis", "avp.last.axis", int64_tensor("axis", &[1])),
        last_row(&head.hidden, LAST_HIDDEN),
    ];
    match &head.cut {
        Cut::Input(input) => {
            added.push(last_row(input, LAST_INPUT));
            graph.node[head.position].input[0] = LAST_INPUT.to_owned();
        }
        Cut::Logits => {
            let outputs = graph.node.iter_mut().flat_map(|node| &mut node.output);
            for output in outputs.filter(|output| *output == LOGITS) {
                ALL_LOGITS.clone_into(output);
            }
            // The latent step, which reads the logits, is now the last node.
            let end = graph.node.len().saturating_sub(1);
            graph.node.insert(end, last_row(ALL_LOGITS, LOGITS));
        }
    }
    graph.node.splice(head.position..head.position, added);
    if let Some(logits) = graph.output.iter_mut().find(|output| output.name() == LOGITS) {
        set_dim(logits, 1, 1);
    }
    // The exporter's shapes of values after the head are no longer valid.
    graph.value_info.clear();
}

fn last_row(input: &str, output: &str) -> NodeProto {
    let inputs = [input, "avp.last.start", "avp.last.end", "avp.last.axis"];
    node("Slice", &format!("{output}.slice"), inputs, [output])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::float_tensor;

    #[test]
    fn a_graph_with_an_added_name_is_refused() {
        let free = GraphProto {
            node: vec![node("Identity", "copy", ["x"], ["y"])],
            initializer: vec![float_tensor("x", &[1], &[0.0])],
            input: vec![tensor_value("z", DataType::Float as i32, &[])],
            ..GraphProto::default()
        };
        assert_eq!(check_names_are_free(&free), Ok(()));
        for (name, reported) in [(LATENT_MASK, LATENT_MASK), ("avp.realignment", PREFIX)] {
            let mut output = free.clone();
            output.node[0].output[0] = name.to_owned();
            let mut initializer = free.clone();
            initializer.initializer[0].name = Some(name.to_owned());
            let mut input = free.clone();
            input.input[0].name = Some(name.to_owned());
            for graph in [output, initializer, input] {
                assert_eq!(check_names_are_free(&graph), Err(PrepareError::NameTaken { name: reported }));
            }
        }
    }
}
