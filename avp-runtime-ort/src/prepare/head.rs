//! Finds the language-model head by walking back from `logits`.

use super::{
    PrepareError,
    embedding::{stored_bytes, stored_matrix},
};
use crate::{
    conventions::LOGITS,
    onnx::{Blocks, Codebook, GraphIndex, NodeProto, Stored, tensor_proto::DataType},
};

/// The language-model head: the last matrix product before `logits`.
#[derive(Debug)]
pub(super) struct Head {
    /// Its position in `graph.node`.
    pub(super) position: usize,
    pub(super) node_name: String,
    pub(super) operator: String,
    /// The last hidden state, after the final norm, `[batch, seq_len, hidden_size]`.
    pub(super) hidden: String,
    /// ONNX's code of the element type of the hidden state.
    pub(super) elem_type: i32,
    /// Where the last row is sliced.
    pub(super) cut: Cut,
    /// The scaled product before a soft cap: the input of the softmax in `avp` 0.2.1.
    pub(super) product: String,
    /// The weight, as rows of `[vocab_size, hidden_size]`.
    pub(super) weight: Stored,
}

/// Where the last row is sliced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Of the head's first input, `[batch, seq_len, hidden_size]`. A head of integers reads the quantized state: its scale
    /// is that of all rows, as in the export, so that the logits do not change.
    Input(String),
    /// Of the logits: the head reads two dimensions, and the export's own shapes lead back to three.
    Logits,
}

/// # Errors
/// When the walk meets an operator that is neither element-wise nor a known matrix product. The error names it.
pub(super) fn find(index: &GraphIndex<'_>) -> Result<Head, PrepareError> {
    let mut value = LOGITS.to_owned();
    // The nodes passed so far, for heads with a scale after the product.
    let mut scaled = None;
    let mut reshaped = false;
    // More steps than any real head has, so that a cycle ends.
    for _ in 0..32 {
        let Some((position, node)) = index.producer(&value) else {
            return Err(refuse(&value, "none", "a node that produces it"));
        };
        value = match node.op_type() {
            "Cast" | "Tanh" | "Identity" | "Slice" => input(node, 0)?.to_owned(),
            "Reshape" => {
                reshaped = true;
                input(node, 0)?.to_owned()
            }
            "Mul" if integer_product(index, node).is_some() => {
                scaled = Some((value, node));
                integer_product(index, node).unwrap_or_default().to_owned()
            }
            "Add" | "Mul" | "Div" => only_variable(index, node, &[0, 1])?.to_owned(),
            "Where" => only_variable(index, node, &[1, 2])?.to_owned(),
            "MatMul" | "MatMulNBits" | "MatMulBnb4" | "MatMulInteger" | "Gemm" => {
                return head(index, position, node, value, scaled, reshaped);
            }
            operator => {
                let expected =
                    "MatMul, Gemm, MatMulNBits, MatMulBnb4 or MatMulInteger before element-wise operators";
                return Err(refuse(node.name(), operator, expected));
            }
        };
    }
    Err(refuse(&value, "cycle", "a head within 32 nodes of logits"))
}

