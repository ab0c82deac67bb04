//! Walks back from `logits` to the node that makes them.

use super::PrepareError;
use crate::onnx::{GraphIndex, NodeProto};

/// The language-model head: the last matrix product before `logits`.
pub(super) struct Head {
    /// Its place in `graph.node`.
    pub(super) position: usize,
    pub(super) node_name: String,
    /// The activation it reads: the last hidden state, after the final norm, `[batch, seq_len, hidden_size]`.
    pub(super) hidden: String,
    /// The weight it multiplies with, `[hidden_size, vocab_size]`.
    pub(super) weight: String,
}

/// # Errors
/// When the walk meets an operator that is neither element-wise nor a known matrix product; it is named.
pub(super) fn find(index: &GraphIndex<'_>) -> Result<Head, PrepareError> {
    let mut value = "logits".to_owned();
    // More steps than any real head has; a cycle ends here instead of nowhere.
    for _ in 0..32 {
        let Some((position, node)) = index.producer(&value) else {
            return Err(refuse(&value, "none", "a node that makes it"));
        };
        value = match node.op_type() {
            "Cast" | "Tanh" | "Identity" => input(node, 0)?.to_owned(),
            "Add" | "Mul" | "Div" => only_variable(index, node, &[0, 1])?.to_owned(),
            "Where" => only_variable(index, node, &[1, 2])?.to_owned(),
            "MatMul" => {
                return Ok(Head {
                    position,
                    node_name: node.name().to_owned(),
                    hidden: input(node, 0)?.to_owned(),
                    weight: input(node, 1)?.to_owned(),
                });
            }
            operator => return Err(refuse(node.name(), operator, "a MatMul behind element-wise operators")),
        };
    }
    Err(refuse(&value, "cycle", "a head within 32 nodes of logits"))
}

fn input(node: &NodeProto, position: usize) -> Result<&str, PrepareError> {
    node.input
        .get(position)
        .map(String::as_str)
        .ok_or_else(|| refuse(node.name(), node.op_type(), "more inputs"))
}

/// The one input among `positions` that is computed; the others are constants such as a bias or a cap.
fn only_variable<'n>(
    index: &GraphIndex<'_>,
    node: &'n NodeProto,
    positions: &[usize],
) -> Result<&'n str, PrepareError> {
    let mut variable = positions
        .iter()
        .filter_map(|&position| node.input.get(position))
        .filter(|value| !index.is_constant(value));
    match (variable.next(), variable.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(refuse(node.name(), node.op_type(), "one computed input beside a constant")),
    }
}

fn refuse(node: &str, operator: &str, expected: &'static str) -> PrepareError {
    PrepareError::Head { node: node.to_owned(), operator: operator.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{GraphProto, float_tensor, node};

    fn graph(nodes: Vec<NodeProto>) -> GraphProto {
        GraphProto {
            node: nodes,
            initializer: vec![float_tensor("w", &[2, 3], &[0.; 6]), float_tensor("cap", &[1], &[30.])],
            ..GraphProto::default()
        }
    }

    #[test]
    fn the_walk_passes_a_soft_cap_to_the_matrix_product() {
        let graph = graph(vec![
            node("MatMul", "lm_head", ["h", "w"], ["raw"]),
            node("Div", "down", ["raw", "cap"], ["scaled"]),
            node("Tanh", "squash", ["scaled"], ["squashed"]),
            node("Mul", "up", ["squashed", "cap"], ["capped"]),
            node("Cast", "out", ["capped"], ["logits"]),
        ]);
        let head = find(&GraphIndex::new(&graph)).unwrap();
        assert_eq!((head.position, head.hidden.as_str(), head.weight.as_str()), (0, "h", "w"));
    }

    #[test]
    fn an_unknown_operator_is_refused_by_name() {
        let graph = graph(vec![node("Conv", "conv_head", ["h", "w"], ["logits"])]);
        match find(&GraphIndex::new(&graph)) {
            Err(PrepareError::Head { node, operator, .. }) => {
                assert_eq!((&*node, &*operator), ("conv_head", "Conv"))
            }
            _ => panic!("accepted"),
        }
    }

    #[test]
    fn a_cyclic_graph_ends_in_an_error() {
        let graph = graph(vec![node("Cast", "a", ["x"], ["logits"]), node("Cast", "b", ["logits"], ["x"])]);
        assert!(matches!(find(&GraphIndex::new(&graph)), Err(PrepareError::Head { .. })));
    }
}
