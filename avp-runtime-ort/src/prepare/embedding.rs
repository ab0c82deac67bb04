//! Finds the node that turns token ids into vectors.

use std::collections::HashSet;

use super::PrepareError;
use crate::onnx::{GraphIndex, Matrix, NodeProto, Weights};

/// The token embedding of a graph.
pub(super) struct Embedding {
    /// The `Gather`'s place in `graph.node`.
    pub(super) position: usize,
    pub(super) node_name: String,
    /// The value that holds the table as `[vocab_size, hidden_size]`.
    pub(super) table: String,
    /// The initializer the table comes from, and whether it lies transposed there.
    pub(super) initializer: String,
    pub(super) transposed: bool,
    /// ONNX's number for the element type.
    pub(super) elem_type: i32,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
}

/// Follows `input_ids` to the one `Gather` that reads rows of a table by them.
///
/// # Errors
/// When there is none, there are several, or the table is no float matrix stored in the model.
pub(super) fn find(index: &GraphIndex<'_>, weights: &Weights<'_>) -> Result<Embedding, PrepareError> {
    let (position, node) = match readers_of_ids(index)[..] {
        [one] => one,
        [] => return Err(refuse("input_ids", "a Gather that reads a table by input_ids")),
        [(_, node), ..] => return Err(refuse(node.name(), "one Gather fed by input_ids, but found several")),
    };
    if node.op_type() != "Gather" {
        return Err(refuse(node.name(), "a Gather over a float table"));
    }
    if node.int_or("axis", 0) != 0 {
        return Err(refuse(node.name(), "a Gather along axis 0"));
    }
    let table = node.input.first().map(String::as_str).unwrap_or_default();
    let (tensor, transposed) = stored_matrix(index, table).ok_or_else(|| {
        refuse(node.name(), "a table stored in the model, directly or behind one Transpose")
    })?;
    let shape = weights.shape(tensor)?;
    let (vocab_size, hidden_size) = if transposed { (shape.1, shape.0) } else { shape };
    Ok(Embedding {
        position,
        node_name: node.name().to_owned(),
        table: table.to_owned(),
        initializer: tensor.name().to_owned(),
        transposed,
        elem_type: tensor.data_type(),
        vocab_size,
        hidden_size,
    })
}

/// The initializer behind `value`, through copies, and whether a `Transpose` lies between.
pub(super) fn stored_matrix<'g>(
    index: &GraphIndex<'g>,
    value: &str,
) -> Option<(&'g crate::onnx::TensorProto, bool)> {
    let mut value = value.to_owned();
    let mut transposed = false;
    // A cyclic graph would keep this walk going for ever; a table is never more than a few nodes away.
    for _ in 0..8 {
        if let Some(tensor) = index.initializer(&value) {
            return Some((tensor, transposed));
        }
        let (_, node) = index.producer(&value)?;
        match node.op_type() {
            "Identity" => {}
            "Transpose" if matches!(node.ints("perm"), None | Some([1, 0])) => transposed = !transposed,
            _ => return None,
        }
        value = node.input.first()?.clone();
    }
    None
}

/// The table as it is stored.
pub(super) fn read_table(
    index: &GraphIndex<'_>,
    weights: &Weights<'_>,
    embedding: &Embedding,
) -> Result<Matrix, PrepareError> {
    let tensor = index
        .initializer(&embedding.initializer)
        .ok_or_else(|| refuse(&embedding.node_name, "a table stored in the model"))?;
    weights.matrix(tensor)
}

