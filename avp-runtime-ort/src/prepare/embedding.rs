//! Finds the node that turns token ids into vectors.

use std::collections::HashSet;

use super::PrepareError;
use crate::{
    conventions::INPUT_IDS,
    onnx::{Blocks, GraphIndex, NodeProto, Stored, TensorProto, Weights, tensor_proto::DataType},
};

/// The token embedding of a graph.
pub(super) struct Embedding {
    /// Positions in `graph.node` of the nodes from ids to vectors: the one that reads rows and, for quantized rows, the one
    /// that dequantizes them.
    pub(super) chain: Vec<usize>,
    pub(super) node_name: String,
    pub(super) operator: String,
    /// The value of a float table `[vocab_size, hidden_size]`; `None` for quantized tables.
    pub(super) table: Option<String>,
    pub(super) stored: Stored,
    /// ONNX's code of the element type of the vectors.
    pub(super) elem_type: i32,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
}

impl Embedding {
    /// The position of the last node, which produces the vectors.
    pub(super) fn position(&self) -> usize {
        self.chain[self.chain.len() - 1]
    }
}

/// Follows `input_ids` to the one node that reads rows of a table.
///
/// Some families (Gemma) scale their embeddings after this node, and so after the latent input, as with `inputs_embeds` in
/// Transformers and `avp` 0.2.1.
///
/// # Errors
/// When there is no such node or several, or the table is not stored in the model in a supported form.
pub(super) fn find(index: &GraphIndex<'_>, weights: &Weights<'_>) -> Result<Embedding, PrepareError> {
    let (position, node) = match readers_of_ids(index)[..] {
        [one] => one,
        [] => return Err(refuse(INPUT_IDS, "a Gather that reads a table by input_ids")),
        [(_, node), ..] => return Err(refuse(node.name(), "one Gather fed by input_ids, but found several")),
    };
    let embedding = match node.op_type() {
        "GatherBlockQuantized" => block_quantized(index, weights, position, node),
        _ => gather(index, weights, position, node),
    }?;
    let last = index.node(embedding.position());
    if last.output.first().is_none_or(String::is_empty) {
        return Err(refuse(last.name(), "a node with an output"));
    }
    Ok(embedding)
}

fn gather(
    index: &GraphIndex<'_>,
    weights: &Weights<'_>,
    position: usize,
    node: &NodeProto,
) -> Result<Embedding, PrepareError> {
    if node.int_or("axis", 0) != 0 {
        return Err(refuse(node.name(), "a Gather along axis 0"));
    }
    let table = node.input.first().map(String::as_str).unwrap_or_default();
    let (tensor, transposed) = stored_matrix(index, table).ok_or_else(|| {
        refuse(node.name(), "a table stored in the model, directly or behind one Transpose")
    })?;
    let mut embedding = Embedding {
        chain: vec![position],
        node_name: node.name().to_owned(),
        operator: node.op_type().to_owned(),
        table: None,
        stored: Stored::Float { tensor: tensor.name().to_owned(), transposed },
        elem_type: tensor.data_type(),
        vocab_size: 0,
        hidden_size: 0,
    };
    let shape = if matches!(DataType::try_from(tensor.data_type()), Ok(DataType::Uint8 | DataType::Int8)) {
        let (dequantize, scale_type, scale, zero_point) = dequantizer(index, node)?;
        embedding.chain.push(dequantize);
        embedding.operator += " and DequantizeLinear";
        embedding.elem_type = scale_type;
        embedding.stored = Stored::Linear { tensor: tensor.name().to_owned(), transposed, scale, zero_point };
        let table = embedding.stored.load(index, weights)?;
        (table.rows, table.cols)
    } else {
        embedding.table = Some(table.to_owned());
        let (rows, cols) = weights.shape(tensor)?;
        if transposed { (cols, rows) } else { (rows, cols) }
    };
    (embedding.vocab_size, embedding.hidden_size) = shape;
    Ok(embedding)
}

/// The `DequantizeLinear` after a `Gather` over integers, with the type of its output, its scale and its zero point.
fn dequantizer(
    index: &GraphIndex<'_>,
    gather: &NodeProto,
) -> Result<(usize, i32, String, Option<String>), PrepareError> {
    let wrong = || refuse(gather.name(), "one DequantizeLinear with one scale behind a Gather over integers");
    let mut readers = index.consumers(gather.output.first().ok_or_else(wrong)?);
    let (Some((position, node)), None) = (readers.next(), readers.next()) else { return Err(wrong()) };
    let input = |position: usize| node.input.get(position).filter(|name| !name.is_empty());
    let scale = input(1).and_then(|name| index.initializer(name)).ok_or_else(wrong)?;
    let one_scale = scale.dims.iter().all(|&dim| dim == 1);
    if node.op_type() != "DequantizeLinear" || !one_scale {
        return Err(wrong());
    }
    Ok((position, scale.data_type(), scale.name().to_owned(), input(2).cloned()))
}