fn head(
    index: &GraphIndex<'_>,
    position: usize,
    node: &NodeProto,
    product: String,
    scaled: Option<(String, &NodeProto)>,
    reshaped: bool,
) -> Result<Head, PrepareError> {
    let activation = input(node, 0)?;
    let (state, product, (weight, elem_type)) = match node.op_type() {
        "MatMul" => (activation, product, matrix(index, node, false)?),
        "MatMulNBits" => (activation, product, blocks(index, node)?),
        "MatMulBnb4" => (activation, product, bnb4(index, node)?),
        "Gemm" => {
            if node.int_or("transA", 0) != 0 {
                return Err(refuse(node.name(), "Gemm", "activations that are not transposed"));
            }
            (activation, product, matrix(index, node, node.int_or("transB", 0) != 0)?)
        }
        _ => {
            let (product, scale) =
                scaled.ok_or_else(|| refuse(node.name(), node.op_type(), "a scale after the product"))?;
            let weight = integers(index, node, scale)?;
            let quantize = index.producer(activation);
            let (_, quantize) =
                quantize.filter(|(_, node)| node.op_type() == "DynamicQuantizeLinear").ok_or_else(|| {
                    refuse(node.name(), node.op_type(), "activations from a DynamicQuantizeLinear")
                })?;
            (input(quantize, 0)?, product, (weight, DataType::Float as i32))
        }
    };
    // A Gemm reads two dimensions, as does a product that is reshaped afterwards: the hidden state is the input of the Reshape
    // before it, whose rows are along another axis.
    let (cut, hidden, product) = if reshaped || node.op_type() == "Gemm" {
        let flattened = index.producer(state).filter(|(_, node)| node.op_type() == "Reshape");
        let (_, flatten) = flattened
            .ok_or_else(|| refuse(node.name(), node.op_type(), "a Reshape that flattens the state"))?;
        (Cut::Logits, input(flatten, 0)?, LOGITS.to_owned())
    } else {
        (Cut::Input(activation.to_owned()), state, product)
    };
    let hidden = before_slice(index, hidden).to_owned();
    let (node_name, operator) = (node.name().to_owned(), node.op_type().to_owned());
    Ok(Head { position, node_name, operator, hidden, elem_type, cut, product, weight })
}

/// The value before the export's own slice of the last rows (`num_logits_to_keep`).
fn before_slice<'v>(index: &GraphIndex<'v>, value: &'v str) -> &'v str {
    match index.producer(value) {
        Some((_, node)) if node.op_type() == "Slice" => node.input.first().map_or(value, String::as_str),
        _ => value,
    }
}

/// A float weight `[hidden_size, vocab_size]`, or transposed if the operator transposes it.
fn matrix(index: &GraphIndex<'_>, node: &NodeProto, turned: bool) -> Result<(Stored, i32), PrepareError> {
    let stored = stored_matrix(index, input(node, 1)?);
    let (tensor, transposed) = stored.ok_or_else(|| unstored(node))?;
    // With a transpose, it has the layout of the table.
    Ok((
        Stored::Float { tensor: tensor.name().to_owned(), transposed: transposed == turned },
        tensor.data_type(),
    ))
}

fn blocks(index: &GraphIndex<'_>, node: &NodeProto) -> Result<(Stored, i32), PrepareError> {
    let stored = |position| stored_bytes(index, input(node, position)?).ok_or_else(|| unstored(node));
    let given = |position: usize| node.input.get(position).is_some_and(|name| !name.is_empty());
    if given(4) {
        return Err(refuse(node.name(), node.op_type(), "blocks in order, without a group index"));
    }
    let (data, scales) = (stored(1)?, stored(2)?);
    let blocks = Blocks {
        tensor: data.name().to_owned(),
        scales: scales.name().to_owned(),
        zero_points: if given(3) { Some(stored(3)?.name().to_owned()) } else { None },
        bits: size(node, "bits", 4)?,
        block_size: size(node, "block_size", 0)?,
        rows: size(node, "N", 0)?,
        cols: size(node, "K", 0)?,
    };
    Ok((Stored::Blocks(blocks), scales.data_type()))
}

fn bnb4(index: &GraphIndex<'_>, node: &NodeProto) -> Result<(Stored, i32), PrepareError> {
    let stored = |position| stored_bytes(index, input(node, position)?).ok_or_else(|| unstored(node));
    let (data, absmax) = (stored(1)?, stored(2)?);
    let codebook = match node.int_or("quant_type", 1) {
        0 => Codebook::Fp4,
        1 => Codebook::Nf4,
        _ => return Err(refuse(node.name(), node.op_type(), "quant_type 0 (FP4) or 1 (NF4)")),
    };
    let weight = Stored::Bnb4 {
        tensor: data.name().to_owned(),
        absmax: absmax.name().to_owned(),
        block_size: size(node, "block_size", 0)?,
        codebook,
        rows: size(node, "N", 0)?,
        cols: size(node, "K", 0)?,
    };
    Ok((weight, absmax.data_type()))
}