/// Every node that reads rows by `input_ids`, directly or through operators that leave ids what they are.
fn readers_of_ids<'g>(index: &GraphIndex<'g>) -> Vec<(usize, &'g NodeProto)> {
    let mut readers: Vec<(usize, &NodeProto)> = Vec::new();
    // Each value is followed once: a hostile graph may lead in circles, or to one value by very many ways.
    let mut seen = HashSet::from(["input_ids"]);
    let mut ahead = vec!["input_ids"];
    while let Some(value) = ahead.pop() {
        for (position, node) in index.consumers(value) {
            let reads_rows_by_it = node.input.get(1).is_some_and(|input| input == value);
            match node.op_type() {
                "Gather" | "GatherBlockQuantized"
                    if reads_rows_by_it && !readers.iter().any(|&(known, _)| known == position) =>
                {
                    readers.push((position, node));
                }
                "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" => {
                    ahead
                        .extend(node.output.iter().map(String::as_str).filter(|output| seen.insert(*output)));
                }
                _ => {}
            }
        }
    }
    readers
}

fn refuse(node: &str, expected: &'static str) -> PrepareError {
    PrepareError::Embedding { node: format!("{node:?}"), expected }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::onnx::{GraphProto, float_tensor, node};

    fn find_in(nodes: Vec<NodeProto>) -> Result<Embedding, PrepareError> {
        let graph = GraphProto {
            node: nodes,
            initializer: vec![
                float_tensor("table", &[3, 2], &[0.; 6]),
                float_tensor("turned", &[2, 3], &[0.; 6]),
            ],
            ..GraphProto::default()
        };
        find(&GraphIndex::new(&graph), &Weights::new(Path::new(".")))
    }

    #[test]
    fn the_table_is_found_directly_and_behind_a_transpose() {
        let direct = find_in(vec![node("Gather", "embed", ["table", "input_ids"], ["x"])]).unwrap();
        assert_eq!((direct.vocab_size, direct.hidden_size, direct.transposed), (3, 2, false));
        let turned = find_in(vec![
            node("Transpose", "turn", ["turned"], ["t"]),
            node("Gather", "embed", ["t", "input_ids"], ["x"]),
        ])
        .unwrap();
        assert_eq!((turned.vocab_size, turned.hidden_size, turned.transposed), (3, 2, true));
        assert_eq!((&*turned.table, turned.position), ("t", 1));
    }

    #[test]
    fn ids_are_followed_through_casts_but_shapes_of_them_are_not() {
        let found = find_in(vec![
            node("Shape", "shape", ["input_ids"], ["s"]),
            node("Gather", "length", ["s", "one"], ["l"]),
            node("Cast", "cast", ["input_ids"], ["ids"]),
            node("Gather", "embed", ["table", "ids"], ["x"]),
        ]);
        assert_eq!(found.unwrap().node_name, "embed");
    }

    #[test]
    fn two_embeddings_or_another_operator_are_refused() {
        let two = find_in(vec![
            node("Gather", "one", ["table", "input_ids"], ["x"]),
            node("Gather", "two", ["table", "input_ids"], ["y"]),
        ]);
        assert!(matches!(two, Err(PrepareError::Embedding { .. })));
        let quantized = find_in(vec![node("GatherBlockQuantized", "q", ["table", "input_ids", "s"], ["x"])]);
        assert!(matches!(quantized, Err(PrepareError::Embedding { node, .. }) if node == "\"q\""));
        let columns = find_in(vec![node("Gather", "g", ["table", "input_ids"], ["x"]).with_int("axis", 1)]);
        assert!(matches!(columns, Err(PrepareError::Embedding { .. })));
    }

    #[test]
    fn a_circle_of_ids_or_tables_ends_in_an_error() {
        let circle = find_in(vec![
            node("Identity", "a", ["t"], ["t"]),
            node("Gather", "embed", ["t", "input_ids"], ["x"]),
        ]);
        assert!(matches!(circle, Err(PrepareError::Embedding { .. })));
        let circle = find_in(vec![node("Cast", "a", ["input_ids"], ["b"]), node("Cast", "b", ["b"], ["b"])]);
        assert!(matches!(circle, Err(PrepareError::Embedding { .. })));
        let many_ways = (0..1000).map(|_| node("Cast", "again", ["input_ids"], ["input_ids"])).collect();
        assert!(matches!(find_in(many_ways), Err(PrepareError::Embedding { .. })));
    }
}