fn block_quantized(
    index: &GraphIndex<'_>,
    weights: &Weights<'_>,
    position: usize,
    node: &NodeProto,
) -> Result<Embedding, PrepareError> {
    let input = |position: usize| node.input.get(position).filter(|name| !name.is_empty());
    let stored = |position: usize| input(position).and_then(|name| stored_bytes(index, name));
    let (Some(data), Some(scales)) = (stored(0), stored(2)) else {
        return Err(refuse(node.name(), "a quantized table and its scales, stored in the model"));
    };
    weights.check_filled(data)?;
    if (node.int_or("gather_axis", 0), node.int_or("quantize_axis", 1)) != (0, 1) {
        return Err(refuse(node.name(), "rows gathered along axis 0 and quantized along axis 1"));
    }
    let size = |value: i64| usize::try_from(value).ok().filter(|&size| size > 0);
    let bits = match DataType::try_from(data.data_type()) {
        Ok(DataType::Uint8) => size(node.int_or("bits", 4)),
        _ => Some(4),
    };
    // The operator's input may be a reshape of the data with the same number of rows.
    let counts = || -> Option<(usize, usize, usize, usize)> {
        let rows = size(*data.dims.first()?)?;
        let bits = bits.filter(|bits| matches!(bits, 2 | 4 | 8))?;
        let elements = data.dims[1..].iter().try_fold(1_usize, |all, &dim| all.checked_mul(size(dim)?))?;
        let in_byte = if data.data_type() == DataType::Uint8 as i32 { 8 / bits } else { 1 };
        Some((rows, elements.checked_mul(in_byte)?, bits, size(node.int_or("block_size", 128))?))
    };
    let (rows, cols, bits, block_size) =
        counts().ok_or_else(|| refuse(node.name(), "a table of 2-, 4- or 8-bit integers in blocks"))?;
    let blocks = Blocks {
        tensor: data.name().to_owned(),
        scales: scales.name().to_owned(),
        zero_points: match input(3) {
            None => None,
            Some(_) => {
                Some(stored(3).ok_or_else(|| refuse(node.name(), "stored zero points"))?.name().into())
            }
        },
        bits,
        block_size,
        rows,
        cols,
    };
    Ok(Embedding {
        chain: vec![position],
        node_name: node.name().to_owned(),
        operator: node.op_type().to_owned(),
        table: None,
        stored: Stored::Blocks(blocks),
        elem_type: scales.data_type(),
        vocab_size: rows,
        hidden_size: cols,
    })
}

/// The initializer that `value` copies, and whether it is transposed.
pub(super) fn stored_matrix<'g>(index: &GraphIndex<'g>, value: &str) -> Option<(&'g TensorProto, bool)> {
    behind(index, value, |node| match node.op_type() {
        "Identity" => Some(false),
        "Transpose" if matches!(node.ints("perm"), None | Some([1, 0])) => Some(true),
        _ => None,
    })
}

/// The initializer that `value` reads through operators that do not change its bytes.
pub(super) fn stored_bytes<'g>(index: &GraphIndex<'g>, value: &str) -> Option<&'g TensorProto> {
    behind(index, value, |node| matches!(node.op_type(), "Identity" | "Reshape").then_some(false))
        .map(|(tensor, _)| tensor)
}

/// Walks up through the nodes that `turns` accepts; returns whether an odd number of them transpose the value.
fn behind<'g>(
    index: &GraphIndex<'g>,
    value: &str,
    turns: impl Fn(&NodeProto) -> Option<bool>,
) -> Option<(&'g TensorProto, bool)> {
    let mut value = value.to_owned();
    let mut transposed = false;
    // Limits the walk, because the graph may have a cycle; a table is at most a few nodes away.
    for _ in 0..8 {
        if let Some(tensor) = index.initializer(&value) {
            return Some((tensor, transposed));
        }
        let (_, node) = index.producer(&value)?;
        transposed ^= turns(node)?;
        value = node.input.first()?.clone();
    }
    None
}

/// Every node that reads rows by `input_ids`, directly or through operators that do not change the ids.
fn readers_of_ids<'g>(index: &GraphIndex<'g>) -> Vec<(usize, &'g NodeProto)> {
    let mut readers: Vec<(usize, &NodeProto)> = Vec::new();
    // Each value is followed once: an untrusted graph may have cycles, or many paths to one value.
    let mut seen = HashSet::from([INPUT_IDS]);
    let mut ahead = vec![INPUT_IDS];
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
        let stored = |tensor: &str, transposed| Stored::Float { tensor: tensor.to_owned(), transposed };
        assert_eq!((direct.vocab_size, direct.hidden_size), (3, 2));
        assert_eq!(direct.stored, stored("table", false));
        let turned = find_in(vec![
            node("Transpose", "turn", ["turned"], ["t"]),
            node("Gather", "embed", ["t", "input_ids"], ["x"]),
        ])
        .unwrap();
        assert_eq!((turned.vocab_size, turned.hidden_size), (3, 2));
        assert_eq!(turned.stored, stored("turned", true));
        assert_eq!((turned.table.as_deref(), turned.position()), (Some("t"), 1));
    }

    #[test]
    fn ids_are_followed_through_casts_but_not_through_shapes() {
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
    fn a_cycle_of_ids_or_tables_is_an_error() {
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