/// An integer weight, scaled after the product: `product * (activation scale * weight scale)`.
fn integers(index: &GraphIndex<'_>, node: &NodeProto, scale: &NodeProto) -> Result<Stored, PrepareError> {
    let (tensor, transposed) = stored_matrix(index, input(node, 1)?).ok_or_else(|| unstored(node))?;
    let scales = scale.input.iter().filter_map(|name| index.producer(name));
    let constant = scales
        .filter(|(_, node)| node.op_type() == "Mul")
        .find_map(|(_, node)| node.input.iter().find(|name| index.initializer(name).is_some()));
    let zero_point = node.input.get(3).filter(|name| !name.is_empty()).cloned();
    Ok(Stored::Linear {
        tensor: tensor.name().to_owned(),
        transposed: !transposed,
        scale: constant.ok_or_else(|| unstored(node))?.clone(),
        zero_point,
    })
}

/// The product of integers that `node` scales: `Mul(Cast(MatMulInteger), scales)`.
fn integer_product<'n>(index: &GraphIndex<'_>, node: &'n NodeProto) -> Option<&'n str> {
    node.input.iter().map(String::as_str).find(|value| {
        let cast = index.producer(value).filter(|(_, node)| node.op_type() == "Cast");
        let product = cast.and_then(|(_, node)| index.producer(node.input.first()?));
        product.is_some_and(|(_, node)| node.op_type() == "MatMulInteger")
    })
}

fn size(node: &NodeProto, attribute: &str, default: i64) -> Result<usize, PrepareError> {
    let size = usize::try_from(node.int_or(attribute, default)).ok().filter(|&size| size > 0);
    size.ok_or_else(|| refuse(node.name(), node.op_type(), "positive N, K, bits and block_size"))
}

fn unstored(node: &NodeProto) -> PrepareError {
    let expected = "a weight stored in the model, directly or behind one Transpose";
    refuse(node.name(), node.op_type(), expected)
}

fn input(node: &NodeProto, position: usize) -> Result<&str, PrepareError> {
    node.input
        .get(position)
        .map(String::as_str)
        .ok_or_else(|| refuse(node.name(), node.op_type(), "more inputs"))
}

/// The one computed input among `positions`; the others are constants, such as a bias or a cap.
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
        _ => Err(refuse(node.name(), node.op_type(), "one computed input and a constant")),
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
    fn the_head_is_found_before_a_soft_cap() {
        let graph = graph(vec![
            node("MatMul", "lm_head", ["h", "w"], ["raw"]),
            node("Div", "down", ["raw", "cap"], ["scaled"]),
            node("Tanh", "squash", ["scaled"], ["squashed"]),
            node("Mul", "up", ["squashed", "cap"], ["capped"]),
            node("Cast", "out", ["capped"], ["logits"]),
        ]);
        let head = find(&GraphIndex::new(&graph)).unwrap();
        assert_eq!((head.position, head.hidden.as_str(), head.product.as_str()), (0, "h", "raw"));
        assert_eq!(head.weight, Stored::Float { tensor: "w".into(), transposed: true });
    }

    #[test]
    fn a_flattened_state_is_sliced_after_the_head() {
        let flatten = node("Reshape", "flatten", ["h", "flat"], ["rows"]);
        let product = |input| node("MatMul", "lm_head", [input, "w"], ["flat_logits"]);
        let back = node("Reshape", "back", ["flat_logits", "shape"], ["logits"]);
        let sound = graph(vec![flatten.clone(), product("rows"), back.clone()]);
        let head = find(&GraphIndex::new(&sound)).unwrap();
        assert_eq!((head.hidden.as_str(), head.product.as_str(), head.cut), ("h", "logits", Cut::Logits));

        let normed = node("Cast", "between", ["rows"], ["cast"]);
        match find(&GraphIndex::new(&graph(vec![flatten, normed, product("cast"), back]))) {
            Err(PrepareError::Head { node, .. }) => assert_eq!(node, "lm_head"),
            _ => panic!("accepted"),
        }
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
    fn a_cyclic_graph_is_an_error() {
        let graph = graph(vec![node("Cast", "a", ["x"], ["logits"]), node("Cast", "b", ["logits"], ["x"])]);
        assert!(matches!(find(&GraphIndex::new(&graph)), Err(PrepareError::Head { .. })));
    }
}
